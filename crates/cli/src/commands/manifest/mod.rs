//! `wharf manifest …`: several images under one name, by platform.

mod remote;
mod store;

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use wharf_image::{Reference, media_type};

use crate::error::{CliError, Result};
use crate::session::Session;
use remote::{Found, Registry};
use store::{Entry, Lists, written};

/// Operating systems with the architectures that a list takes.
const PLATFORMS: [(&str, &str); 9] = [
    ("darwin", "386 amd64 arm arm64"),
    ("dragonfly", "amd64"),
    ("freebsd", "386 amd64 arm"),
    (
        "linux",
        "386 amd64 arm arm64 loong64 mips64 mips64le ppc64 ppc64le riscv64 s390x",
    ),
    ("netbsd", "386 amd64 arm"),
    ("openbsd", "386 amd64 arm"),
    ("plan9", "386 amd64"),
    ("solaris", "amd64"),
    ("windows", "386 amd64 arm64"),
];

/// Work with manifests and lists of them
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    Annotate(AnnotateArgs),
    Create(CreateArgs),
    Inspect(InspectArgs),
    Push(PushArgs),
    Rm(RemoveArgs),
}

/// Say for which platform a manifest of a list is
#[derive(Debug, Args)]
pub struct AnnotateArgs {
    /// Architecture
    #[arg(
        long,
        value_name = "STRING",
        default_value = "",
        hide_default_value = true
    )]
    arch: String,
    /// Operating system
    #[arg(
        long,
        value_name = "STRING",
        default_value = "",
        hide_default_value = true
    )]
    os: String,
    /// Features of the operating system
    #[arg(long, value_name = "STRINGS", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Version of the operating system
    #[arg(
        long,
        value_name = "STRING",
        default_value = "",
        hide_default_value = true
    )]
    os_version: String,
    /// Variant of the architecture
    #[arg(
        long,
        value_name = "STRING",
        default_value = "",
        hide_default_value = true
    )]
    variant: String,
    /// List
    manifest_list: String,
    /// Manifest in the list
    manifest: String,
}

/// Begin a list of manifests, to be pushed later
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Add to a list that was begun before
    #[arg(short = 'a', long)]
    amend: bool,
    /// Allow a registry without checked TLS
    #[arg(long)]
    insecure: bool,
    /// List
    manifest_list: String,
    /// Manifests
    #[arg(required = true, value_name = "MANIFEST")]
    manifests: Vec<String>,
}

/// Show a manifest or a list of them
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Allow a registry without checked TLS
    #[arg(long)]
    insecure: bool,
    /// Show digests, layers and platforms too
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Manifest, after the list that has it or alone
    #[arg(required = true, num_args = 1..=2, value_name = "MANIFEST")]
    names: Vec<String>,
}

/// Send a list of manifests to its registry
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Allow a registry without checked TLS
    #[arg(long)]
    insecure: bool,
    /// Remove the list from this machine afterwards
    #[arg(short = 'p', long)]
    purge: bool,
    /// List
    manifest_list: String,
}

/// Remove lists from this machine
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Lists
    #[arg(required = true, value_name = "MANIFEST_LIST")]
    manifest_lists: Vec<String>,
}

/// Runs `wharf manifest …`.
pub async fn manifest_command(session: &mut Session, command: ManifestCommand) -> Result<()> {
    match command {
        ManifestCommand::Annotate(args) => annotate(session, &args),
        ManifestCommand::Create(args) => create(session, &args).await,
        ManifestCommand::Inspect(args) => inspect(session, &args).await,
        ManifestCommand::Push(args) => push(session, &args).await,
        ManifestCommand::Rm(args) => remove(session, &args),
    }
}

fn normalized(name: &str) -> Result<Reference> {
    Reference::parse(name)
        .map(Reference::with_default_tag)
        .map_err(|error| CliError::Plain(error.to_string()))
}

fn lists(session: &Session) -> Lists {
    Lists::new(session.config_directory())
}

fn missing(list: &Reference) -> CliError {
    CliError::Plain(format!("No such manifest: {list}"))
}

fn annotate(session: &Session, args: &AnnotateArgs) -> Result<()> {
    let (list, manifest) = (
        normalized(&args.manifest_list)?,
        normalized(&args.manifest)?,
    );
    let lists = lists(session);
    let mut entry = lists.entry(&list, &manifest)?.ok_or_else(|| {
        CliError::Plain(format!(
            "manifest for image {} does not exist in {}",
            args.manifest, args.manifest_list
        ))
    })?;
    let platform = entry.descriptor.platform.get_or_insert_default();
    let set = |place: &mut String, text: &str| {
        if !text.is_empty() {
            text.clone_into(place);
        }
    };
    set(&mut platform.os, &args.os);
    set(&mut platform.architecture, &args.arch);
    for feature in &args.os_features {
        if !platform.os_features.contains(feature) {
            platform.os_features.push(feature.clone());
        }
    }
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    platform.variant = some(&args.variant).or(platform.variant.take());
    platform.os_version = some(&args.os_version).or(platform.os_version.take());
    let is_known = PLATFORMS.iter().any(|(os, architectures)| {
        *os == platform.os
            && architectures
                .split(' ')
                .any(|known| known == platform.architecture)
    });
    if !is_known {
        return Err(CliError::Plain(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            args.os, args.arch
        )));
    }
    lists.save(&list, &manifest, &entry)
}

