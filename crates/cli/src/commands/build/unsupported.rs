//! Flags of BuildKit's client that wharf refuses, each with a reason; those that ask for nothing are taken.

use clap::Args;

use crate::error::{CliError, Result};

/// Attestations, annotations, builders.
#[derive(Debug, Clone, Default, Args)]
pub struct UnsupportedFlags {
    /// Annotate the manifest (not supported)
    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    annotation: Vec<String>,
    /// Attest something (not supported; type=TYPE,disabled=true is taken)
    #[arg(long, value_name = "TYPE", hide = true)]
    attest: Vec<String>,
    /// Builder to use (only default: a context names another daemon)
    #[arg(
        long,
        value_name = "NAME",
        hide = true,
        env = "BUILDX_BUILDER",
        hide_env = true
    )]
    builder: Option<String>,
    /// Attest where the image is from (not supported; false is taken)
    #[arg(long, value_name = "BOOL", hide = true)]
    provenance: Option<String>,
    /// Attest what the image holds (not supported; false is taken)
    #[arg(long, value_name = "BOOL", hide = true)]
    sbom: Option<String>,
}

impl UnsupportedFlags {
    /// Refuses what is asked for and not made.
    pub fn check(&self) -> Result<()> {
        if !self.annotation.is_empty() {
            return Err(CliError::usage(
                "--annotation is not supported: use --label, which is kept in the image's configuration",
            ));
        }
        let disabled = |value: &str| matches!(value, "false" | "0");
        for (flag, value) in [("provenance", &self.provenance), ("sbom", &self.sbom)] {
            if value.as_deref().is_some_and(|value| !disabled(value)) {
                return Err(no_attestations(&format!("--{flag}")));
            }
        }
        let turned_off = |value: &String| value.split(',').any(|field| field == "disabled=true");
        if !self.attest.iter().all(turned_off) {
            return Err(no_attestations("--attest"));
        }
        match self.builder.as_deref() {
            None | Some("" | "default") => Ok(()),
            Some(other) => Err(CliError::usage(format!(
                "no builder {other:?}: the daemon is the only builder. Use --context or --host for another daemon"
            ))),
        }
    }
}

fn no_attestations(flag: &str) -> CliError {
    CliError::usage(format!(
        "{flag} is not supported: images are built without attestations"
    ))
}
