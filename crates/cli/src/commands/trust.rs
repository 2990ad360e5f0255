//! `--disable-content-trust`: signatures of images are not checked here, and nothing else can be asked for.

use clap::Args;

use crate::error::{CliError, Result};

/// The flag about docker's content trust.
#[derive(Debug, Clone, Default, Args)]
pub struct ContentTrust {
    /// Do not verify signatures of images (always so)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "BOOL")]
    disable_content_trust: Option<bool>,
}

impl ContentTrust {
    /// Fails when signatures were to be verified.
    pub fn check(&self) -> Result<()> {
        if self.disable_content_trust == Some(false) {
            return Err(CliError::usage(
                "content trust is not supported: signatures of images are made and checked with tools such as cosign",
            ));
        }
        Ok(())
    }
}
