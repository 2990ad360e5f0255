//! HEALTHCHECK.

use crate::ast::Node;
use crate::error::Error;
use crate::instruction::Healthcheck;
use crate::instruction::duration;
use crate::instruction::flags::{FlagKind, FlagSpec, Flags};
use crate::instruction::interpret::Problem;
use crate::instruction::run::command_arguments;

/// The shortest interval and timeout other than 0 (the kernel's timers could do less; docker does not).
const MIN_INTERVAL_NS: i64 = 1_000_000;

const FLAGS: &[FlagSpec] = &[
    ("interval", FlagKind::Text),
    ("retries", FlagKind::Text),
    ("start-interval", FlagKind::Text),
    ("start-period", FlagKind::Text),
    ("timeout", FlagKind::Text),
];

/// Reads HEALTHCHECK.
pub(super) fn healthcheck(node: &Node) -> Result<Healthcheck, Problem> {
    let Some((kind_word, command)) = node.arguments.split_first() else {
        return Err(Error::AtLeastOneArgument {
            keyword: "HEALTHCHECK",
        }
        .into());
    };
    let kind = kind_word.text.to_uppercase();
    if kind == "NONE" {
        return match command.first() {
            None => Ok(Healthcheck {
                test: vec![kind],
                ..Healthcheck::default()
            }),
            Some(word) => Err(Problem::from(Error::HealthcheckNoneArguments).at(word.span.clone())),
        };
    }
    let flags = Flags::parse(&node.flags, FLAGS)?;
    if kind != "CMD" {
        return Err(Problem::from(Error::HealthcheckType { kind }).at(kind_word.span.clone()));
    }
    let arguments = command_arguments(command, node.is_json);
    if arguments.is_empty() {
        return Err(Error::HealthcheckNoCommand.into());
    }
    let mut test = vec![if node.is_json {
        kind
    } else {
        "CMD-SHELL".to_owned()
    }];
    test.extend(arguments);
    Ok(Healthcheck {
        test,
        interval_ns: interval(&flags, "interval")?,
        timeout_ns: interval(&flags, "timeout")?,
        start_period_ns: interval(&flags, "start-period")?,
        start_interval_ns: interval(&flags, "start-interval")?,
        retries: retries(&flags)?,
    })
}

fn interval(flags: &Flags, name: &str) -> Result<i64, Problem> {
    let Some(word) = flags
        .words(name)
        .first()
        .filter(|word| !word.text.is_empty())
    else {
        return Ok(0);
    };
    let interval_ns = duration::parse_ns(&word.text)
        .map_err(|error| Problem::from(error).at(word.span.clone()))?;
    if interval_ns != 0 && interval_ns < MIN_INTERVAL_NS {
        let error = Error::IntervalTooShort {
            flag: name.to_owned(),
        };
        return Err(Problem::from(error).at(word.span.clone()));
    }
    Ok(interval_ns)
}

fn retries(flags: &Flags) -> Result<i32, Problem> {
    let Some(word) = flags
        .words("retries")
        .first()
        .filter(|word| !word.text.is_empty())
    else {
        return Ok(0);
    };
    let text = &word.text;
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let error = match text.parse::<i32>() {
        Ok(retries) if retries >= 0 => return Ok(retries),
        Ok(retries) => Error::NegativeRetries {
            value: i64::from(retries),
        },
        Err(_) => Error::InvalidNumber {
            value: text.clone(),
            reason: if is_number {
                "value out of range"
            } else {
                "invalid syntax"
            },
        },
    };
    Err(Problem::from(error).at(word.span.clone()))
}
