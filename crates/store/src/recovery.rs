//! What opening repairs: what a crash left between directories and rows, and what a power cut took.

use std::collections::{BTreeSet, HashSet};
use std::io;

use rusqlite::Transaction;
use wharf_image::{DiffId, Digest, ImageId, Reference};
use wharf_safefs::trusted;

use crate::cache::delete_record;
use crate::db::{Durability, digest_column};
use crate::error::Result;
use crate::image_rows::image_candidates;
use crate::layout::VOLUME_FILES;
use crate::store::{Store, now_unix_ns};
use crate::sweep::{Candidates, SweepReport};
use crate::volumes::{LOCAL_DRIVER, Volume};
use crate::worker::Job;

/// The boot in which the root was last opened; unsealed data of another boot may never have reached the disk.
const BOOT_SETTING: &str = "store.boot-id";

/// What [`Store::open`](crate::Store::open) found and repaired.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// Whether the machine was booted since the root was last opened.
    pub booted: bool,
    /// Unsealed layers and blobs that were read again after a boot and are whole.
    pub verified: u64,
    /// Layers whose files were lost or damaged; their rows are gone.
    pub lost_layers: Vec<DiffId>,
    /// Images that needed something lost, with the names that pointed at them; pull or build them again.
    pub lost_images: Vec<(ImageId, Vec<Reference>)>,
    /// Build cache records that needed something lost.
    pub lost_cache_records: u64,
    /// Containers that stand on a lost layer: kept, but they cannot be started.
    pub damaged_containers: Vec<String>,
    /// Containers and volumes whose directory was gone; it was made anew, empty.
    pub emptied: Vec<String>,
    /// Volumes that had files but no row; the row was made anew.
    pub adopted_volumes: Vec<String>,
    /// Files and directories that had no row.
    pub removed_orphans: u64,
    /// What nothing owned.
    pub swept: SweepReport,
}

/// Layers and blobs whose rows must go.
#[derive(Debug, Default)]
struct Losses {
    layers: BTreeSet<DiffId>,
    blobs: BTreeSet<Digest>,
}

impl Store {
    pub(crate) fn recover(&self, boot_id: &str) -> Result<OpenReport> {
        let mut report = OpenReport::default();
        self.empty_temporary()?;
        let last_boot = self.setting(BOOT_SETTING)?;
        report.booted = last_boot.as_deref().is_some_and(|last| last != boot_id);
        let mut losses = Losses::default();
        self.reconcile_layers(&mut report, &mut losses)?;
        self.reconcile_blobs(&mut report, &mut losses)?;
        if report.booted {
            self.verify_unsealed(&mut report, &mut losses)?;
            self.drop_variants()?;
        }
        self.drop_losses(&losses, &mut report)?;
        if report.booted {
            self.seal(|_| Ok(()))?;
        }
        self.reconcile_containers(&mut report)?;
        self.reconcile_volumes(&mut report)?;
        report.swept = self.sweep()?;
        if last_boot.as_deref() != Some(boot_id) {
            self.set_setting(BOOT_SETTING, boot_id)?;
        }
        Ok(report)
    }

    fn empty_temporary(&self) -> Result<()> {
        let directory = self.inner.layout.temporary();
        for entry in trusted::read_dir_sorted(&directory)? {
            self.inner
                .worker
                .submit(Job::Remove(directory.join(entry.name)));
        }
        Ok(())
    }

