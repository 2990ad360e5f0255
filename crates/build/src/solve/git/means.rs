//! What a request brings for getting at repositories: secrets, agents, and who asks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wharf_llb::SourceOp;
use wharf_safefs::Caller;

use crate::{BuildRequest, Secret, SolveOptions};

/// The build argument that keeps `.git` in a build context that is a repository.
const KEEP_GIT_DIR_ARG: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// What the request brings for getting at repositories.
pub(crate) struct Means<'a> {
    /// Secrets by ID.
    pub secrets: &'a BTreeMap<String, Secret>,
    /// Sockets of agents, or files of keys, by ID.
    pub ssh: &'a BTreeMap<String, Vec<PathBuf>>,
    /// Who asks.
    pub caller: Option<&'a Caller>,
    /// Whether a build context keeps its `.git`, where the address does not say.
    pub keep_git_dir: Option<bool>,
}

impl<'a> Means<'a> {
    /// Returns what a solve was given.
    pub fn of(options: &'a SolveOptions) -> Self {
        Self {
            secrets: &options.secrets,
            ssh: &options.ssh,
            caller: options.caller.as_ref(),
            keep_git_dir: None,
        }
    }

    /// Returns what a request brings.
    pub fn of_request(request: &'a BuildRequest) -> Self {
        let keeps = request.build_args.get(KEEP_GIT_DIR_ARG).cloned().flatten();
        Self {
            secrets: &request.secrets,
            ssh: &request.ssh,
            caller: request.caller.as_ref(),
            keep_git_dir: keeps
                .map(|value| matches!(value.as_str(), "1" | "true" | "True" | "TRUE" | "t" | "T")),
        }
    }

    /// Returns the header for a source's server, of the secrets that the source names.
    pub(super) fn authorization(&self, source: &SourceOp) -> Option<String> {
        let secret = |attribute: &str| {
            let id = source.attributes.get(attribute)?;
            let secret = self.secrets.get(id)?;
            Some(String::from_utf8_lossy(secret.bytes()).trim().to_owned())
        };
        secret("git.authheadersecret").or_else(|| {
            let token = secret("git.authtokensecret")?;
            use base64::Engine as _;
            let encoded =
                base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}"));
            Some(format!("basic {encoded}"))
        })
    }
}
