//! Repositories, by the `git` program of this machine (spec llb §2.2, §4.1).

mod checkout;
mod command;
mod commit;
mod files;
mod means;

use wharf_llb::{SourceOp, VertexId};
use wharf_safefs::trusted;
use wharf_store::{Staging, Store};

use super::Solver;
use super::agent::{Agent, no_agent};
use super::node::Outcome;
use super::snapshot::{PendingLayer, Snapshot};
use crate::BuildError;

use checkout::Checkout;
use commit::commit_time;
use files::{check_out, fetch};

pub(super) use checkout::known_key;
pub(crate) use means::Means;

/// Owner, group and permissions of a socket for wharf alone.
const OWN_SOCKET: (u32, u32, u32) = (0, 0, 0o600);
/// Name of the file with the servers' keys.
const KNOWN_HOSTS: &str = "known_hosts";

impl Solver<'_> {
    /// Brings in a repository's files.
    pub(super) fn clone_repository(
        &self,
        id: VertexId,
        source: &SourceOp,
    ) -> Result<(Outcome, Snapshot), BuildError> {
        let prepared = prepared(self.store, source, &Means::of(self.input.options))?;
        let checkout = &prepared.checkout;
        let commit = checkout.commit()?;
        let key = checkout.key(&commit);
        self.with_node(id, |node| node.key = Some(key));
        self.find_or_make(id, key, || {
            let staging = check_out(self.store, checkout, &commit)?;
            Ok(Some(PendingLayer::new(self.store.place_layer(staging)?)))
        })
    }
}

/// Checks a repository out to a directory of its own, for a build context.
///
/// # Errors
/// Servers that cannot be reached, references that do not exist.
pub(crate) fn bring(
    store: &Store,
    source: &SourceOp,
    means: &Means<'_>,
) -> Result<Staging, BuildError> {
    let prepared = prepared(store, source, means)?;
    let commit = prepared.checkout.commit()?;
    check_out(store, &prepared.checkout, &commit)
}

/// Returns when the commit that a source leads to was made, in seconds since 1970.
///
/// # Errors
/// Servers that cannot be reached, references that do not exist.
pub(crate) fn commit_seconds(
    store: &Store,
    source: &SourceOp,
    means: &Means<'_>,
) -> Result<i64, BuildError> {
    let prepared = prepared(store, source, means)?;
    let checkout = &prepared.checkout;
    let commit = checkout.commit()?;
    let staging = store.stage()?;
    fetch(&staging.files(), checkout, &commit)?;
    Ok(commit_time(&staging.files(), checkout, &commit)?.seconds)
}

/// A checkout with what it needs of this machine, which is gone when this is dropped.
struct Prepared {
    checkout: Checkout,
    _agent: Option<Agent>,
    _known_hosts: Option<Staging>,
}

/// Gets ready what a source needs of this machine.
fn prepared(store: &Store, source: &SourceOp, means: &Means<'_>) -> Result<Prepared, BuildError> {
    let mut checkout = Checkout::of(source);
    checkout.authorization = means.authorization(source);
    let mut agent = None;
    if let Some(id) = source.attributes.get("git.mountsshsock") {
        let given = means.ssh.get(id).ok_or_else(|| no_agent(id))?;
        let started = Agent::start(store, given, means.caller, OWN_SOCKET)?;
        checkout.agent = Some(started.path().to_path_buf());
        agent = Some(started);
    }
    let mut known_hosts = None;
    if let Some(hosts) = source.attributes.get("git.knownsshhosts") {
        let staging = store.stage()?;
        let file = staging.path().join(KNOWN_HOSTS);
        trusted::write_atomic(&file, hosts.as_bytes(), 0o600, false)?;
        checkout.known_hosts = Some(file);
        known_hosts = Some(staging);
    }
    Ok(Prepared {
        checkout,
        _agent: agent,
        _known_hosts: known_hosts,
    })
}
