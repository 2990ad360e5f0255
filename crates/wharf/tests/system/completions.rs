//! Completions, asked of the shells themselves: each loads the script that `wharf completion` prints.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Client, Daemon, program, skip};

const DRIVE_BASH: &str = include_str!("completions/drive.bash");
const DRIVE_ZSH: &str = include_str!("completions/drive.zsh");
/// Most seconds a shell may take to load its completion and answer.
const SHELL_LIMIT_SECONDS: &str = "120";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

/// Returns the shells that are installed; each other is skipped aloud.
fn shells() -> Vec<Shell> {
    let is_here = |shell: &Shell| {
        let mut asked = Command::new(shell.name());
        let asked = asked.args(["-c", "exit 0"]).stderr(Stdio::null());
        let is_here = asked.status().is_ok_and(|status| status.success());
        if !is_here {
            skip(&format!("{} is not installed", shell.name()));
        }
        is_here
    };
    let mut shells = vec![Shell::Bash, Shell::Zsh, Shell::Fish];
    shells.retain(is_here);
    shells
}

/// Returns what a shell offers for a line.
fn offered(d: &Daemon, shell: Shell, line: &str) -> Vec<String> {
    let script = d.path(&format!("completion.{}", shell.name()));
    if !script.exists() {
        let text = d.ok(Client::Wharf, &["completion", shell.name()]);
        d.write(&format!("completion.{}", shell.name()), text + "\n");
    }
    let home = d.path("home");
    std::fs::create_dir_all(&home).unwrap();
    let mut command = Command::new("timeout");
    command.args(["-k", "5", SHELL_LIMIT_SECONDS]);
    match shell {
        Shell::Bash => {
            let drive = d.write("drive.bash", DRIVE_BASH);
            command.args(["bash", "--norc", "--noprofile"]);
            command.args([drive.as_os_str(), script.as_os_str(), line.as_ref()]);
        }
        Shell::Zsh => {
            let drive = d.write("drive.zsh", DRIVE_ZSH);
            command.args(["zsh", "-f"]);
            command.args([drive.as_os_str(), script.as_os_str(), line.as_ref()]);
            command.arg(&home);
        }
        Shell::Fish => {
            let ask = format!("source {}; complete -C \"$argv[1]\"", script.display());
            command.args(["fish", "--no-config", "-c", &ask, line]);
        }
    }
    let like_a_client = d.command(Client::Wharf);
    for (name, value) in like_a_client.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let directory = program().parent().map(Path::to_owned).unwrap();
    let path = std::env::var("PATH").unwrap();
    command
        .env("PATH", format!("{}:{path}", directory.display()))
        .env("HOME", &home)
        .env("TERM", "dumb")
        .current_dir(d.path(""))
        .stdin(Stdio::null());
    let answer = command.output().unwrap();
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success(), "{shell:?} {line:?}: {said}");
    assert_eq!(said, "", "{shell:?} {line:?}");
    let mut words: Vec<String> = String::from_utf8_lossy(&answer.stdout)
        .lines()
        .map(|line| line.split('\t').next().unwrap().to_owned())
        .filter(|word| !word.is_empty())
        .collect();
    words.sort();
    words.dedup();
    words
}

/// Asserts what is offered: the same in all shells, but that bash replaces only what is behind the last `:` or `=`.
fn offers(d: &Daemon, line: &str, words: &[&str]) {
    for shell in shells() {
        let last = line.rsplit(' ').next().unwrap();
        let kept = match shell {
            Shell::Bash => last.rfind([':', '=']).map_or(0, |at| at + 1),
            Shell::Zsh if last.starts_with("--") => last.find('=').map_or(0, |at| at + 1),
            _ => 0,
        };
        let expected: Vec<&str> = words.iter().map(|word| &word[kept..]).collect();
        assert_eq!(offered(d, shell, line), expected, "{shell:?} {line:?}");
    }
}

fn filled() -> Daemon {
    let d = Daemon::with_busybox();
    d.ok(Client::Wharf, "run -d --name web busybox sleep 1000");
    d.ok(Client::Wharf, "run -d --name worker busybox sleep 1000");
    d.ok(Client::Wharf, "create --name waiting busybox true");
    d.ok(Client::Wharf, "pause worker");
    d.ok(Client::Wharf, "tag busybox reg.example:5000/team/app:1");
    d.ok(Client::Wharf, "tag busybox reg.example:5000/team/app:2");
    d.ok(Client::Wharf, "volume create data");
    d.ok(Client::Wharf, "network create backend");
    d.ok(
        Client::Wharf,
        "context create far --docker host=unix:///nowhere/wharf.sock",
    );
    d.write(
        "Dockerfile",
        "FROM busybox AS compile\nFROM busybox AS test\nFROM busybox\n",
    );
    d.write("other/Dockerfile", "FROM busybox AS only\n");
    d
}

