//! Commands over several targets: each is tried, each failure is told, one failure fails the command.

use crate::error::{CliError, Result};
use crate::session::Session;

/// Runs `action` for every target in turn and prints what it returns.
pub async fn for_each<A>(session: &mut Session, targets: &[String], action: A) -> Result<()>
where
    A: AsyncFn(&mut Session, &str) -> Result<Option<String>>,
{
    let mut failures = Vec::new();
    for target in targets {
        match action(session, target).await {
            Ok(Some(line)) => session.output.line(&line)?,
            Ok(None) => {}
            Err(
                error @ (CliError::NoDaemon { .. }
                | CliError::SocketPermission { .. }
                | CliError::Exit(_)),
            ) => {
                return Err(error);
            }
            Err(error) => failures.extend(error.report()),
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(CliError::Several(failures))
    }
}
