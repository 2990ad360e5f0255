//! `wharf images`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Deserialize;
use wharf_image::Reference;

use super::tree;
use crate::error::{CliError, Result};
use crate::http::Request;
use crate::options::filter;
use crate::render::list::{Layout, Row};
use crate::render::text::{local_time, time_ago};
use crate::session::Session;
use crate::terminal;
use crate::units::{human_size, human_size_short};

const NONE: &str = "<none>";

/// List images
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show intermediate images too
    #[arg(short = 'a', long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show images that match (such as dangling=true, label=KEY=VALUE)
    #[arg(short = 'f', long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Print with a template, "table TEMPLATE" or "json"
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not cut values short
    #[arg(long)]
    no_trunc: bool,
    /// Print only ids
    #[arg(short = 'q', long)]
    quiet: bool,
    /// List names, sizes and platforms as a tree (experimental)
    #[arg(long)]
    tree: bool,
    /// Show only this repository, or this name and tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

impl ListArgs {
    /// Returns the filters, the name that was given among them.
    fn filters(&self) -> Vec<String> {
        let reference = self.reference.iter();
        let reference = reference.map(|reference| format!("reference={reference}"));
        self.filter.iter().cloned().chain(reference).collect()
    }
}

/// One item of `GET /images/json` (image-store.md §8).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    pub(crate) id: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
    created: i64,
    pub(crate) size: i64,
    pub(crate) shared_size: i64,
    pub(crate) containers: i64,
    labels: Option<BTreeMap<String, String>>,
}

/// How images are listed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown {
    /// Print only ids.
    pub quiet: bool,
    /// Show the digests' column.
    pub digests: bool,
    /// Do not cut values short.
    pub no_trunc: bool,
}

/// Runs `wharf images`.
pub async fn list_command(session: &mut Session, args: ListArgs) -> Result<()> {
    if args.tree {
        return tree_command(session, &args).await;
    }
    let format = match &args.format {
        Some(format) => format.clone(),
        None if args.quiet => String::new(),
        None => session
            .config()?
            .text("imagesFormat")
            .unwrap_or_default()
            .to_owned(),
    };
    let filters = args.filters();
    let request = Request::get("/images/json")
        .query_flag("all", args.all)
        .query_flag("digests", args.digests)
        .query_if("filters", filter::query(&filters)?);
    let images: Vec<ImageSummary> = session.client.send(request).await?.json().await?;
    let shown = Shown {
        quiet: args.quiet,
        digests: args.digests,
        no_trunc: args.no_trunc,
    };
    session.output.text(&render(&images, &format, shown)?)
}

async fn tree_command(session: &mut Session, args: &ListArgs) -> Result<()> {
    let given = [
        ("--quiet", args.quiet),
        ("--no-trunc", args.no_trunc),
        ("--show-digest", args.digests),
        ("--format", args.format.is_some()),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, is_given)| *is_given) {
        return Err(CliError::Plain(format!(
            "{flag} is not yet supported with --tree"
        )));
    }
    let request = Request::get("/images/json")
        .query_flag("all", args.all)
        .query_flag("manifests", true)
        .query_if("filters", filter::query(&args.filters())?);
    let mut images: Vec<tree::Image> = session.client.send(request).await?.json().await?;
    if !args.all {
        images.retain(|image| {
            image
                .repo_tags
                .as_ref()
                .is_some_and(|tags| !tags.is_empty())
        });
    }
    let is_terminal = session.output.is_terminal();
    let size = terminal::size().filter(|_| is_terminal);
    let width = size.map_or(tree::USUAL_WIDTH, |(_, width)| usize::from(width));
    session
        .output
        .text(&tree::render(images, width, is_terminal))
}

/// Returns the list in the wanted format.
pub fn render(images: &[ImageSummary], format: &str, shown: Shown) -> Result<String> {
    let mut format = format.to_owned();
    if shown.digests && format.starts_with("table ") && !format.contains("{{.Digest}}") {
        format.push_str("\t{{.Digest}}");
    }
    let rows: Vec<Row> = images
        .iter()
        .flat_map(|image| {
            let names = image.names(
                shown.digests,
                shown.digests || format.contains("{{.Digest}}"),
            );
            names
                .into_iter()
                .map(|name| image.row(&name, shown.no_trunc))
                .collect::<Vec<_>>()
        })
        .collect();
    layout(shown.digests).render(&format, shown.quiet, &rows)
}