#[test]
fn shells_complete_names() {
    let d = filled();
    for (line, words) in [
        ("wharf stop w", &["web", "worker"][..]),
        ("wharf exec -it we", &["web"]),
        ("wharf pause w", &["web"]),
        ("wharf unpause w", &["worker"]),
        ("wharf start w", &["waiting"]),
        ("wharf rm -f w", &["waiting", "web", "worker"]),
        // What is named already is not offered again.
        ("wharf container stop web w", &["worker"]),
        (
            "wharf run --rm reg.example:5000/team/app:",
            &["reg.example:5000/team/app:1", "reg.example:5000/team/app:2"],
        ),
        ("wharf rmi bu", &["busybox:latest"]),
        ("wharf volume rm d", &["data"]),
        ("wharf network rm ba", &["backend"]),
        ("wharf run --network ba", &["backend"]),
        ("wharf run --network=ba", &["--network=backend"]),
        ("wharf context use f", &["far"]),
        ("wharf --context f", &["far"]),
        ("wharf build --target ", &["compile", "test"]),
        ("wharf build -f other/Dockerfile --target ", &["only"]),
        ("wharf cp we", &["web:"]),
        ("wharf inspect da", &["data"]),
    ] {
        offers(&d, line, words);
    }
}

#[test]
fn shells_complete_commands_flags_and_words() {
    let d = Daemon::start();
    for (line, words) in [
        ("wharf volu", &["volume"][..]),
        ("wharf volume pr", &["prune"]),
        ("wharf run --cap-d", &["--cap-drop"]),
        (
            "wharf run --cap-drop CAP_SYS_T",
            &["CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG"],
        ),
        ("wharf run --pull n", &["never"]),
        ("wharf run --pull=n", &["--pull=never"]),
        ("wharf build --progress r", &["rawjson"]),
        ("wharf kill -s SIGK", &["SIGKILL"]),
    ] {
        offers(&d, line, words);
    }
    d.write("notes.txt", "");
    for shell in shells().into_iter().filter(|shell| *shell != Shell::Bash) {
        // Bash adds files by itself, behind the function.
        let line = "wharf run --env-file note";
        assert_eq!(offered(&d, shell, line), ["notes.txt"], "{shell:?}");
    }
}

#[test]
fn without_a_daemon_completions_are_quick_silent_and_start_none() {
    let d = Daemon::prepared();
    for line in ["wharf stop ", "wharf run ", "wharf --context none stop "] {
        offers(&d, line, &[]);
    }
    // A daemon that takes the call and never answers.
    let socket = d.path("deaf.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let begin = Instant::now();
    let host = format!("unix://{}", socket.display());
    let answer = d.call(Client::Wharf, &["__complete", "-H", &host, "stop", ""]);
    assert_eq!(answer.stdout, ":4\n");
    assert_eq!(answer.stderr, "");
    assert!(
        begin.elapsed() < Duration::from_secs(60),
        "it waited for the deaf daemon"
    );
}

#[test]
fn the_protocol_is_docker_s() {
    let d = filled();
    let answer = d.call(Client::Wharf, &["__complete", "volume", "r"]);
    assert_eq!(answer.stdout, "rm\tRemove volumes\n:4\n");
    let answer = d.call(Client::Wharf, &["__completeNoDesc", "volume", "rm", ""]);
    assert_eq!(answer.stdout, "data\n:4\n");
    let answer = d.call(Client::Wharf, &["__complete", "run", "--ulimit", "nof"]);
    assert_eq!(answer.stdout, "nofile=\n:6\n");
    let answer = d.call(Client::Wharf, &["__complete", "build", ""]);
    assert_eq!(answer.stdout, ":16\n");
    // A plugin completes its own command.
    let plugin = d.write(
        "client-config/cli-plugins/docker-greet",
        "#!/bin/sh\n[ \"$1\" = __complete ] && printf '%s\\n' \"$@\" :4\n",
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(plugin, mode).unwrap();
    let answer = d.call(Client::Wharf, &["__complete", "gre"]);
    assert_eq!(answer.stdout, "greet\n:4\n");
    let answer = d.call(Client::Wharf, &["__complete", "greet", "-a", "b"]);
    assert_eq!(answer.stdout, "__complete\ngreet\n-a\nb\n:4\n");
}

#[test]
fn manual_pages_are_read_without_a_warning() {
    let d = Daemon::prepared();
    d.ok(Client::Wharf, &["man", d.path("man").to_str().unwrap()]);
    let pages: Vec<_> = std::fs::read_dir(d.path("man"))
        .unwrap()
        .map(|page| page.unwrap().path())
        .collect();
    assert!(pages.len() > 100, "{} pages", pages.len());
    for (reader, arguments) in [
        ("groff", &["-ww", "-man", "-Tutf8", "-z"][..]),
        ("mandoc", &["-T", "lint", "-W", "warning"]),
    ] {
        let asked = Command::new(reader).args(arguments).args(&pages).output();
        let Ok(read) = asked else {
            skip(&format!("{reader} is not installed"));
            continue;
        };
        let said = [read.stdout, read.stderr].concat();
        assert_eq!(String::from_utf8_lossy(&said), "", "{reader}");
    }
}
