//! Flags of a process in a container: of `run`, `create` and `exec`.

use clap::Args;

use crate::error::Result;
use crate::options::env;

/// How a process is run.
#[derive(Debug, Clone, Default, Args)]
#[allow(missing_docs, reason = "each flag's help text is its documentation")]
pub struct ProcessFlags {
    /// Keys that detach from the terminal, such as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Set an environment variable (NAME=VALUE, or NAME to pass the caller's on)
    #[arg(short = 'e', long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<String>,
    /// Keep standard input open
    #[arg(short = 'i', long)]
    pub interactive: bool,
    /// Give it all privileges
    #[arg(long)]
    pub privileged: bool,
    /// Give it a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// User, and optionally group, to run as
    #[arg(short = 'u', long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Working directory inside the container
    #[arg(short = 'w', long, value_name = "PATH")]
    pub workdir: Option<String>,
}

impl ProcessFlags {
    /// Returns the environment that the flags ask for, with the caller's values where only names are given.
    pub fn environment(&self, variable: env::Lookup<'_>) -> Result<Vec<String>> {
        env::environment(&self.env_file, &self.env, variable)
    }
}
