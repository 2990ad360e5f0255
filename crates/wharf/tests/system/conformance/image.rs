//! Images as text: config, history and every layer's entries, without what differs from run to run.

use super::case::DEFAULT_SECONDS;
use crate::archives::hex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

/// Digits of digests that are shown.
const DIGEST_DIGITS: usize = 16;
/// Comment of the frontend's history entries; shown only where it is another.
const COMMENT: &str = "buildkit.dockerfile.v0";
/// What of a tar header differs from run to run: the time and the checksum.
const TIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
/// The directory of the files that engines mount for names.
const TOUCHED: &str = "etc/";
/// Whiteouts have a mode and a time of the engine's choice.
const MODE: std::ops::Range<usize> = 100..108;

/// Renders the image of an archive that `save` wrote. `base` is the DiffID of the base image's layer, which
/// is named instead of shown; times from `now_seconds` on are shown as `now`.
pub fn render(archive: &Path, base: &str, now_seconds: u64) -> String {
    let files = read(archive);
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let image = &manifest[0];
    let config = &files[image["Config"].as_str().unwrap()];
    let layers = image["Layers"].as_array().unwrap().iter();
    let layers: Vec<&[u8]> = layers
        .map(|layer| files[layer.as_str().unwrap()].as_slice())
        .collect();
    render_image(config, &layers, base, now_seconds)
}

/// Renders the image of an archive in the layout of OCI (`type=oci`) with the kinds of its documents.
pub fn render_layout(archive: &Path, base: &str, now_seconds: u64) -> String {
    let files = read(archive);
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        files[&format!("blobs/{}", digest.replace(':', "/"))].as_slice()
    };
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let layout: Value = serde_json::from_slice(&files["oci-layout"]).unwrap();
    let mut text = format!("layout {layout}\n");
    let mut describe = |what: &str, descriptor: &Value| {
        let mut annotations = descriptor["annotations"].clone();
        if let Some(fields) = annotations.as_object_mut() {
            fields.remove("org.opencontainers.image.created");
            if fields.is_empty() {
                annotations = Value::Null;
            }
        }
        let kind = descriptor["mediaType"].as_str().unwrap_or("none");
        let _ = writeln!(text, "  {what} {kind} {}", sorted(&annotations));
    };
    describe("index", &index);
    let found = index["manifests"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{index}");
    describe("manifest", &found[0]);
    let manifest: Value = serde_json::from_slice(blob(&found[0])).unwrap();
    describe("config", &manifest["config"]);
    let layers = manifest["layers"].as_array().unwrap();
    for layer in layers {
        describe("layer", layer);
    }
    let layers: Vec<&[u8]> = layers.iter().map(blob).collect();
    text + &render_image(blob(&manifest["config"]), &layers, base, now_seconds)
}

/// Renders an image of its config and layers.
fn render_image(config: &[u8], content: &[&[u8]], base: &str, now_seconds: u64) -> String {
    let config: Value = serde_json::from_slice(config).unwrap();
    let (mut shown, mut layers) = (Vec::new(), String::new());
    for (number, layer) in content.iter().enumerate() {
        let text = if config["rootfs"]["diff_ids"][number] == base {
            "busybox\n".to_owned()
        } else {
            render_layer(&plain(layer), now_seconds)
        };
        shown.push(!text.is_empty());
        if !text.is_empty() {
            let _ = write!(layers, "layer {text}");
        }
    }
    let mut text = String::new();
    render_config(&config, &mut text);
    render_history(&config, &shown, &mut text);
    text + &layers
}

/// Renders the files that a build wrote instead of an image: a tar, or a directory.
pub fn render_files(path: &Path, now_seconds: u64) -> String {
    let content = if path.is_dir() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.follow_symlinks(false);
        builder.append_dir_all("", path).unwrap();
        builder.into_inner().unwrap()
    } else {
        std::fs::read(path).unwrap()
    };
    let (mut entries, _) = entries(&content);
    entries.retain(|entry| !matches!(entry.path.as_str(), "" | "./"));
    // A directory has no order of its own.
    entries.sort_by(|left, right| left.path.cmp(&right.path));
    let mut text = "files\n".to_owned();
    for entry in &entries {
        entry.render(now_seconds, &mut text);
    }
    text
}