    fn reconcile_layers(&self, report: &mut OpenReport, losses: &mut Losses) -> Result<()> {
        let (layers, variants) = self.inner.database.read("list layers", |connection| {
            let mut layers = connection.prepare("SELECT number, diff_id FROM layers")?;
            let mut variants = connection.prepare("SELECT number FROM variants")?;
            let layers: Vec<(i64, DiffId)> = layers
                .query_map([], |row| Ok((row.get(0)?, digest_column(row, 1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let variants: Vec<i64> = variants
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            Ok((layers, variants))
        })?;
        let directory = self.inner.layout.layers();
        let mut found = HashSet::new();
        let known: HashSet<String> = layers
            .iter()
            .map(|(number, _)| number)
            .chain(&variants)
            .map(i64::to_string)
            .collect();
        for entry in trusted::read_dir_sorted(&directory)? {
            let name = entry.name.to_string_lossy().into_owned();
            if known.contains(&name) {
                found.insert(name);
            } else {
                report.removed_orphans += 1;
                self.inner.discard(&directory.join(entry.name))?;
            }
        }
        losses.layers.extend(
            layers
                .iter()
                .filter(|(number, _)| !found.contains(&number.to_string()))
                .map(|(_, diff_id)| *diff_id),
        );
        let gone: Vec<i64> = variants
            .into_iter()
            .filter(|number| !found.contains(&number.to_string()))
            .collect();
        self.delete_variant_rows(&gone)
    }

    fn reconcile_blobs(&self, report: &mut OpenReport, losses: &mut Losses) -> Result<()> {
        let mut known: HashSet<Digest> = self.inner.database.read("list blobs", |connection| {
            let mut statement = connection.prepare("SELECT digest FROM blobs")?;
            Ok(statement
                .query_map([], |row| digest_column(row, 0))?
                .collect::<rusqlite::Result<_>>()?)
        })?;
        let directory = self.inner.layout.blobs();
        for entry in trusted::read_dir_sorted(&directory)? {
            let digest = entry
                .name
                .to_str()
                .and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            if !digest.is_some_and(|digest| known.remove(&digest)) {
                report.removed_orphans += 1;
                self.inner.discard(&directory.join(entry.name))?;
            }
        }
        // What is left has a row and no file.
        losses.blobs.extend(known);
        Ok(())
    }

    /// Reads again what was not sealed when the machine went down (design invariant 2).
    fn verify_unsealed(&self, report: &mut OpenReport, losses: &mut Losses) -> Result<()> {
        let (layers, blobs) = self
            .inner
            .database
            .read("list unsealed layers", |connection| {
                let list = |sql: &str| -> Result<Vec<Digest>> {
                    let mut statement = connection.prepare(sql)?;
                    Ok(statement
                        .query_map([], |row| digest_column(row, 0))?
                        .collect::<rusqlite::Result<_>>()?)
                };
                let layers = list("SELECT diff_id FROM layers WHERE sealed = 0")?;
                Ok((layers, list("SELECT digest FROM blobs WHERE sealed = 0")?))
            })?;
        for diff_id in layers {
            if losses.layers.contains(&diff_id) {
                continue;
            }
            match self.write_layer_tar(&diff_id, &mut io::sink()) {
                Ok(_) => report.verified += 1,
                Err(_) => drop(losses.layers.insert(diff_id)),
            }
        }
        for digest in blobs {
            if losses.blobs.contains(&digest) {
                continue;
            }
            match self.verify_blob(&digest) {
                Ok(true) => report.verified += 1,
                Ok(false) | Err(_) => drop(losses.blobs.insert(digest)),
            }
        }
        Ok(())
    }

    /// Variants can be made again from their layers; those of another boot are not worth verifying.
    fn drop_variants(&self) -> Result<()> {
        let numbers: Vec<i64> = self
            .inner
            .database
            .read("list layer variants", |connection| {
                let mut statement = connection.prepare("SELECT number FROM variants")?;
                Ok(statement
                    .query_map([], |row| row.get(0))?
                    .collect::<rusqlite::Result<_>>()?)
            })?;
        self.delete_variant_rows(&numbers)?;
        numbers
            .iter()
            .try_for_each(|number| self.inner.discard(&self.inner.layout.layer(*number)))
    }

    fn delete_variant_rows(&self, numbers: &[i64]) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        self.inner
            .database
            .write(Durability::Process, "drop layer variants", |transaction| {
                let mut statement =
                    transaction.prepare_cached("DELETE FROM variants WHERE number = ?1")?;
                for number in numbers {
                    statement.execute([number])?;
                }
                Ok(())
            })
    }

    /// Drops the rows of what is lost, and of images and cache records that need it.
    fn drop_losses(&self, losses: &Losses, report: &mut OpenReport) -> Result<()> {
        report.lost_layers = losses.layers.iter().copied().collect();
        if losses.layers.is_empty() && losses.blobs.is_empty() {
            return Ok(());
        }
        self.collect("drop what was lost", |transaction| {
            let mut candidates = Candidates::default();
            // On a full disk this runs a second time.
            report.lost_images.clear();
            report.lost_cache_records = 0;
            for image in dependents(transaction, losses, IMAGES_OF_LAYER, IMAGES_OF_BLOB)? {
                let lost = drop_image(transaction, &image, &mut candidates)?;
                report.lost_images.push((image, lost));
            }
            for key in dependents(transaction, losses, RECORDS_OF_LAYER, RECORDS_OF_BLOB)? {
                delete_record(transaction, &key, &mut candidates)?;
                report.lost_cache_records += 1;
            }
            report.damaged_containers = drop_lost_rows(transaction, losses)?;
            Ok((candidates, ()))
        })?;
        for digest in &losses.blobs {
            self.inner.discard(&self.inner.layout.blob(digest))?;
        }
        // The directories of lost layers have no row any more.
        let mut ignored = Losses::default();
        self.reconcile_layers(&mut OpenReport::default(), &mut ignored)
    }

    fn reconcile_containers(&self, report: &mut OpenReport) -> Result<()> {
        let mut known = self.texts("SELECT id FROM containers")?;
        let directory = self.inner.layout.containers();
        for entry in trusted::read_dir_sorted(&directory)? {
            if !entry.name.to_str().is_some_and(|name| known.remove(name)) {
                report.removed_orphans += 1;
                self.inner.discard(&directory.join(entry.name))?;
            }
        }
        for id in known {
            self.make_container_directory(&directory.join(&id))?;
            report.emptied.push(format!("container {id}"));
        }
        Ok(())
    }

    /// A volume's files are the user's: they are never removed for want of a row.
    fn reconcile_volumes(&self, report: &mut OpenReport) -> Result<()> {
        let mut known = self.texts("SELECT name FROM volumes")?;
        let directory = self.inner.layout.volumes();
        for entry in trusted::read_dir_sorted(&directory)? {
            let Some(name) = entry.name.to_str() else {
                continue;
            };
            if known.remove(name) {
                continue;
            }
            let files = directory.join(name).join(VOLUME_FILES);
            if !trusted::exists(&files)? || trusted::read_dir_sorted(&files)?.is_empty() {
                report.removed_orphans += 1;
                self.inner.discard(&directory.join(name))?;
            } else {
                self.insert_volume(&adopted_volume(name))?;
                report.adopted_volumes.push(name.to_owned());
            }
        }
        for name in known {
            self.make_volume_directory(&name)?;
            report.emptied.push(format!("volume {name}"));
        }
        Ok(())
    }

    fn texts(&self, sql: &str) -> Result<BTreeSet<String>> {
        self.inner
            .database
            .read("list containers and volumes", |connection| {
                let mut statement = connection.prepare(sql)?;
                Ok(statement
                    .query_map([], |row| row.get(0))?
                    .collect::<rusqlite::Result<_>>()?)
            })
    }
}

const IMAGES_OF_LAYER: &str = "SELECT image_id FROM image_layers WHERE diff_id = ?1";
const IMAGES_OF_BLOB: &str = "SELECT id FROM images WHERE id = ?1
    UNION SELECT image_id FROM image_documents WHERE digest = ?1";
const RECORDS_OF_LAYER: &str = "SELECT key FROM cache_layers WHERE diff_id = ?1";
const RECORDS_OF_BLOB: &str = "SELECT key FROM cache_records WHERE config_digest = ?1";

fn adopted_volume(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        driver: LOCAL_DRIVER.to_owned(),
        labels: Default::default(),
        options: Default::default(),
        anonymous: false,
        created_unix_ns: now_unix_ns(),
    }
}

/// Returns the owners of anything lost.
fn dependents(
    transaction: &Transaction<'_>,
    losses: &Losses,
    of_layer: &str,
    of_blob: &str,
) -> Result<BTreeSet<Digest>> {
    let mut owners = BTreeSet::new();
    for (sql, lost) in [(of_layer, &losses.layers), (of_blob, &losses.blobs)] {
        let mut statement = transaction.prepare(sql)?;
        for digest in lost {
            for owner in statement.query_map([digest.to_string()], |row| digest_column(row, 0))? {
                owners.insert(owner?);
            }
        }
    }
    Ok(owners)
}

/// Deletes an image and its names; returns the names.
fn drop_image(
    transaction: &Transaction<'_>,
    id: &ImageId,
    candidates: &mut Candidates,
) -> Result<Vec<Reference>> {
    let id_text = id.to_string();
    let owned = image_candidates(transaction, id)?;
    candidates.layers.extend(owned.layers);
    candidates.blobs.extend(owned.blobs);
    let mut statement =
        transaction.prepare("DELETE FROM names WHERE image_id = ?1 RETURNING reference")?;
    let names = statement.query_map([&id_text], |row| crate::db::reference_column(row, 0))?;
    let names = names.collect::<rusqlite::Result<_>>()?;
    transaction.execute(
        "UPDATE images SET parent = NULL WHERE parent = ?1",
        [&id_text],
    )?;
    transaction.execute("DELETE FROM images WHERE id = ?1", [&id_text])?;
    Ok(names)
}

/// Deletes the rows of lost layers and blobs; returns the containers that stand on such a layer.
fn drop_lost_rows(transaction: &Transaction<'_>, losses: &Losses) -> Result<Vec<String>> {
    let mut containers: BTreeSet<String> = BTreeSet::new();
    let mut of_layer =
        transaction.prepare("SELECT container_id FROM container_layers WHERE diff_id = ?1")?;
    for diff_id in &losses.layers {
        for id in of_layer.query_map([diff_id.to_string()], |row| row.get(0))? {
            containers.insert(id?);
        }
        transaction.execute(
            "DELETE FROM layers WHERE diff_id = ?1",
            [diff_id.to_string()],
        )?;
    }
    if !losses.layers.is_empty() {
        // What they had in common with others counts for those now.
        transaction.execute(
            "UPDATE layers SET disk_bytes = NULL WHERE family IS NOT NULL",
            [],
        )?;
    }
    for digest in &losses.blobs {
        transaction.execute("DELETE FROM blobs WHERE digest = ?1", [digest.to_string()])?;
    }
    Ok(containers.into_iter().collect())
}
