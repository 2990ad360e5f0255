//! Owners that actions name, looked up in the files that are changed.

use wharf_llb::{Account, Chown, FileActionKind, FileInput};
use wharf_safefs::Root;

use crate::owner::{self, Owner};
use crate::solve::run::StepOutput;
use crate::{BuildError, OutputStream};

/// Returns the owner that an action names.
pub(super) fn owner_of(kind: &FileActionKind) -> Option<&Chown> {
    match kind {
        FileActionKind::Copy(copy) => copy.owner.as_ref(),
        FileActionKind::Mkdir(directory) => directory.owner.as_ref(),
        FileActionKind::Mkfile(file) => file.owner.as_ref(),
        FileActionKind::Symlink(link) => link.owner.as_ref(),
        FileActionKind::Rm(_) => None,
    }
}

/// Tells which names of an owner `tree` does not have.
pub(in crate::solve) fn warn_of_owner(
    tree: &Root,
    wanted: Option<&Chown>,
    output: &StepOutput<'_, '_>,
) -> Result<(), BuildError> {
    let found = resolve_owner(tree, wanted)?;
    for warning in found.map(|found| found.warnings).unwrap_or_default() {
        output.write(
            OutputStream::Stderr,
            format!("warning: {warning}\n").as_bytes(),
        );
    }
    Ok(())
}

/// Returns the numbers of an owner; nothing where none is named.
pub(super) fn find_owner(
    tree: &Root,
    wanted: Option<&Chown>,
) -> Result<Option<(u32, u32)>, BuildError> {
    let found = resolve_owner(tree, wanted)?;
    Ok(found.map(|found| (found.uid, found.gid)))
}

/// Looks an owner up.
fn resolve_owner(
    tree: &Root,
    wanted: Option<&Chown>,
) -> Result<Option<owner::Resolved>, BuildError> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let mut is_nowhere = false;
    let mut account = |account: &Account| match account {
        Account::Id(id) => owner::Account::Id(*id),
        Account::Name { name, input } => {
            is_nowhere |= *input == FileInput::Scratch;
            owner::Account::Name(name.clone())
        }
    };
    let user = wanted.user.as_ref().map(&mut account);
    let wanted = Owner {
        group: match (&user, &wanted.group) {
            (_, Some(group)) => Some(account(group)),
            (None, None) => return Ok(None),
            (Some(_), None) => None,
        },
        user: user.unwrap_or(owner::Account::Id(0)),
    };
    if is_nowhere {
        return Err(BuildError::instruction(format!(
            "{} cannot be looked up: the step begins with no files and so with no /etc/passwd; name the owner by number",
            wanted.names().join(":")
        )));
    }
    owner::resolve(tree, &wanted).map(Some)
}
