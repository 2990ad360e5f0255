//! What the instructions that change only the config do to it (spec llb §7.5).

use wharf_dockerfile::instruction::{CommandLine, Healthcheck};
use wharf_image::{ContainerConfig, Empty};

use crate::ports;

/// Search path of programs where an image sets none (spec llb §7.2).
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The shell of shell-form instructions where SHELL sets none.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The signals that STOPSIGNAL takes by name, without `SIG` (signal(7), Linux).
const SIGNAL_NAMES: [&str; 37] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
    "UNUSED",
];

/// Largest distance in `RTMIN+n` and `RTMAX-n`.
const MAX_REAL_TIME_OFFSET: u8 = 15;

/// Returns the value of a variable of an environment list.
pub(crate) fn env_value<'a>(env: &'a [String], key: &str) -> Option<&'a str> {
    env.iter().find_map(|entry| match entry.split_once('=') {
        Some((name, value)) if name == key => Some(value),
        None if entry == key => Some(""),
        _ => None,
    })
}

/// Sets a variable: in its place where it is there, else at the end.
pub(crate) fn set_env(env: &mut Vec<String>, key: &str, value: &str) {
    let entry = format!("{key}={value}");
    let is_same =
        |old: &&mut String| old.split_once('=').map_or(old.as_str(), |(name, _)| name) == key;
    match env.iter_mut().find(is_same) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// Returns the shell that runs shell-form instructions.
pub(crate) fn shell(config: &ContainerConfig) -> Vec<String> {
    if config.shell.is_empty() {
        DEFAULT_SHELL.map(str::to_owned).to_vec()
    } else {
        config.shell.clone()
    }
}

/// Returns the arguments that a command in shell or exec form means.
pub(crate) fn command_arguments(config: &ContainerConfig, command: &CommandLine) -> Vec<String> {
    if !command.is_shell {
        return command.arguments.clone();
    }
    // The shell gets one text, also where nothing is written.
    let mut arguments = shell(config);
    arguments.push(command.arguments.join(" "));
    arguments
}

/// An empty list is written as none (spec image-store §3).
fn filled(arguments: Vec<String>) -> Option<Vec<String>> {
    (!arguments.is_empty()).then_some(arguments)
}

/// Applies CMD; BuildKit sets `args_escaped` whatever the form.
pub(crate) fn set_cmd(config: &mut ContainerConfig, command: &CommandLine) {
    config.cmd = filled(command_arguments(config, command));
    config.args_escaped = true;
}

/// Applies ENTRYPOINT; a Cmd that the base image set goes with its entrypoint.
pub(crate) fn set_entrypoint(
    config: &mut ContainerConfig,
    command: &CommandLine,
    has_own_cmd: bool,
) {
    config.entrypoint = filled(command_arguments(config, command));
    if !has_own_cmd {
        config.cmd = None;
    }
}

/// Applies a word of EXPOSE and returns its ports as they are shown.
///
/// # Errors
/// A word that is no port, range or mapping.
pub(crate) fn expose(config: &mut ContainerConfig, word: &str) -> Result<Vec<String>, String> {
    let shown = ports::parse(word)?;
    for port in &shown {
        config.exposed_ports.insert(port.clone(), Empty {});
    }
    Ok(shown)
}

/// Applies HEALTHCHECK.
pub(crate) fn set_healthcheck(config: &mut ContainerConfig, check: &Healthcheck) {
    config.healthcheck = Some(wharf_image::Healthcheck {
        test: check.test.clone(),
        interval: check.interval_ns,
        timeout: check.timeout_ns,
        start_period: check.start_period_ns,
        start_interval: check.start_interval_ns,
        retries: i64::from(check.retries),
    });
}

/// Applies STOPSIGNAL.
///
/// # Errors
/// Docker's text for a signal that does not exist.
pub(crate) fn set_stop_signal(config: &mut ContainerConfig, signal: &str) -> Result<(), String> {
    if !is_signal(signal) {
        return Err(format!("invalid signal: {signal}"));
    }
    config.stop_signal = signal.to_owned();
    Ok(())
}

/// Applies VOLUME.
pub(crate) fn add_volumes(config: &mut ContainerConfig, volumes: &[String]) -> Result<(), String> {
    for volume in volumes {
        if volume.is_empty() {
            return Err("VOLUME specified can not be an empty string".to_owned());
        }
        config.volumes.insert(volume.clone(), Empty {});
    }
    Ok(())
}

/// Returns the working directory that WORKDIR leads to from an earlier one: absolute and clean.
pub(crate) fn join_workdir(current: &str, path: &str) -> String {
    if path.starts_with('/') {
        clean_absolute(path)
    } else {
        clean_absolute(&format!("{current}/{path}"))
    }
}

/// Returns an absolute path without `.`, `..` and double slashes.
pub(crate) fn clean_absolute(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn is_signal(text: &str) -> bool {
    // Of numbers BuildKit refuses only 0; other systems have other signals.
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let name = text.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = name
        .strip_prefix("RTMIN+")
        .or_else(|| name.strip_prefix("RTMAX-"));
    match real_time {
        Some(offset) => offset
            .parse::<u8>()
            .is_ok_and(|offset| (1..=MAX_REAL_TIME_OFFSET).contains(&offset)),
        None => SIGNAL_NAMES.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::{clean_absolute, env_value, is_signal, join_workdir, set_env};

    #[test]
    fn variables_keep_their_place() {
        let mut env = vec!["A=1".to_owned(), "B=2".to_owned()];
        set_env(&mut env, "A", "3");
        set_env(&mut env, "C", "");
        assert_eq!(env, ["A=3", "B=2", "C="]);
        assert_eq!(env_value(&env, "B"), Some("2"));
        assert_eq!(env_value(&env, "D"), None);
    }

    #[test]
    fn working_directories_are_joined() {
        for (current, path, expected) in [
            ("/", "a", "/a"),
            ("/a", "../b/", "/b"),
            ("/a", "/", "/"),
            ("", ".", "/"),
            ("/a", "../../..", "/"),
        ] {
            assert_eq!(join_workdir(current, path), expected, "{current} {path}");
        }
        assert_eq!(clean_absolute("//a/./b//"), "/a/b");
    }

    #[test]
    fn signals() {
        for good in ["SIGTERM", "term", "9", "64", "SIGRTMIN+3", "RTMAX-15"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "base", "0", "SIGRTMIN+16", "SIG"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
