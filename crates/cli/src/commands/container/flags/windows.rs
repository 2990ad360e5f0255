//! Docker's flags for containers on Windows: each says that it is for those.

use clap::Args;

use crate::error::{CliError, Result};

/// Limits that only Windows has.
#[derive(Debug, Clone, Default, Args)]
pub struct WindowsFlags {
    /// CPU count (Windows only)
    #[arg(long, value_name = "COUNT", hide = true)]
    cpu_count: Option<String>,
    /// CPU percent (Windows only)
    #[arg(long, value_name = "PERCENT", hide = true)]
    cpu_percent: Option<String>,
    /// Limit of bytes a second of the system drive (Windows only)
    #[arg(long, value_name = "SIZE", hide = true)]
    io_maxbandwidth: Option<String>,
    /// Limit of operations a second of the system drive (Windows only)
    #[arg(long, value_name = "COUNT", hide = true)]
    io_maxiops: Option<String>,
}

impl WindowsFlags {
    /// Fails, in docker's words, when one was given.
    pub fn check(&self) -> Result<()> {
        let flags = [
            ("cpu-count", &self.cpu_count),
            ("cpu-percent", &self.cpu_percent),
            ("io-maxbandwidth", &self.io_maxbandwidth),
            ("io-maxiops", &self.io_maxiops),
        ];
        match flags.iter().find(|(_, value)| value.is_some()) {
            Some((flag, _)) => Err(CliError::Plain(format!(
                "\"--{flag}\" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux"
            ))),
            None => Ok(()),
        }
    }
}
