//! What every command works with: the daemon, the output, the configuration.

use std::path::PathBuf;

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
    config_directory: Option<PathBuf>,
    config: Option<ConfigFile>,
}

impl Session {
    /// Returns a session; the configuration is read when first asked for, from the given directory or the usual one.
    #[must_use]
    pub fn new(
        client: Client,
        output: Output,
        program: String,
        config_directory: Option<PathBuf>,
    ) -> Self {
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
            self.config = Some(match &self.config_directory {
                Some(directory) => ConfigFile::load_from(directory.join("config.json"))?,
                None => ConfigFile::load()?,
            });
        }
        Ok(self.config.as_mut().expect("it was loaded above"))
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
