//! Listing and describing images (spec image-store §3, §8).

use crate::clock::parse_rfc3339;
use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::filters::{self, values};
use crate::model::request::{Filters, ListImages};
use crate::model::view::{HistoryLine, ImageDetails, ImageSummary};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use wharf_image::{ImageId, Reference};
use wharf_store::Image;

impl Engine {
    /// Lists images, newest first.
    ///
    /// # Errors
    /// Unknown filters; a `before` or `since` image that is not there.
    pub async fn list_images(self: &Arc<Self>, request: &ListImages) -> Result<Vec<ImageSummary>> {
        let request = request.clone();
        self.with_store(move |engine| engine.list_images_blocking(&request))
            .await
    }

    pub(crate) fn list_images_blocking(&self, request: &ListImages) -> Result<Vec<ImageSummary>> {
        filters::allow(
            &request.filters,
            &[
                "before",
                "since",
                "dangling",
                "label",
                "label!",
                "reference",
                "until",
            ],
        )?;
        let mut images = self
            .store
            .images()
            .map_err(store_error("cannot read images"))?;
        images.sort_by(|a, b| {
            b.created_unix_ns
                .cmp(&a.created_unix_ns)
                .then_with(|| a.id.cmp(&b.id))
        });
        let names = self.names_by_image()?;
        let parents: HashSet<ImageId> = images.iter().filter_map(|image| image.parent).collect();
        let chosen = ChosenImages::new(self, &request.filters)?;
        let shared = if request.shared_size {
            self.shared_sizes(&images)?
        } else {
            HashMap::new()
        };
        let mut list = Vec::new();
        for image in &images {
            let own_names = names.get(&image.id).map_or(&[][..], Vec::as_slice);
            let has_tag = own_names.iter().any(|name| name.tag().is_some());
            let dangling = !has_tag && !parents.contains(&image.id);
            let intermediate = own_names.is_empty() && parents.contains(&image.id);
            if (intermediate && !request.all) || !chosen.accepts(image, own_names, dangling) {
                continue;
            }
            let shown: Vec<Reference> = own_names
                .iter()
                .filter(|name| chosen.shows(name))
                .cloned()
                .collect();
            let mut summary = self.summary(image, &shown);
            summary.shared_size_bytes = request
                .shared_size
                .then(|| shared.get(&image.id).copied().unwrap_or(0));
            list.push(summary);
        }
        Ok(list)
    }

    fn names_by_image(&self) -> Result<HashMap<ImageId, Vec<Reference>>> {
        let mut map: HashMap<ImageId, Vec<Reference>> = HashMap::new();
        for (name, id) in self
            .store
            .names()
            .map_err(store_error("cannot read image names"))?
        {
            map.entry(id).or_default().push(name);
        }
        Ok(map)
    }

    fn summary(&self, image: &Image, names: &[Reference]) -> ImageSummary {
        let familiar = |with_tag: bool| {
            let mut list: Vec<String> = names
                .iter()
                .filter(|name| name.tag().is_some() == with_tag)
                .map(Reference::familiar)
                .collect();
            list.sort();
            list
        };
        ImageSummary {
            id: image.id,
            parent: image.parent,
            repo_tags: familiar(true),
            repo_digests: familiar(false),
            created_at_s: image.created_unix_ns.div_euclid(1_000_000_000),
            size_bytes: image.size_bytes,
            shared_size_bytes: None,
            labels: image
                .config
                .config
                .as_ref()
                .map(|config| config.labels.clone())
                .unwrap_or_default(),
            containers: self.containers.using_image(&image.id).len(),
        }
    }

    /// Returns how many bytes of each image lie in layers that other images have too.
    fn shared_sizes(&self, images: &[Image]) -> Result<HashMap<ImageId, u64>> {
        let mut users: HashMap<&wharf_image::DiffId, usize> = HashMap::new();
        for image in images {
            for diff_id in image.config.rootfs.diff_ids.iter().collect::<HashSet<_>>() {
                *users.entry(diff_id).or_default() += 1;
            }
        }
        let mut shared = HashMap::new();
        for image in images {
            let mut bytes = 0;
            for diff_id in image
                .config
                .rootfs
                .diff_ids
                .iter()
                .filter(|diff_id| users.get(diff_id).is_some_and(|count| *count > 1))
            {
                bytes += self
                    .store
                    .layer(diff_id)
                    .map_err(store_error("cannot read layers"))?
                    .map_or(0, |layer| layer.size_bytes);
            }
            shared.insert(image.id, bytes);
        }
        Ok(shared)
    }

    /// Describes one image.
    ///
    /// # Errors
    /// Docker's `No such image`.
    pub async fn image(self: &Arc<Self>, name: &str) -> Result<ImageDetails> {
        let name = name.to_owned();
        self.with_store(move |engine| {
            let image = engine.find_image(&name)?;
            let names = engine
                .store
                .names_of(&image.id)
                .map_err(store_error("cannot read image names"))?;
            let diff_ids = &image.config.rootfs.diff_ids;
            let mut layer_sizes_bytes = Vec::with_capacity(diff_ids.len());
            for diff_id in diff_ids {
                let layer = engine
                    .store
                    .layer(diff_id)
                    .map_err(store_error("cannot read layers"))?;
                layer_sizes_bytes.push(layer.map_or(0, |layer| layer.size_bytes));
            }
            Ok(ImageDetails {
                summary: engine.summary(&image, &names),
                last_tag_time_ns: image.last_tag_unix_ns.unwrap_or(0),
                manifest_digest: image.manifest.as_ref().map(|descriptor| descriptor.digest),
                layer_dirs: engine
                    .layer_dirs(diff_ids)?
                    .iter()
                    .map(|dir| dir.to_string_lossy().into_owned())
                    .collect(),
                layer_sizes_bytes,
                config: image.config,
            })
        })
        .await
    }

