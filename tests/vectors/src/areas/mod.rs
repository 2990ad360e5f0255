//! Who answers which area. To hook an area in: write its check in the room's module and add a line to [`AREAS`].

#[cfg(feature = "api")]
mod api;
#[cfg(feature = "api")]
mod api_status;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "api")]
mod container_create;
#[cfg(feature = "api")]
mod daemon_misc;
#[cfg(feature = "dockerfile")]
mod dockerfile;
#[cfg(feature = "image")]
mod image;
#[cfg(feature = "layer")]
mod layer;
#[cfg(feature = "api")]
mod log_tag;
#[cfg(feature = "api")]
mod mounts;
#[cfg(feature = "network")]
mod network;
#[cfg(feature = "build")]
mod outline;
#[cfg(feature = "build")]
mod plan;
#[cfg(feature = "runtime")]
mod seccomp;
mod units;

use serde_json::Value;

use crate::{Document, Vector, Verdict};

/// How an area is answered.
#[derive(Debug, Clone, Copy)]
pub enum Runner {
    /// Every vector by itself.
    Each(fn(&Vector, &Document) -> Verdict),
    /// All vectors of a file in their order, where one follows from another; the verdicts are in the same order.
    /// An error is the reason why nothing can be run here.
    Whole(fn(&Document) -> Result<Vec<Verdict>, String>),
}

/// The areas by name.
pub static AREAS: &[(&str, Runner)] = &[
    #[cfg(feature = "api")]
    ("api-status", Runner::Whole(api_status::check)),
    #[cfg(feature = "image")]
    ("chain-id", Runner::Each(image::chain_id)),
    #[cfg(feature = "cli")]
    ("cli-format", Runner::Each(cli::format)),
    #[cfg(feature = "cli")]
    ("cli-opts", Runner::Each(cli::options)),
    #[cfg(feature = "api")]
    ("container-create", Runner::Whole(container_create::check)),
    #[cfg(feature = "api")]
    ("container-state", Runner::Each(api::container_state)),
    #[cfg(feature = "api")]
    ("daemon-misc", Runner::Each(daemon_misc::check)),
    #[cfg(feature = "dockerfile")]
    (
        "dockerfile-instructions",
        Runner::Each(dockerfile::instructions),
    ),
    #[cfg(feature = "dockerfile")]
    ("dockerfile-lint", Runner::Each(dockerfile::lint)),
    #[cfg(feature = "build")]
    ("dockerfile-outline", Runner::Each(outline::check)),
    #[cfg(feature = "dockerfile")]
    ("dockerfile-parse", Runner::Each(dockerfile::parse)),
    #[cfg(feature = "build")]
    ("dockerfile-plan", Runner::Each(plan::check)),
    #[cfg(feature = "dockerfile")]
    ("dockerignore", Runner::Each(dockerfile::dockerignore)),
    #[cfg(feature = "dockerfile")]
    ("giturl", Runner::Each(dockerfile::git_url)),
    #[cfg(feature = "cli")]
    ("env-file", Runner::Each(cli::env_file)),
    #[cfg(feature = "network")]
    ("etc-hosts", Runner::Each(network::etc_hosts)),
    #[cfg(feature = "layer")]
    ("layer-apply", Runner::Each(layer::layers_stack)),
    #[cfg(feature = "layer")]
    ("layer-diff", Runner::Each(layer::differences)),
    #[cfg(feature = "api")]
    ("log-tag", Runner::Each(log_tag::check)),
    #[cfg(feature = "api")]
    ("mount-parse", Runner::Each(mounts::check)),
    #[cfg(feature = "image")]
    ("platforms", Runner::Each(image::platforms)),
    #[cfg(feature = "cli")]
    ("port-specs", Runner::Each(cli::port_specs)),
    #[cfg(feature = "image")]
    ("references", Runner::Each(image::references)),
    #[cfg(feature = "network")]
    ("resolv-conf", Runner::Each(network::resolv_conf)),
    #[cfg(feature = "runtime")]
    ("seccomp", Runner::Each(seccomp::check)),
    #[cfg(feature = "dockerfile")]
    ("shell-words", Runner::Each(dockerfile::shell_words)),
    #[cfg(feature = "api")]
    ("stdcopy", Runner::Each(api::stdcopy)),
    ("units", Runner::Each(units::check)),
];

/// Returns who answers an area.
#[must_use]
pub fn runner(area: &str) -> Option<Runner> {
    AREAS
        .iter()
        .find(|(known, _)| *known == area)
        .map(|(_, runner)| *runner)
}

/// Returns a text member; an absent one is empty.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Returns a list of texts; an absent one is empty.
fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// Compares a part of an answer.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Verdict {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: found {found:?} instead of {expected:?}"))
    }
}

/// Compares an answer of the form that `expected` has; the texts of errors are not compared.
fn same_answer(found: Result<Value, String>, expected: &Value) -> Verdict {
    match (found, expected["error"].as_str()) {
        (Err(_), Some(_)) => Ok(()),
        (Ok(found), None) if found == *expected => Ok(()),
        (Ok(found), _) => Err(format!("found {found}")),
        (Err(error), _) => Err(format!("refused: {error}")),
    }
}

/// Compares an answer of the form that `expected` has, and the text of an error, which users see.
fn same_text(found: Result<Value, String>, expected: &Value) -> Verdict {
    match (&found, expected["error"].as_str()) {
        (Err(found), Some(wanted)) if found != wanted => Err(format!("refused: {found}")),
        _ => same_answer(found, expected),
    }
}
