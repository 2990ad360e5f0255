//! Which devices a container may open: the devices controller on version 1, a program on version 2.

use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::cgroup::device_program;
use crate::error::{Result, RuntimeError};

/// The most rules of one container.
const MAX_RULES: usize = 4096;

/// A rule: what, which number (none means any), and `r`, `w`, `m`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whether access is given or taken.
    pub allow: bool,
    /// `a`, `b` or `c`.
    pub kind: char,
    /// The major number.
    pub major: Option<u32>,
    /// The minor number.
    pub minor: Option<u32>,
    /// Some of `r`, `w`, `m`.
    pub access: String,
}

/// What every container may use, after the rules of its own (spec runtime §2.6): making nodes, the
/// standard devices, terminals.
const ALWAYS: [(char, Option<u32>, Option<u32>, &str); 11] = [
    ('c', None, None, "m"),
    ('b', None, None, "m"),
    ('c', Some(1), Some(3), "rwm"),
    ('c', Some(1), Some(5), "rwm"),
    ('c', Some(1), Some(7), "rwm"),
    ('c', Some(1), Some(8), "rwm"),
    ('c', Some(1), Some(9), "rwm"),
    ('c', Some(5), Some(0), "rwm"),
    ('c', Some(5), Some(2), "rwm"),
    ('c', Some(136), None, "rwm"),
    ('c', Some(10), Some(200), "rwm"),
];

/// Returns the rules in force: what comes after the last rule about everything, and the standard ones.
pub fn effective(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    if rules.len() > MAX_RULES {
        let reason = format!("{} rules, at most {MAX_RULES}", rules.len());
        return Err(RuntimeError::invalid("device rules", reason));
    }
    let mut effective: Vec<Rule> = Vec::new();
    for rule in rules {
        let rule = convert(rule)?;
        if rule.kind == 'a' {
            effective.clear();
        }
        if !effective.contains(&rule) {
            effective.push(rule);
        }
    }
    if effective.is_empty()
        || matches!(effective.as_slice(), [only] if only.allow && only.kind == 'a')
    {
        return Ok(effective);
    }
    for (kind, major, minor, access) in ALWAYS {
        let rule = Rule {
            allow: true,
            kind,
            major,
            minor,
            access: access.to_owned(),
        };
        if !effective.contains(&rule) {
            effective.push(rule);
        }
    }
    Ok(effective)
}

fn convert(rule: &LinuxDeviceCgroup) -> Result<Rule> {
    let number = |value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| RuntimeError::invalid("device rule", format!("number {value}"))),
    };
    let kind = match rule.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => 'a',
        LinuxDeviceType::B => 'b',
        LinuxDeviceType::C | LinuxDeviceType::U => 'c',
        LinuxDeviceType::P => {
            let reason = "a FIFO is no device".to_owned();
            return Err(RuntimeError::invalid("device rule", reason));
        }
    };
    let access = rule.access().as_deref().unwrap_or("rwm");
    if access.is_empty() || !access.chars().all(|letter| "rwm".contains(letter)) {
        let reason = format!("access {access:?} is not some of r, w, m");
        return Err(RuntimeError::invalid("device rule", reason));
    }
    Ok(Rule {
        allow: rule.allow(),
        kind,
        major: number(rule.major())?,
        minor: number(rule.minor())?,
        access: access.to_owned(),
    })
}

/// Writes the rules to the devices controller.
pub fn apply_v1(
    rules: &[LinuxDeviceCgroup],
    write: impl Fn(&str, &str) -> Result<()>,
) -> Result<()> {
    for rule in effective(rules)? {
        let file = if rule.allow {
            "devices.allow"
        } else {
            "devices.deny"
        };
        if rule.kind == 'a' {
            write(file, "a")?;
            continue;
        }
        let number = |value: Option<u32>| value.map_or("*".to_owned(), |value| value.to_string());
        let (major, minor) = (number(rule.major), number(rule.minor));
        write(
            file,
            &format!("{} {major}:{minor} {}", rule.kind, rule.access),
        )?;
    }
    Ok(())
}

/// Attaches a program that decides by the rules.
pub fn apply_v2(rules: &[LinuxDeviceCgroup], directory: &Path) -> Result<()> {
    let rules = effective(rules)?;
    if rules.is_empty() {
        return Ok(());
    }
    device_program::attach(&rules, directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> Vec<String> {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        let lines = std::cell::RefCell::new(Vec::new());
        apply_v1(&rules, |file, rule| {
            lines.borrow_mut().push(format!("{file} {rule}"));
            Ok(())
        })
        .unwrap();
        lines.into_inner()
    }

    #[test]
    fn only_what_follows_the_last_rule_about_everything_is_written() {
        let lines = written(
            r#"[{"allow": true, "type": "c", "major": 4, "access": "r"},
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
                {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]"#,
        );
        assert_eq!(lines[0], "devices.deny a");
        assert_eq!(lines[1], "devices.allow c 1:3 rwm");
        assert_eq!(lines[2], "devices.deny c 10:229 rwm");
        assert_eq!(lines.len(), 3 + ALWAYS.len() - 1);
        assert_eq!(lines.last().unwrap(), "devices.allow c 10:200 rwm");
    }

    #[test]
    fn privileged_is_one_line_and_no_rules_are_none() {
        assert_eq!(
            written(r#"[{"allow": true, "access": "rwm"}]"#),
            ["devices.allow a"]
        );
        assert!(written("[]").is_empty());
    }

    #[test]
    fn odd_rules_are_refused() {
        for json in [
            r#"[{"allow": true, "type": "c", "access": "x"}]"#,
            r#"[{"allow": true, "type": "p", "access": "r"}]"#,
            r#"[{"allow": true, "type": "c", "major": -7, "access": "r"}]"#,
        ] {
            let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
            assert!(effective(&rules).is_err(), "{json}");
        }
    }
}