    /// Tells how an image came to be, newest step first.
    ///
    /// # Errors
    /// Docker's `No such image`.
    pub async fn image_history(self: &Arc<Self>, name: &str) -> Result<Vec<HistoryLine>> {
        let details = self.image(name).await?;
        let mut sizes = details.layer_sizes_bytes.iter();
        let mut lines: Vec<HistoryLine> = details
            .config
            .history
            .iter()
            .map(|entry| HistoryLine {
                id: None,
                created_at_s: entry
                    .created
                    .as_deref()
                    .map_or(0, parse_rfc3339)
                    .div_euclid(1_000_000_000),
                created_by: entry.created_by.clone().unwrap_or_default(),
                tags: Vec::new(),
                size_bytes: if entry.empty_layer {
                    0
                } else {
                    sizes.next().copied().unwrap_or(0)
                },
                comment: entry.comment.clone().unwrap_or_default(),
            })
            .collect();
        lines.reverse();
        let engine = Arc::clone(self);
        self.with_store(move |_| {
            engine.name_history(&details, &mut lines)?;
            Ok(lines)
        })
        .await
    }

    /// Puts the IDs and names of the image and its recorded ancestors on their history lines.
    fn name_history(&self, details: &ImageDetails, lines: &mut [HistoryLine]) -> Result<()> {
        let mut next = Some((details.summary.id, details.summary.parent));
        while let Some((id, parent)) = next {
            let length = match self
                .store
                .image(&id)
                .map_err(store_error("cannot read images"))?
            {
                Some(image) => image.config.history.len(),
                None if id == details.summary.id => lines.len(),
                None => break,
            };
            if let Some(line) = lines
                .len()
                .checked_sub(length)
                .and_then(|at| lines.get_mut(at))
            {
                let names = self
                    .store
                    .names_of(&id)
                    .map_err(store_error("cannot read image names"))?;
                line.id = Some(id);
                line.tags = names
                    .iter()
                    .filter(|name| name.tag().is_some())
                    .map(Reference::familiar)
                    .collect();
            }
            next = match parent {
                Some(parent) => {
                    let image = self
                        .store
                        .image(&parent)
                        .map_err(store_error("cannot read images"))?;
                    image.map(|image| (image.id, image.parent))
                }
                None => None,
            };
        }
        Ok(())
    }
}

/// The filters of one list or prune call, resolved.
struct ChosenImages<'a> {
    filters: &'a Filters,
    before_ns: Option<i64>,
    since_ns: Option<i64>,
    until_ns: Option<i64>,
    dangling: Option<bool>,
}

impl<'a> ChosenImages<'a> {
    fn new(engine: &Engine, filters: &'a Filters) -> Result<Self> {
        let created = |key: &str| match values(filters, key) {
            [] => Ok(None),
            [name, ..] => engine
                .find_image(name)
                .map(|image| Some(image.created_unix_ns)),
        };
        for pattern in values(filters, "reference") {
            wharf_image::Reference::parse("x")
                .and_then(|reference| reference.familiar_match(pattern))
                .map_err(|e| {
                    EngineError::invalid(format!("invalid filter 'reference={pattern}': {e}"))
                })?;
        }
        Ok(Self {
            before_ns: created("before")?,
            since_ns: created("since")?,
            until_ns: filters::until_ns(filters)?,
            dangling: filters::flag(filters, "dangling")?,
            filters,
        })
    }

    /// Tells whether a name is shown: with a `reference` filter only those that match it are.
    fn shows(&self, name: &Reference) -> bool {
        let patterns = values(self.filters, "reference");
        patterns.is_empty()
            || patterns
                .iter()
                .any(|pattern| name.familiar_match(pattern).unwrap_or(false))
    }

    fn accepts(&self, image: &Image, names: &[Reference], dangling: bool) -> bool {
        let none = BTreeMap::new();
        let labels = image
            .config
            .config
            .as_ref()
            .map_or(&none, |config| &config.labels);
        let patterns = values(self.filters, "reference");
        let name_matches = || {
            names.iter().any(|name| {
                patterns
                    .iter()
                    .any(|pattern| name.familiar_match(pattern).unwrap_or(false))
            })
        };
        self.dangling.is_none_or(|wanted| wanted == dangling)
            && self
                .before_ns
                .is_none_or(|before| image.created_unix_ns < before)
            && self
                .since_ns
                .is_none_or(|since| image.created_unix_ns > since)
            && self
                .until_ns
                .is_none_or(|until| image.created_unix_ns < until)
            && (patterns.is_empty() || name_matches())
            && filters::labels_match(self.filters, labels)
    }
}