/// Returns what lists of images look like.
pub(crate) fn layout(digests: bool) -> Layout {
    let digest = if digests { "{{.Digest}}\t" } else { "" };
    Layout {
        type_name: "*formatter.imageContext",
        table: format!(
            "{{{{.Repository}}}}\t{{{{.Tag}}}}\t{digest}{{{{.ID}}}}\t{{{{if .CreatedSince}}}}{{{{.CreatedSince}}}}{{{{else}}}}N/A{{{{end}}}}\t{{{{.Size}}}}"
        ),
        quiet: "{{.ID}}",
        quiet_wins: false,
        raw: if digests {
            "repository: {{.Repository}}\ntag: {{.Tag}}\ndigest: {{.Digest}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
        } else {
            "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
        },
        headings: &[
            ("ID", "IMAGE ID"),
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("Digest", "DIGEST"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("Size", "SIZE"),
            ("Containers", "CONTAINERS"),
            ("SharedSize", "SHARED SIZE"),
            ("UniqueSize", "UNIQUE SIZE"),
        ],
    }
}

/// One line of the list: a repository with a tag, a digest or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    repository: String,
    tag: String,
    digest: String,
}

impl ImageSummary {
    /// Returns the image's lines: one for each tag, or with digests wanted for each of its digests.
    ///
    /// `untagged_digests` is about repositories without a tag, `digests_wanted` about the others.
    fn names(&self, untagged_digests: bool, digests_wanted: bool) -> Vec<Name> {
        let mut repositories: Vec<(String, Vec<String>, Vec<String>)> = Vec::new();
        let mut of = |name: &str, tag: Option<String>, digest: Option<String>| {
            let position = repositories
                .iter()
                .position(|(repository, ..)| repository == name);
            let position = position.unwrap_or_else(|| {
                repositories.push((name.to_owned(), Vec::new(), Vec::new()));
                repositories.len() - 1
            });
            repositories[position].1.extend(tag);
            repositories[position].2.extend(digest);
        };
        for reference in self
            .repo_tags
            .iter()
            .flatten()
            .filter_map(|name| Reference::parse(name).ok())
        {
            of(
                &reference.familiar_name(),
                reference.tag().map(str::to_owned),
                None,
            );
        }
        for reference in self
            .repo_digests
            .iter()
            .flatten()
            .filter_map(|name| Reference::parse(name).ok())
        {
            of(
                &reference.familiar_name(),
                None,
                reference.digest().map(ToString::to_string),
            );
        }
        let mut names = Vec::new();
        for (repository, tags, digests) in repositories {
            match (tags.as_slice(), digests.as_slice()) {
                ([], digests) if untagged_digests => {
                    names.extend(digests.iter().map(|digest| name(&repository, NONE, digest)));
                }
                ([], _) => names.push(name(&repository, NONE, "")),
                (tags, digests) if digests_wanted && !digests.is_empty() => {
                    for tag in tags {
                        names.extend(digests.iter().map(|digest| name(&repository, tag, digest)));
                    }
                }
                (tags, _) => names.extend(tags.iter().map(|tag| name(&repository, tag, NONE))),
            }
        }
        if self.is_dangling() {
            names.push(name(NONE, NONE, NONE));
        }
        names
    }

    /// Returns whether no name leads to the image; daemons before API 1.43 say so with names of their own.
    fn is_dangling(&self) -> bool {
        let tags = self.repo_tags.as_deref().unwrap_or_default();
        let digests = self.repo_digests.as_deref().unwrap_or_default();
        match (tags, digests) {
            ([], []) => true,
            ([tag], [digest]) => tag == "<none>:<none>" && digest == "<none>@<none>",
            _ => false,
        }
    }

    /// Returns the image's row with its first name.
    pub(crate) fn first_row(&self, no_trunc: bool) -> Row {
        let mut names = self.names(false, false);
        names.truncate(1);
        let name = names.pop().unwrap_or_else(|| name(NONE, NONE, ""));
        self.row(&name, no_trunc)
    }

    fn row(&self, name: &Name, no_trunc: bool) -> Row {
        let optional = |size: i64| {
            if size < 0 {
                "N/A".to_owned()
            } else {
                human_size(size as f64)
            }
        };
        let unique = if self.shared_size < 0 {
            -1
        } else {
            self.size - self.shared_size
        };
        Row::new()
            .with_id(&self.id, no_trunc)
            .with("Repository", name.repository.as_str())
            .with("Tag", name.tag.as_str())
            .with("Digest", name.digest.as_str())
            .with(
                "CreatedSince",
                if self.created > 0 {
                    time_ago(self.created)
                } else {
                    "N/A".to_owned()
                },
            )
            .with("CreatedAt", local_time(self.created))
            .with("Size", human_size_short(self.size as f64))
            .with(
                "Containers",
                if self.containers < 0 {
                    "N/A".to_owned()
                } else {
                    self.containers.to_string()
                },
            )
            .with("SharedSize", optional(self.shared_size))
            .with("UniqueSize", optional(unique))
    }
}

fn name(repository: &str, tag: &str, digest: &str) -> Name {
    Name {
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
    }
}
