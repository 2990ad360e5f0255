//! Archives, read and made by the tests' own means: what `save` writes, and what nobody should be sent.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// An archive that `save` wrote, in memory, by file name.
pub struct SavedImages {
    files: BTreeMap<String, Vec<u8>>,
}

impl SavedImages {
    /// Reads an archive.
    pub fn read(path: &Path) -> Self {
        let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.header().entry_type().is_file() {
                let name = entry.path().unwrap().to_string_lossy().into_owned();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                files.insert(name, content);
            }
        }
        Self { files }
    }

    /// Checks that every image is whole: its config has the ID that the manifest says, and each layer is
    /// what its DiffID says. Returns the images' IDs by name.
    pub fn verify(&self) -> BTreeMap<String, String> {
        let mut images = BTreeMap::new();
        let manifest: serde_json::Value = self.json("manifest.json");
        for image in manifest.as_array().unwrap() {
            let config_name = image["Config"].as_str().unwrap();
            let id = hex(&self.files[config_name]);
            assert!(config_name.contains(&id), "{config_name} has digest {id}");
            let config = self.json(config_name);
            let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
            let layers = image["Layers"].as_array().unwrap();
            assert_eq!(diff_ids.len(), layers.len(), "{config_name}");
            for (diff_id, layer) in diff_ids.iter().zip(layers) {
                let content = &self.files[layer.as_str().unwrap()];
                assert_eq!(
                    diff_id.as_str().unwrap(),
                    format!("sha256:{}", hex(content)),
                    "a layer of {config_name} is not what its name says"
                );
            }
            for tag in image["RepoTags"].as_array().into_iter().flatten() {
                images.insert(tag.as_str().unwrap().to_owned(), format!("sha256:{id}"));
            }
        }
        images
    }

    /// Lists the names of a layer's entries, sorted.
    pub fn entries_of_layer(&self, diff_id: &str) -> Vec<String> {
        let wanted = diff_id.trim_start_matches("sha256:");
        let content = self
            .files
            .iter()
            .find(|(name, content)| name.contains(wanted) || hex(content) == wanted)
            .map(|(_, content)| content)
            .unwrap();
        let mut archive = tar::Archive::new(content.as_slice());
        let mut names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| String::from_utf8_lossy(&entry.unwrap().path_bytes()).into_owned())
            .collect();
        names.sort();
        names
    }

    fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&self.files[name]).unwrap()
    }
}

/// Returns the SHA-256 of some bytes in hexadecimal.
pub fn hex(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// One entry of a tar that no sane program would write.
pub enum Entry<'a> {
    File(&'a str, &'a str),
    Directory(&'a str),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
}

/// Writes a tar with the names just as they are given.
pub fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let (kind, name, link, content) = match *entry {
            Entry::File(name, content) => (tar::EntryType::Regular, name, "", content),
            Entry::Directory(name) => (tar::EntryType::Directory, name, "", ""),
            Entry::Symlink(name, link) => (tar::EntryType::Symlink, name, link, ""),
            Entry::Hardlink(name, link) => (tar::EntryType::Link, name, link, ""),
        };
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_mtime(0);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Wraps layers as an archive for `load`, the image named `name`.
pub fn image_archive(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", hex(layer)))
        .collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let names: Vec<String> = (0..layers.len())
        .map(|n| format!("{n}/layer.tar"))
        .collect();
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": [name], "Layers": names}
    ])
    .to_string();
    let mut builder = tar::Builder::new(Vec::new());
    let mut append = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_mtime(0);
        builder.append_data(&mut header, name, content).unwrap();
    };
    append("config.json", config.as_bytes());
    for (name, layer) in names.iter().zip(layers) {
        append(name, layer);
    }
    append("manifest.json", manifest.as_bytes());
    builder.into_inner().unwrap()
}
