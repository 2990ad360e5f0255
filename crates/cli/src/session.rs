//! What every command works with: the daemon, the output, the configuration.

use std::path::{Path, PathBuf};

use crate::config_file::ConfigFile;
use crate::error::Result;
use crate::http::Client;
use crate::output::Output;

/// One run of the client.
pub struct Session {
    /// The daemon.
    pub client: Client,
    /// Standard output and standard error.
    pub output: Output,
    /// The name the client was called by: `wharf` or `docker`.
    pub program: String,
    config_directory: PathBuf,
    config: Option<ConfigFile>,
}

impl Session {
    /// Returns a session; the configuration is read from its directory when first asked for.
    #[must_use]
    pub fn new(client: Client, output: Output, program: String, config_directory: PathBuf) -> Self {
        Self {
            client,
            output,
            program,
            config_directory,
            config: None,
        }
    }

    /// Returns docker's client configuration.
    pub fn config(&mut self) -> Result<&mut ConfigFile> {
        if self.config.is_none() {
            let path = self.config_directory.join("config.json");
            self.config = Some(ConfigFile::load_from(path)?);
        }
        Ok(self.config.as_mut().expect("it was loaded above"))
    }

    /// Returns the directory of the configuration.
    #[must_use]
    pub fn config_directory(&self) -> &Path {
        &self.config_directory
    }

    /// Returns the name of the context in force.
    #[must_use]
    pub fn context(&self) -> &str {
        &self.client.host().context
    }

    /// Returns the key sequence that detaches from a terminal: the flag's, or the configuration's.
    pub fn detach_keys(&mut self, flag: Option<&str>) -> Result<Option<String>> {
        let keys = match flag {
            Some(keys) => Some(keys.to_owned()),
            None => self.config()?.text("detachKeys").map(str::to_owned),
        };
        if let Some(keys) = &keys {
            crate::options::misc::check_detach_keys(keys)?;
        }
        Ok(keys)
    }
}
