//! `wharf images --tree`: names, sizes and use of images, and what platforms they are for.

use serde::Deserialize;
use wharf_image::DescriptorPlatform;

use crate::units::human_size_short;

/// Spaces between two columns.
const GAP: &str = "   ";
/// Columns of a terminal that does not tell its size, and of no terminal.
pub(super) const USUAL_WIDTH: usize = 80;
/// Least width of the first column; others are left out for it.
const MIN_NAME_WIDTH: usize = 12;
/// Titles and widths of the columns behind the first one, and whether they are written to the right.
const COLUMNS: [(&str, usize, bool); 4] = [
    ("ID", 12, false),
    ("DISK USAGE", 10, true),
    ("CONTENT SIZE", 12, true),
    ("EXTRA", 5, false),
];
const UNTAGGED: &str = "<untagged>";

/// An image as the API lists it, with its manifests where the daemon keeps several.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Image {
    pub(super) id: String,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) created: i64,
    pub(super) size: i64,
    pub(super) containers: i64,
    manifests: Option<Vec<Manifest>>,
}

/// One platform of an image.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Manifest {
    #[serde(rename = "ID")]
    id: String,
    kind: String,
    available: bool,
    size: ManifestSize,
    image_data: Option<ImageData>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ManifestSize {
    total: i64,
    content: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageData {
    platform: DescriptorPlatform,
    containers: Option<Vec<String>>,
}

/// How text is set off on a terminal.
#[derive(Debug, Clone, Copy)]
struct Style {
    before: &'static str,
}

const HEADER: Style = Style {
    before: "\x1b[39m\x1b[1m",
};
const NAME: Style = Style {
    before: "\x1b[34m\x1b[1m",
};
const NORMAL: Style = Style { before: "\x1b[39m" };
const FAINT: Style = Style {
    before: "\x1b[39m\x1b[2m",
};

impl Style {
    fn on(self, text: &str, is_terminal: bool) -> String {
        if is_terminal {
            format!("{}{text}\x1b[0m", self.before)
        } else {
            text.to_owned()
        }
    }
}

/// A line of the list.
struct Line {
    name: String,
    style: Style,
    /// What is behind the name; nothing on all lines of an image but the last of its names.
    details: Option<Details>,
}

struct Details {
    id: String,
    usage: String,
    content: String,
    is_used: bool,
    style: Style,
}

/// Returns the list for a terminal of a width, or for none.
pub(super) fn render(mut images: Vec<Image>, width: usize, is_terminal: bool) -> String {
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    let lines: Vec<Line> = images.iter().flat_map(lines_of).collect();
    let mut shown = COLUMNS.len();
    let mut room = width.max(20);
    for (index, (_, column, _)) in COLUMNS.iter().enumerate() {
        let needed = column + GAP.len();
        if room < needed + MIN_NAME_WIDTH {
            shown = index;
            break;
        }
        room -= needed;
    }
    let names = lines.iter().filter(|line| line.name != UNTAGGED);
    let widest = names.map(|line| line.name.chars().count()).max();
    let name_width = widest.unwrap_or(0).max("IMAGE".len()).min(room);
    let columns = COLUMNS.get(..shown).unwrap_or_default();

    let mut text = opening(width, is_terminal);
    // Set off wherever it is written to, as docker's client does.
    text.push_str(&HEADER.on("IMAGE", true));
    text.push_str(&" ".repeat(name_width - "IMAGE".len()));
    for (title, column, to_the_right) in columns {
        text.push_str(GAP);
        text.push_str(&cell(title, *column, *to_the_right, |title| {
            HEADER.on(title, true)
        }));
    }
    text.push('\n');
    for line in &lines {
        let style = |name: &str| line.style.on(name, is_terminal);
        text.push_str(&cell(&line.name, name_width, false, style));
        if let Some(details) = &line.details {
            text.push_str(&details.cells(columns, is_terminal));
        } else {
            text.truncate(text.trim_end_matches(' ').len());
        }
        text.push('\n');
    }
    text
}

/// Returns the warning and what the marks mean.
fn opening(width: usize, is_terminal: bool) -> String {
    let warning = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
    let (warning, legend, legend_width) = if is_terminal {
        let legend = format!(
            "\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m {} In Use ",
            mark(true)
        );
        (format!("\x1b[93m{warning}\x1b[0m"), legend, 21)
    } else {
        (
            warning.to_owned(),
            format!("Info ->  {} In Use ", mark(false)),
            18,
        )
    };
    let left = " ".repeat(width.saturating_sub(legend_width));
    format!("{warning}\n{left}{legend}\n\n")
}

/// Returns the mark of images that containers use.
fn mark(is_terminal: bool) -> &'static str {
    if is_terminal {
        "\x1b[38;5;0m\x1b[48;5;14m U \x1b[0m"
    } else {
        "U"
    }
}

fn cell(text: &str, width: usize, to_the_right: bool, style: impl Fn(&str) -> String) -> String {
    let length = text.chars().count();
    if length > width {
        let cut: String = text.chars().take(width.saturating_sub(1)).collect();
        return style(&format!("{cut}…"));
    }
    let fill = " ".repeat(width - length);
    if to_the_right {
        format!("{fill}{}", style(text))
    } else {
        format!("{}{fill}", style(text))
    }
}