async fn create(session: &mut Session, args: &CreateArgs) -> Result<()> {
    let list = normalized(&args.manifest_list).map_err(|error| {
        CliError::Plain(format!(
            "error parsing name for manifest list {}: {error}",
            args.manifest_list
        ))
    })?;
    let lists = lists(session);
    if lists.list(&list)?.is_some() && !args.amend {
        return Err(CliError::Plain(
            "refusing to amend an existing manifest list with no --amend flag".to_owned(),
        ));
    }
    for name in &args.manifests {
        let manifest = normalized(name)?;
        let entry = match lists.entry(&list, &manifest)? {
            Some(entry) => entry,
            None => {
                let registry = Registry::of(session, &manifest, args.insecure)?;
                registry.fetch_one(&manifest).await?
            }
        };
        lists.save(&list, &manifest, &entry)?;
    }
    session
        .output
        .line(&format!("Created manifest list {list}"))
}

async fn inspect(session: &mut Session, args: &InspectArgs) -> Result<()> {
    let lists = lists(session);
    let shown = match args.names.as_slice() {
        [list, manifest] => {
            let (list, manifest) = (normalized(list)?, normalized(manifest)?);
            let entry = lists.entry(&list, &manifest)?;
            one(&entry.ok_or_else(|| missing(&manifest))?, args.verbose)
        }
        [name, ..] => {
            let reference = normalized(name)?;
            let found = match lists.list(&reference)? {
                Some(entries) => Found::Several(entries),
                None => {
                    let registry = Registry::of(session, &reference, args.insecure)?;
                    registry.fetch(&reference).await?
                }
            };
            match found {
                Found::One(entry) => one(&entry, args.verbose),
                Found::Several(entries) if args.verbose => written(
                    &serde_json::to_value(&entries).unwrap_or_default(),
                    Some(b"\t"),
                ),
                Found::Several(entries) => index(&reference, &entries)?.1,
            }
        }
        [] => return Err(CliError::usage("a manifest is needed")),
    };
    session.output.bytes(&shown)?;
    session.output.text("\n")
}

fn one(entry: &Entry, verbose: bool) -> Vec<u8> {
    let value = if verbose {
        serde_json::to_value(entry).unwrap_or_default()
    } else {
        entry.document()
    };
    written(&value, Some(b"\t"))
}

/// Makes the document of a list: its media type and its bytes, in the form that docker writes.
fn index(list: &Reference, entries: &[Entry]) -> Result<(&'static str, Vec<u8>)> {
    let mut manifests: Vec<Json> = Vec::with_capacity(entries.len());
    for entry in entries {
        let from = normalized(&entry.reference)?;
        if from.domain() != list.domain() {
            return Err(CliError::Plain(format!(
                "cannot use source images from a different registry than the target image: {} != {}",
                from.domain(),
                list.domain()
            )));
        }
        let descriptor = &entry.descriptor;
        manifests.push(json!({
            "mediaType": descriptor.media_type,
            "size": descriptor.size,
            "digest": descriptor.digest.to_string(),
            "platform": descriptor.platform.clone().unwrap_or_default(),
        }));
    }
    let is_oci = entries
        .first()
        .is_some_and(|entry| entry.descriptor.media_type == media_type::OCI_MANIFEST);
    let kind = if is_oci {
        media_type::OCI_INDEX
    } else {
        media_type::DOCKER_INDEX
    };
    let document = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
    Ok((kind, written(&document, Some(b"   "))))
}

async fn push(session: &mut Session, args: &PushArgs) -> Result<()> {
    let list = normalized(&args.manifest_list)?;
    let lists = lists(session);
    let entries = lists.list(&list)?.ok_or_else(|| missing(&list))?;
    let unsaid = |entry: &&Entry| {
        let platform = entry.descriptor.platform.as_ref();
        platform.is_none_or(|known| known.os.is_empty() || known.architecture.is_empty())
    };
    if let Some(entry) = entries.iter().find(unsaid) {
        return Err(CliError::Plain(format!(
            "manifest {} must have an OS and Architecture to be pushed to a registry",
            entry.reference
        )));
    }
    let (kind, document) = index(&list, &entries)?;
    let registry = Registry::of(session, &list, args.insecure)?;
    let mut elsewhere = Vec::new();
    for entry in &entries {
        let from = normalized(&entry.reference)?;
        if from.path() != list.path() {
            elsewhere.push((from, entry));
        }
    }
    for (from, entry) in &elsewhere {
        let manifest = entry.parsed()?;
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            registry.mount(&list, &blob.digest, from).await?;
        }
    }
    for (_, entry) in elsewhere {
        let place = list.repository().with_digest(entry.descriptor.digest);
        let kind = &entry.descriptor.media_type;
        let digest = registry.put(&place, kind, entry.bytes()?).await?;
        let line = format!("Pushed ref {place} with digest: {digest}");
        session.output.line(&line)?;
    }
    let digest = registry.put(&list, kind, document).await?;
    session.output.line(&digest.to_string())?;
    if args.purge {
        lists.remove(&list)?;
    }
    Ok(())
}

fn remove(session: &Session, args: &RemoveArgs) -> Result<()> {
    let lists = lists(session);
    let remove_one = |name: &String| {
        let list = normalized(name)?;
        lists.list(&list)?.ok_or_else(|| missing(&list))?;
        lists.remove(&list)
    };
    let failures: Vec<String> = args
        .manifest_lists
        .iter()
        .filter_map(|name| remove_one(name).err())
        .map(|error| error.to_string())
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(CliError::Plain(failures.join("\n")))
}
