//! Operations that change files.

use super::{Fault, invalid, output};
use crate::file::{
    Account, Chown, CopyAction, FileAction, FileActionKind, FileInput, FileOp, MkdirAction,
    MkfileAction, RmAction, SymlinkAction,
};
use crate::wire::encode::NONE;
use crate::wire::message::{self, FileActionKind as ActionMessage, UserKind};

/// Reads an operation that changes files; `count` is the number of its inputs.
pub(super) fn file_op(message: message::FileOp, count: usize) -> Result<FileOp, Fault> {
    if message.actions.is_empty() {
        return invalid("invalid file op with no actions");
    }
    let actions = message.actions.into_iter().enumerate();
    let actions = actions.map(|(number, action)| file_action(action, &Place { count, number }));
    Ok(FileOp {
        actions: actions.collect::<Result<_, _>>()?,
    })
}

/// Where an action stands.
struct Place {
    /// Inputs of the operation.
    count: usize,
    /// The action's own number.
    number: usize,
}

impl Place {
    /// Reads the number of an input or of an action above; -1 is neither.
    fn input(&self, number: i64) -> Result<FileInput, Fault> {
        if number == NONE {
            return Ok(FileInput::Scratch);
        }
        match usize::try_from(number) {
            Ok(index) if index < self.count => Ok(FileInput::Input(index)),
            Ok(index) if index < self.count + self.number => {
                Ok(FileInput::Action(index - self.count))
            }
            _ => invalid(format!(
                "action {} takes {number}: there are {} inputs and {} actions above",
                self.number, self.count, self.number
            )),
        }
    }

    fn account(&self, message: Option<message::UserOpt>) -> Result<Option<Account>, Fault> {
        Ok(match message.and_then(|message| message.user) {
            None => None,
            Some(UserKind::ById(id)) => Some(Account::Id(id)),
            Some(UserKind::ByName(named)) => Some(Account::Name {
                name: named.name,
                input: self.input(named.input)?,
            }),
        })
    }

    fn owner(&self, message: Option<message::ChownOpt>) -> Result<Option<Chown>, Fault> {
        let Some(message) = message else {
            return Ok(None);
        };
        Ok(Some(Chown {
            user: self.account(message.user)?,
            group: self.account(message.group)?,
        }))
    }
}

fn file_action(message: message::FileAction, place: &Place) -> Result<FileAction, Fault> {
    let Some(kind) = message.action else {
        return invalid(format!(
            "action {} does nothing that is known here",
            place.number
        ));
    };
    let kind = match kind {
        ActionMessage::Copy(copy) => FileActionKind::Copy(copy_action(copy, place)?),
        ActionMessage::Mkfile(file) => FileActionKind::Mkfile(MkfileAction {
            path: file.path,
            mode: mode(file.mode)?,
            data: file.data,
            owner: place.owner(file.owner)?,
            timestamp_ns: time(file.timestamp),
        }),
        ActionMessage::Mkdir(directory) => FileActionKind::Mkdir(MkdirAction {
            path: directory.path,
            mode: mode(directory.mode)?,
            make_parents: directory.make_parents,
            owner: place.owner(directory.owner)?,
            timestamp_ns: time(directory.timestamp),
        }),
        ActionMessage::Rm(remove) => FileActionKind::Rm(RmAction {
            path: remove.path,
            allow_not_found: remove.allow_not_found,
            allow_wildcard: remove.allow_wildcard,
        }),
        ActionMessage::Symlink(link) => FileActionKind::Symlink(SymlinkAction {
            target: link.oldpath,
            path: link.newpath,
            owner: place.owner(link.owner)?,
            timestamp_ns: time(link.timestamp),
        }),
    };
    Ok(FileAction {
        input: place.input(message.input)?,
        secondary: place.input(message.secondary_input)?,
        output: output(message.output)?,
        kind,
    })
}

fn copy_action(copy: message::FileActionCopy, place: &Place) -> Result<CopyAction, Fault> {
    let is_unset = copy.mode == -1 || (copy.mode == 0 && !copy.mode_str.is_empty());
    Ok(CopyAction {
        source: copy.src,
        destination: copy.dest,
        owner: place.owner(copy.owner)?,
        mode: if is_unset {
            None
        } else {
            Some(mode(copy.mode)?)
        },
        mode_text: copy.mode_str,
        follow_symlink: copy.follow_symlink,
        dir_copy_contents: copy.dir_copy_contents,
        attempt_unpack: copy.attempt_unpack,
        create_dest_path: copy.create_dest_path,
        allow_wildcard: copy.allow_wildcard,
        allow_empty_wildcard: copy.allow_empty_wildcard,
        timestamp_ns: time(copy.timestamp),
        include_patterns: copy.include_patterns,
        exclude_patterns: copy.exclude_patterns,
        always_replace: copy.always_replace,
        required_paths: copy.required_paths,
    })
}

/// Reads permissions.
fn mode(number: i32) -> Result<u32, Fault> {
    u32::try_from(number).or_else(|_| invalid(format!("{number} are no permissions")))
}

/// Reads a time in nanoseconds since 1970; -1 is none.
fn time(nanoseconds: i64) -> Option<i64> {
    (nanoseconds != NONE).then_some(nanoseconds)
}