impl Details {
    fn cells(&self, columns: &[(&str, usize, bool)], is_terminal: bool) -> String {
        let values = [&self.id, &self.usage, &self.content];
        let mut text = String::new();
        for (index, (_, width, to_the_right)) in columns.iter().enumerate() {
            text.push_str(GAP);
            match values.get(index) {
                Some(value) => {
                    let style = |value: &str| self.style.on(value, is_terminal);
                    text.push_str(&cell(value, *width, *to_the_right, style));
                }
                None if self.is_used => {
                    text.push_str(mark(is_terminal));
                    let shown = if is_terminal { 3 } else { 1 };
                    text.push_str(&" ".repeat(width.saturating_sub(shown)));
                }
                None => text.push_str(&" ".repeat(*width)),
            }
        }
        text
    }
}

fn lines_of(image: &Image) -> Vec<Line> {
    let manifests: Vec<&Manifest> = image
        .manifests
        .iter()
        .flatten()
        .filter(|manifest| manifest.kind == "image")
        .collect();
    let is_used = |manifest: &Manifest| {
        let containers = manifest
            .image_data
            .as_ref()
            .and_then(|data| data.containers.as_ref());
        containers.is_some_and(|containers| !containers.is_empty())
    };
    let content: i64 = manifests.iter().map(|manifest| manifest.size.content).sum();
    let mut details = Some(Details {
        id: short(&image.id),
        usage: human_size_short(image.size as f64),
        content: human_size_short(content as f64),
        is_used: image.containers > 0 || manifests.iter().any(|manifest| is_used(manifest)),
        style: NORMAL,
    });
    let names: Vec<String> = image.repo_tags.clone().unwrap_or_default();
    let count = names.len();
    let mut lines: Vec<Line> = names
        .into_iter()
        .enumerate()
        .map(|(index, name)| Line {
            name,
            style: NAME,
            details: if index + 1 == count {
                details.take()
            } else {
                None
            },
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line {
            name: UNTAGGED.to_owned(),
            style: FAINT,
            details,
        });
    }
    let last = manifests.len().saturating_sub(1);
    lines.extend(manifests.into_iter().enumerate().map(|(index, manifest)| {
        let branch = if index == last { "└─" } else { "├─" };
        let style = if manifest.available { NORMAL } else { FAINT };
        Line {
            name: format!("{branch} {}", platform(manifest)),
            style,
            details: Some(Details {
                id: short(&manifest.id),
                usage: human_size_short(manifest.size.total as f64),
                content: human_size_short(manifest.size.content as f64),
                is_used: is_used(manifest),
                style,
            }),
        }
    }));
    lines
}

fn platform(manifest: &Manifest) -> String {
    let platform = manifest.image_data.clone().unwrap_or_default().platform;
    let parts = [
        platform.os.as_str(),
        platform.architecture.as_str(),
        platform.variant.as_deref().unwrap_or_default(),
    ];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

fn short(id: &str) -> String {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(document: serde_json::Value) -> Vec<Image> {
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn the_list_is_dockers() {
        let list = images(serde_json::json!([
            {"Id": "sha256:046815045db5aaaa", "RepoTags": ["tt:1"], "Created": 1, "Size": 1_985_570, "Containers": 1},
            {"Id": "sha256:527aad77b6edaaaa", "RepoTags": ["aa/bb:2", "aa/cc:3"], "Created": 9, "Size": 1_985_570},
            {"Id": "sha256:b8d6f34393b8aaaa", "RepoTags": [], "Created": 8, "Size": 1_985_570, "Containers": 0},
        ]));
        let expected = "\
WARNING: This is an experimental feature. The output may change and shouldn't be depended on.
                                                              Info ->  U In Use \n
\x1b[39m\x1b[1mIMAGE\x1b[0m     \x1b[39m\x1b[1mID\x1b[0m             \x1b[39m\x1b[1mDISK USAGE\x1b[0m   \x1b[39m\x1b[1mCONTENT SIZE\x1b[0m   \x1b[39m\x1b[1mEXTRA\x1b[0m
aa/bb:2
aa/cc:3   527aad77b6ed       1.99MB             0B        \n\
<untag…   b8d6f34393b8       1.99MB             0B        \n\
tt:1      046815045db5       1.99MB             0B   U    \n";
        assert_eq!(render(list, 80, false), expected);
    }

    #[test]
    fn platforms_are_branches_and_narrow_terminals_lose_columns() {
        let list = images(serde_json::json!([{
            "Id": "sha256:046815045db5", "RepoTags": ["some/quite/long/name/of/an/image:1"], "Size": 5,
            "Manifests": [
                {"ID": "sha256:1", "Kind": "image", "Available": true, "Size": {"Total": 10, "Content": 4},
                 "ImageData": {"Platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}, "Containers": ["x"]}},
                {"ID": "sha256:2", "Kind": "attestation", "Available": true},
                {"ID": "sha256:3", "Kind": "image", "Available": false,
                 "ImageData": {"Platform": {"os": "linux", "architecture": "amd64"}}},
            ],
        }]));
        let text = render(list.clone(), 80, false);
        assert!(text.contains("\n├─ linux/arm64/v8"), "{text}");
        assert!(text.contains("\n└─ linux/amd64"), "{text}");
        assert!(text.contains("some/quite/long/name/of/an/i…"), "{text}");
        assert_eq!(text.matches(" U   ").count(), 2, "{text}");
        let narrow = render(list.clone(), 40, false);
        assert!(narrow.contains("DISK USAGE") && !narrow.contains("CONTENT SIZE"));
        assert!(!render(list, 39, false).contains("DISK USAGE"));
    }
}
