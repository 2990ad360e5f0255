//! Images in directories of the OCI image layout (OCI image-spec, image-layout), read in place for one build.

use super::archive_contents::{Contents, Entry, blob};
use super::archive_format::{MAX_DOCUMENT_BYTES, NAME_ANNOTATION};
use crate::container::create::{fs_error, store_error};
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use std::path::Path;
use wharf_image::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform};
use wharf_safefs::{Caller, OpenFlags, Root};
use wharf_store::Lease;

/// The tag that is meant where neither tag nor digest is given.
const DEFAULT_TAG: &str = "latest";
const INDEX: &str = "index.json";

/// An image of a layout; its layers are in the store as long as the lease.
pub(crate) struct LayoutImage {
    /// Digest of its config.
    pub id: Digest,
    /// Digest of the manifest or index that was asked for.
    pub digest: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Keeps the layers.
    pub lease: Lease,
}

/// A layout, opened with the rights of whoever asks.
struct Layout<'a> {
    root: Root,
    shown: &'a str,
    caller: Option<&'a Caller>,
}

impl Engine {
    /// Takes an image out of a layout: `DIRECTORY@sha256:…` or `DIRECTORY:TAG`.
    ///
    /// # Errors
    /// Directories that the caller cannot read or that are no layout, images that are not in it or broken.
    pub(crate) fn layout_image(
        &self,
        name: &str,
        platform: &Platform,
        caller: Option<&Caller>,
    ) -> Result<LayoutImage> {
        let (directory, wanted) = Wanted::parse(name)?;
        let layout = Layout::open(directory, caller)?;
        let (digest, manifest) = layout.find(&wanted, platform)?;
        let config = layout.document(&manifest.config.digest)?;
        let mut contents = Contents::default();
        let entry = Entry::of_manifest(&manifest);
        for layer in &manifest.layers {
            let path = blob(&layer.digest);
            let read = || layout.blob(&layer.digest);
            self.take_blob(&mut contents, path, read)?;
        }
        let diff_ids = contents.check(&entry, &config, None)?;
        let lease = self
            .store
            .lease("oci-layout")
            .map_err(store_error("cannot hold layers"))?;
        self.publish_layers(&mut contents, &entry, &diff_ids, &lease)?;
        let parsed = ImageConfig::parse(&config).map_err(|error| {
            EngineError::wrap(ErrorKind::Invalid, format!("{name}: the config"), error)
        })?;
        Ok(LayoutImage {
            id: Digest::of(&config),
            digest,
            config: parsed,
            lease,
        })
    }
}

/// Which image of a layout.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Digest(Digest),
    Tag(String),
}

impl Wanted {
    /// Splits a name into the directory and the image.
    fn parse(name: &str) -> Result<(&str, Self)> {
        if let Some((directory, digest)) = name.split_once('@') {
            let digest = digest.parse().map_err(|error| {
                EngineError::invalid(format!("build context oci-layout://{name}: {error}"))
            })?;
            return Ok((directory, Self::Digest(digest)));
        }
        let (directory, tag) = match name.rsplit_once(':') {
            Some((directory, tag)) if !tag.contains('/') => (directory, tag),
            _ => (name, DEFAULT_TAG),
        };
        Ok((directory, Self::Tag(tag.to_owned())))
    }
}

impl<'a> Layout<'a> {
    fn open(directory: &'a str, caller: Option<&'a Caller>) -> Result<Self> {
        let _assumed = caller
            .map(Caller::assume)
            .transpose()
            .map_err(fs_error("cannot read with the rights of the caller"))?;
        let root = Root::open(Path::new(directory)).map_err(fs_error("cannot open the layout"))?;
        Ok(Self {
            root,
            shown: directory,
            caller,
        })
    }

    /// Opens a blob with the caller's rights.
    fn blob(&self, digest: &Digest) -> Result<std::fs::File> {
        let _assumed = self
            .caller
            .map(Caller::assume)
            .transpose()
            .map_err(fs_error("cannot read with the rights of the caller"))?;
        self.root
            .open_file(blob(digest), OpenFlags::RDONLY)
            .map_err(fs_error("cannot read the layout"))
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let _assumed = self
            .caller
            .map(Caller::assume)
            .transpose()
            .map_err(fs_error("cannot read with the rights of the caller"))?;
        self.root
            .read(path, MAX_DOCUMENT_BYTES)
            .map_err(fs_error("cannot read the layout"))
    }

    /// Reads a document and checks that it is the one that its name says.
    fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let bytes = self.read(&blob(digest))?;
        let found = Digest::of(&bytes);
        if found == *digest {
            return Ok(bytes);
        }
        Err(EngineError::invalid(format!(
            "oci-layout {}: {} holds {found}",
            self.shown,
            blob(digest)
        )))
    }

    fn wrong(&self, what: &str) -> EngineError {
        EngineError::invalid(format!("oci-layout {}: {what}", self.shown))
    }

    fn index(&self, bytes: &[u8]) -> Result<Index> {
        serde_json::from_slice(bytes).map_err(|error| {
            let what = format!("oci-layout {}: cannot read an index", self.shown);
            EngineError::wrap(ErrorKind::Invalid, what, error)
        })
    }

    /// Finds the manifest for a platform, and the digest of what was asked for.
    fn find(&self, wanted: &Wanted, platform: &Platform) -> Result<(Digest, Manifest)> {
        let top = self.index(&self.read(INDEX)?)?;
        let digest = match wanted {
            Wanted::Digest(digest) => *digest,
            Wanted::Tag(tag) => {
                let named = |descriptor: &&Descriptor| {
                    descriptor.annotations.get(NAME_ANNOTATION) == Some(tag)
                };
                match top.manifests.iter().find(named) {
                    Some(descriptor) => descriptor.digest,
                    None => return Err(self.wrong(&format!("it has no image with the tag {tag}"))),
                }
            }
        };
        let mut document = self.document(&digest)?;
        if let Ok(index) = serde_json::from_slice::<Index>(&document)
            && !index.manifests.is_empty()
        {
            let fitting = index.manifests.iter().filter_map(|manifest| {
                Some((platform.rank(manifest.platform.as_ref()?)?, manifest))
            });
            let Some((_, manifest)) = fitting.min_by_key(|(rank, _)| *rank) else {
                return Err(self.wrong(&format!("it has no image for {platform}")));
            };
            document = self.document(&manifest.digest)?;
        }
        let manifest = serde_json::from_slice(&document).map_err(|error| {
            let what = format!("oci-layout {}: cannot read a manifest", self.shown);
            EngineError::wrap(ErrorKind::Invalid, what, error)
        })?;
        Ok((digest, manifest))
    }
}

#[cfg(test)]
mod tests {
    use super::Wanted;
    use wharf_image::Digest;

    #[test]
    fn names_of_images_in_layouts() {
        let digest = Digest::of("x");
        for (name, directory, wanted) in [
            ("/a/b", "/a/b", Wanted::Tag("latest".to_owned())),
            ("/a/b:v1", "/a/b", Wanted::Tag("v1".to_owned())),
            ("/a:1/b", "/a:1/b", Wanted::Tag("latest".to_owned())),
            (&format!("/a/b@{digest}"), "/a/b", Wanted::Digest(digest)),
        ] {
            let (found, image) = Wanted::parse(name).unwrap();
            assert_eq!((found, image), (directory, wanted), "{name}");
        }
        assert!(Wanted::parse("/a@sha256:1").is_err());
    }
}
