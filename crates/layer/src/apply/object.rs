//! What entries stand for: files, directories, links and nodes, made in the layer's directory.

use crate::error::LayerError;
use crate::place::{self, Attributes};
use crate::tar::reader::TarReader;
use crate::tar::{Entry, Kind};
use crate::tree::{Directory, as_path, clean, split};
use crate::whiteout::LINK_DIRECTORY;

use super::Unpacker;

impl Unpacker<'_> {
    /// Makes what an entry stands for.
    pub(super) fn object(
        &mut self,
        reader: &mut TarReader<'_, '_>,
        entry: &Entry,
        path: &[u8],
    ) -> Result<(), LayerError> {
        let (parent, name) = split(path);
        let directory = self.parent(entry, parent)?;
        if !self.pending_targets.is_empty() {
            self.pending_targets.remove(&directory.child(name));
        }
        let attributes = self.placing.attributes(entry)?;
        match entry.kind {
            Kind::File => self.file(reader, entry, &directory, name, &attributes, false),
            Kind::Directory => self.directory(entry, &directory, name, attributes),
            Kind::HardLink => self.hard_link(entry, &directory, name, &attributes),
            Kind::CharDevice | Kind::BlockDevice if self.options.skip_devices => {
                self.check.refuse();
                Ok(())
            }
            kind => {
                if kind == Kind::CharDevice && (entry.major, entry.minor) == (0, 0) {
                    self.check.refuse();
                }
                let failed = |error| LayerError::entry(&entry.name, error);
                self.create(entry, &directory, name, |directory, name| {
                    place::make_node(directory, name, entry)
                })?;
                self.placing
                    .set(
                        &directory.root,
                        as_path(name),
                        &attributes,
                        kind == Kind::Symlink,
                    )
                    .map_err(failed)
            }
        }
    }

    fn file(
        &mut self,
        reader: &mut TarReader<'_, '_>,
        entry: &Entry,
        directory: &Directory,
        name: &[u8],
        attributes: &Attributes,
        into_recipe: bool,
    ) -> Result<(), LayerError> {
        let mut file = self.create(entry, directory, name, |directory, name| {
            directory.create_new_raw(name, entry.mode)
        })?;
        let mut result = Ok(());
        let recipe = &mut self.recipe;
        place::write_content(reader, entry, &mut file, as_path(name), |piece| {
            if into_recipe && result.is_ok() {
                result = recipe.raw(piece);
            }
        })?;
        result?;
        if !into_recipe {
            let path = directory.child(name);
            match &entry.sparse {
                None => self.recipe.content(&path, 0, entry.size_bytes),
                Some(regions) => {
                    for region in regions {
                        self.recipe.content(&path, region.offset, region.length);
                    }
                }
            }
            self.size_bytes += entry.size_bytes;
        }
        self.placing
            .set_on_file(&file, as_path(name), attributes, entry.mode)
            .map_err(|error| LayerError::entry(&entry.name, error))
    }

    fn directory(
        &mut self,
        entry: &Entry,
        directory: &Directory,
        name: &[u8],
        attributes: Attributes,
    ) -> Result<(), LayerError> {
        let failed = |error| LayerError::entry(&entry.name, error);
        let path = directory.child(name);
        let mut opaque = false;
        match directory.root.mkdir(as_path(name), 0o700) {
            Err(error) if error.is_already_exists() => {
                self.check.refuse();
                let found = directory.root.lstat(as_path(name)).map_err(failed)?;
                if !found.is_dir() {
                    // What was there hid a lower directory of this name, and it stays hidden.
                    opaque = true;
                    self.make_room(entry, directory, name)?;
                    directory.root.mkdir(as_path(name), 0o700).map_err(failed)?;
                }
            }
            result => result.map_err(failed)?,
        }
        let state = self.directories.entry(path).or_default();
        state.attributes = Some(attributes);
        state.opaque |= opaque;
        Ok(())
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        directory: &Directory,
        name: &[u8],
        attributes: &Attributes,
    ) -> Result<(), LayerError> {
        let refused = |reason: &str| Err(LayerError::invalid(&entry.name, reason));
        let failed = |error| LayerError::entry(&entry.name, error);
        let Some(mut target) = clean(&entry.link) else {
            return refused("its link target leads out of the layer");
        };
        let path = directory.child(name);
        if target == path || target.is_empty() {
            return refused("it is a hard link to itself or to the top directory");
        }
        if directory
            .root
            .lstat_optional(as_path(name))
            .map_err(failed)?
            .is_some()
        {
            self.make_room(entry, directory, name)?;
        }
        self.check.link(&path, &target);
        if target != entry.link {
            self.check.refuse();
        }
        let (target_parent, target_name) = split(&target);
        let found = match self.tree.find(target_parent, &entry.name)? {
            None => None,
            Some(target_directory) => {
                let real = target_directory.child(target_name);
                if real != target {
                    self.check.refuse();
                }
                let found = target_directory
                    .root
                    .lstat_optional(as_path(target_name))
                    .map_err(failed)?;
                target = real;
                found.map(|found| (target_directory, found))
            }
        };
        let Some((target_directory, found)) = found else {
            self.check.refuse();
            if self.is_hidden(&target) {
                return refused("its link target does not exist");
            }
            if let Some(first) = self.pending_targets.get(&target) {
                target = first.clone();
            }
            self.pending.push(path.clone());
            self.pending_targets.insert(path, target);
            return Ok(());
        };
        if found.is_dir() {
            return refused("its link target is a directory");
        }
        if found.is_whiteout() {
            return refused("its link target does not exist");
        }
        target_directory
            .root
            .hard_link_to(as_path(split(&target).1), &directory.root, as_path(name))
            .map_err(failed)?;
        if place::matches(&found, attributes) {
            return Ok(());
        }
        self.check.refuse();
        self.placing
            .set(
                &directory.root,
                as_path(name),
                attributes,
                found.is_symlink(),
            )
            .map_err(failed)
    }

    /// Says whether an opaque directory of this layer hides a path in lower layers.
    fn is_hidden(&self, path: &[u8]) -> bool {
        let is_opaque = |path: &[u8]| self.directories.get(path).is_some_and(|state| state.opaque);
        let mut above = split(path).0;
        loop {
            if is_opaque(above) {
                return true;
            }
            if above.is_empty() {
                return false;
            }
            above = split(above).0;
        }
    }

    /// Unpacks a file of AUFS' link directory, which hard links may name; it is removed at the end.
    pub(super) fn link_target(
        &mut self,
        reader: &mut TarReader<'_, '_>,
        entry: &Entry,
        path: &[u8],
    ) -> Result<(), LayerError> {
        self.check.refuse();
        if entry.kind != Kind::File {
            return Ok(());
        }
        self.has_link_directory = true;
        let directory = self.tree.find_or_make(LINK_DIRECTORY, &entry.name)?;
        // The directory is no part of the layer.
        self.tree.take_implied();
        let attributes = self.placing.attributes(entry)?;
        self.file(reader, entry, &directory, split(path).1, &attributes, true)
    }
}
