//! Limits of a process (`--ulimit`).

use std::fmt;

use crate::UnitError;

/// One `--ulimit`: a soft and a hard limit; -1 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// Resource name as in setrlimit(2), lower-case, without `RLIMIT_`.
    pub name: String,
    /// The limit that is in force.
    pub soft: i64,
    /// The ceiling the soft limit may be raised to.
    pub hard: i64,
}

impl fmt::Display for Ulimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}:{}", self.name, self.soft, self.hard)
    }
}

const ULIMIT_NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Returns the limit written as `name=soft[:hard]`.
///
/// # Errors
/// An unknown name, a value that is no number, or a soft limit above the hard one.
pub fn parse_ulimit(text: &str) -> Result<Ulimit, UnitError> {
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| UnitError(format!("invalid ulimit argument: {text}")))?;
    if !ULIMIT_NAMES.contains(&name) {
        return Err(UnitError(format!("invalid ulimit type: {name}")));
    }
    let (soft_text, hard_text) = match limits.split_once(':') {
        Some((soft, hard)) => (soft, Some(hard)),
        None => (limits, None),
    };
    let number = |part: &str| {
        part.parse::<i64>()
            .map_err(|_| UnitError(format!("invalid ulimit value: {part:?} is not an integer")))
    };
    if hard_text.is_some_and(|hard| hard.contains(':')) {
        return Err(UnitError(format!(
            "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
        )));
    }
    let soft = number(soft_text)?;
    let hard = hard_text.map(number).transpose()?.unwrap_or(soft);
    if hard != -1 {
        if soft == -1 {
            return Err(UnitError(format!(
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
            )));
        }
        if soft > hard {
            return Err(UnitError(format!(
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            )));
        }
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}
