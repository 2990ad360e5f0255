//! What completes an argument's value: known by what the value is called in the help.

use clap::Arg;

/// What may stand for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Names of containers.
    Containers(State),
    /// Names of images.
    Images,
    /// Names of networks.
    Networks,
    /// Names of volumes.
    Volumes,
    /// Names of anything that can be inspected.
    Objects,
    /// Names of contexts.
    Contexts,
    /// Stages of the Dockerfile.
    Stages,
    /// A container and a path in it, or a path of this machine.
    PathInContainer,
    /// Fixed words.
    Words(&'static [&'static str]),
    /// Names of the caller's variables.
    Variables,
    /// Files.
    Files,
    /// Directories.
    Directories,
    /// Free text.
    Nothing,
}

/// Which containers are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All.
    Any,
    /// Those that run.
    Running,
    /// Those that run and are not frozen.
    Unfrozen,
    /// Those that are frozen.
    Frozen,
    /// Those that can be started.
    Startable,
}

const CAPABILITIES: &[&str] = &[
    "ALL",
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];
const SIGNALS: &[&str] = &[
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGSTOP",
    "SIGCONT", "SIGWINCH", "SIGABRT", "SIGALRM", "SIGPIPE", "SIGTSTP",
];
const PLATFORMS: &[&str] = &[
    "linux/386",
    "linux/amd64",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/arm64",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
];
const LIMITS: &[&str] = &[
    "core=",
    "cpu=",
    "data=",
    "fsize=",
    "locks=",
    "memlock=",
    "msgqueue=",
    "nice=",
    "nofile=",
    "nproc=",
    "rss=",
    "rtprio=",
    "sigpending=",
    "stack=",
];
const SECURITY: &[&str] = &[
    "apparmor=",
    "label=",
    "no-new-privileges",
    "seccomp=",
    "systempaths=unconfined",
];
const LOG_OPTIONS: &[&str] = &[
    "compress=",
    "env=",
    "env-regex=",
    "labels=",
    "labels-regex=",
    "max-buffer-size=",
    "max-file=",
    "max-size=",
    "mode=",
    "tag=",
];
const LOG_DRIVERS: &[&str] = &["journald", "json-file", "local", "none", "syslog"];

/// Returns what completes the value of an argument of the command with these words.
pub fn of(path: &[&str], argument: &Arg) -> Values {
    let name = argument
        .get_value_names()
        .and_then(|names| names.first())
        .map(|name| name.as_str().to_owned())
        .unwrap_or_default();
    // Several words in one argument: the first is what the first value is.
    let name = name.split([' ', '[']).next().unwrap_or_default();
    if let Some(values) = by_flag(path, argument.get_long().unwrap_or_default()) {
        return values;
    }
    match name {
        "CONTAINER" => Values::Containers(state(path)),
        "IMAGE" => Values::Images,
        "NAME" if matches!(path, [.., "pull" | "push" | "tag"]) => Values::Images,
        "NETWORK" => Values::Networks,
        "VOLUME" if argument.is_positional() => Values::Volumes,
        // A new one has a new name.
        "CONTEXT" if matches!(path, ["context", "create" | "import"]) => Values::Nothing,
        "CONTEXT" => Values::Contexts,
        "NAME|ID" => Values::Objects,
        "SOURCE" | "DESTINATION" => Values::PathInContainer,
        "STAGE" => Values::Stages,
        "FILE" | "FILE|URL|-" | "TYPE|PATH" => Values::Files,
        "DIRECTORY" | "PATH|URL|-" => Values::Directories,
        "PLATFORM" => Values::Words(PLATFORMS),
        "SIGNAL" => Values::Words(SIGNALS),
        "CAPABILITY" => Values::Words(CAPABILITIES),
        "POLICY" => Values::Words(&[
            "always",
            "no",
            "on-failure",
            "on-failure:",
            "unless-stopped",
        ]),
        "STREAM" => Values::Words(&["stderr", "stdin", "stdout"]),
        "TECHNOLOGY" => Values::Words(&["default"]),
        "LEVEL" => Values::Words(&["debug", "info", "warn", "error", "fatal"]),
        "FORMAT" => Values::Words(&["json", "table"]),
        "BOOL" => Values::Words(&["false", "true"]),
        "METHOD" => Values::Words(&["build", "check", "outline", "targets"]),
        _ => Values::Nothing,
    }
}

/// Returns what completes flags whose values are called as others are.
fn by_flag(path: &[&str], long: &str) -> Option<Values> {
    Some(match long {
        "cgroupns" => Values::Words(&["host", "private"]),
        "ipc" => Values::Words(&["container:", "host", "none", "private", "shareable"]),
        "pid" => Values::Words(&["container:", "host"]),
        "userns" | "uts" => Values::Words(&["host"]),
        "network" if matches!(path, [.., "build"]) => Values::Words(&["default", "host", "none"]),
        "log-driver" => Values::Words(LOG_DRIVERS),
        "log-opt" => Values::Words(LOG_OPTIONS),
        "volume-driver" => Values::Words(&["local"]),
        "driver" if path.first() == Some(&"volume") => Values::Words(&["local"]),
        "driver" => Values::Words(&["bridge", "ipvlan", "macvlan"]),
        "security-opt" => Values::Words(SECURITY),
        "ulimit" => Values::Words(LIMITS),
        "env" | "build-arg" => Values::Variables,
        "link" => Values::Containers(State::Any),
        "volume" | "workdir" | "tmpfs" => Values::Directories,
        "progress" => Values::Words(&["auto", "none", "plain", "quiet", "rawjson", "tty"]),
        "type" => Values::Words(&["container", "image", "network", "volume"]),
        "context" => Values::Contexts,
        "mount" => Values::Words(&["type=bind", "type=image", "type=tmpfs", "type=volume"]),
        "device" => Values::Files,
        "on-error" => Values::Words(&["shell"]),
        "allow" => Values::Words(&["network.host", "security.insecure"]),
        "detach-keys" => Values::Words(&["ctrl-"]),
        _ => return None,
    })
}

/// Returns which containers a command is for.
fn state(path: &[&str]) -> State {
    match path.last().copied().unwrap_or_default() {
        "attach" | "exec" | "kill" | "port" | "stats" | "stop" | "top" | "wait" => State::Running,
        "pause" => State::Unfrozen,
        "unpause" => State::Frozen,
        "start" => State::Startable,
        _ => State::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Free text, and what no list can complete.
    const FREE: [&str; 12] = [
        "NAME",
        "NEW_NAME",
        "PORT",
        "PORT[/PROTOCOL]",
        "TERM",
        "REPOSITORY[:TAG]",
        "SERVER",
        "BUILD",
        "STEP",
        "CACHE",
        "MANIFEST",
        "MANIFEST_LIST",
    ];

    fn check(command: &clap::Command, path: &[&str], unknown: &mut Vec<String>) {
        for argument in command.get_positionals() {
            let name = argument.get_value_names().unwrap()[0].as_str();
            let is_known = !argument.get_possible_values().is_empty()
                || of(path, argument) != Values::Nothing
                || matches!(path, ["context", "create" | "import"])
                || FREE.contains(&name);
            if !is_known {
                unknown.push(format!("{} {name}", path.join(" ")));
            }
        }
        for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
            check(below, &[path, &[below.get_name()]].concat(), unknown);
        }
    }

    #[test]
    fn every_argument_is_completed_or_known_to_be_free() {
        let mut unknown = Vec::new();
        check(&crate::command(), &[], &mut unknown);
        assert_eq!(unknown, Vec::<String>::new());
    }
}