/// Decompresses a layer that was saved with gzip.
fn plain(content: &[u8]) -> Vec<u8> {
    if !content.starts_with(&[0x1f, 0x8b]) {
        return content.to_vec();
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(content)
        .read_to_end(&mut plain)
        .unwrap();
    plain
}

fn read(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(std::fs::File::open(archive).unwrap());
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(name, content);
    }
    files
}

fn render_config(config: &Value, text: &mut String) {
    text.push_str("config\n");
    for key in ["author", "os", "variant"] {
        if let Some(value) = config.get(key) {
            let _ = writeln!(text, "  {key} {value}");
        }
    }
    let fields: BTreeMap<&String, &Value> =
        config["config"].as_object().into_iter().flatten().collect();
    for (key, value) in fields {
        let _ = writeln!(text, "  {key} {}", sorted(value));
    }
}

/// Sorts the keys of objects.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            Value::Object(
                fields
                    .into_iter()
                    .map(|(key, value)| (key.clone(), sorted(value)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

/// Renders the history; `shown` says for each layer whether there is anything in it. A step that changed nothing is
/// `empty` whether or not the engine made a layer for it.
fn render_history(config: &Value, shown: &[bool], text: &mut String) {
    text.push_str("history\n");
    let mut layers = shown.iter();
    for entry in config["history"].as_array().into_iter().flatten() {
        let is_empty = entry["empty_layer"] == true || !layers.next().copied().unwrap_or(true);
        let kind = if is_empty { "empty" } else { "layer" };
        let by = entry["created_by"].as_str().unwrap_or_default();
        let _ = write!(
            text,
            "  {kind} {}",
            by.replace('\n', "\\n").replace('\r', "\\r")
        );
        match entry["comment"].as_str() {
            Some(COMMENT) => {}
            other => {
                let _ = write!(text, " # comment: {}", other.unwrap_or("none"));
            }
        }
        if let Some(author) = entry["author"].as_str() {
            let _ = write!(text, " # author: {author}");
        }
        text.push('\n');
    }
    assert!(
        layers.next().is_none(),
        "more layers than history: {config}"
    );
}

/// One entry of a layer's tar.
struct Entry {
    path: String,
    header: tar::Header,
    /// The header's block and what stands before it in blocks of its own, without what differs from run to run.
    blocks: Vec<u8>,
    link: String,
    xattrs: String,
    content: Vec<u8>,
}

impl Entry {
    fn is_whiteout(&self) -> bool {
        is_whiteout(&self.path)
    }

    fn kind(&self) -> char {
        match self.header.entry_type() {
            tar::EntryType::Regular => 'f',
            tar::EntryType::Directory => 'd',
            tar::EntryType::Symlink => 'l',
            tar::EntryType::Link => 'h',
            tar::EntryType::Char => 'c',
            tar::EntryType::Block => 'b',
            tar::EntryType::Fifo => 'p',
            _ => '?',
        }
    }

    /// Writes the entry's line.
    fn render(&self, now_seconds: u64, text: &mut String) {
        let (kind, header) = (self.kind(), &self.header);
        let (mode, uid, gid) = (
            header.mode().unwrap() & 0o7777,
            header.uid().unwrap(),
            header.gid().unwrap(),
        );
        let _ = write!(text, "  {kind} {mode:04o} {uid}:{gid}");
        match (kind, header.device_major(), header.device_minor()) {
            ('f', ..) => {
                let digest = hex(&self.content);
                let _ = write!(text, " {} {}", self.content.len(), &digest[..DIGEST_DIGITS]);
            }
            ('c' | 'b', Ok(Some(major)), Ok(Some(minor))) => {
                let _ = write!(text, " {major},{minor}");
            }
            _ => {}
        }
        let time = self.time(now_seconds);
        let _ = writeln!(text, " {time} {}{}{}", self.path, self.link, self.xattrs);
    }

    /// Returns the time as it is shown. Times of directories depend on when what is in them came to be (BuildKit
    /// receives a context's files after it has set its directories' times), so only those that a build sets are shown.
    fn time(&self, now_seconds: u64) -> String {
        let seconds = self.header.mtime().unwrap();
        match (self.kind(), seconds) {
            ('d', _) if self.path == TOUCHED => "-".to_owned(),
            ('d', seconds) if seconds >= now_seconds || seconds == DEFAULT_SECONDS => {
                "-".to_owned()
            }
            (_, seconds) if seconds >= now_seconds => "@now".to_owned(),
            (_, seconds) => format!("@{seconds}"),
        }
    }
}

/// Renders a layer; nothing where nothing is in it.
fn render_layer(content: &[u8], now_seconds: u64) -> String {
    let (mut entries, end_bytes) = entries(content);
    // The engine mounts files there for every RUN, and some touch the directory for it.
    let is_touched = !entries
        .iter()
        .any(|entry| entry.path.starts_with(TOUCHED) && entry.path != TOUCHED);
    entries.retain(|entry| entry.path != TOUCHED || !is_touched);
    if entries.is_empty() {
        return String::new();
    }
    let headers: Vec<u8> = entries
        .iter()
        .flat_map(|entry| entry.blocks.clone())
        .collect();
    let mut text = format!("headers {} +{end_bytes}\n", &hex(&headers)[..DIGEST_DIGITS]);
    for entry in &entries {
        if entry.is_whiteout() {
            let _ = writeln!(text, "  whiteout {}", entry.path);
            continue;
        }
        entry.render(now_seconds, &mut text);
    }
    text
}

fn is_whiteout(path: &str) -> bool {
    path.rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with(".wh."))
}

/// Reads a tar's entries, and how many bytes stand behind the last.
fn entries(content: &[u8]) -> (Vec<Entry>, u64) {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let (mut pending, mut end) = (Vec::new(), 0);
    for entry in tar::Archive::new(content).entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        let mut block = *entry.header().as_bytes();
        block[TIME].fill(b' ');
        block[CHECKSUM].fill(b' ');
        if is_whiteout(&String::from_utf8_lossy(&entry.path_bytes())) {
            block[MODE].fill(b' ');
        }
        pending.extend_from_slice(&block);
        let size = entry.header().entry_size().unwrap();
        end = entry.raw_file_position() + size.next_multiple_of(512);
        let kind = entry.header().entry_type();
        if kind.is_pax_local_extensions() || kind.is_gnu_longname() || kind.is_gnu_longlink() {
            entry.read_to_end(&mut pending).unwrap();
        } else {
            blocks.push(std::mem::take(&mut pending));
        }
    }
    assert!(
        content[usize::try_from(end).unwrap()..]
            .iter()
            .all(|byte| *byte == 0)
    );
    let mut entries = Vec::new();
    for (entry, blocks) in tar::Archive::new(content).entries().unwrap().zip(blocks) {
        entries.push(read_entry(entry.unwrap(), blocks));
    }
    (entries, content.len() as u64 - end)
}

fn read_entry<R: Read>(mut entry: tar::Entry<'_, R>, blocks: Vec<u8>) -> Entry {
    let mut xattrs = String::new();
    for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
        let extension = extension.unwrap();
        if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
            let digits: String = extension
                .value_bytes()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let _ = write!(xattrs, " {name}=0x{digits}");
        }
    }
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let link = entry
        .link_name_bytes()
        .map(|link| format!(" -> {}", String::from_utf8_lossy(&link)))
        .unwrap_or_default();
    let header = entry.header().clone();
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    Entry {
        path,
        header,
        blocks,
        link,
        xattrs,
        content,
    }
}
