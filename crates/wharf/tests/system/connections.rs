//! How clients find the daemon: contexts, environment, ssh, plugins, and starting one.

use crate::harness::{Client, Daemon, clients};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Calls a client without `DOCKER_HOST`.
fn call(d: &Daemon, client: Client, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    d.command(client)
        .env_remove("DOCKER_HOST")
        .envs(variables.iter().copied())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

fn script(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn contexts_are_shared_with_docker_s_client() {
    for creator in clients() {
        let d = Daemon::start();
        let host = format!("host=unix://{}", d.path("wharf.sock").display());
        let create = [
            "context",
            "create",
            "here",
            "--description",
            "this one",
            "--docker",
            &host,
        ];
        let output = call(&d, creator, &create, &[]);
        assert_eq!(text(&output.stdout), "here", "{}", text(&output.stderr));
        assert_eq!(
            text(&output.stderr),
            "Successfully created context \"here\""
        );
        for user in clients() {
            let output = call(
                &d,
                user,
                &["--context", "here", "info", "--format", "{{.ID}}"],
                &[],
            );
            assert!(
                output.status.success(),
                "{user:?}: {}",
                text(&output.stderr)
            );
            let output = call(
                &d,
                user,
                &["info", "--format", "{{.ID}}"],
                &[("DOCKER_CONTEXT", "here")],
            );
            assert!(
                output.status.success(),
                "{user:?}: {}",
                text(&output.stderr)
            );
            let output = call(&d, user, &["context", "use", "here"], &[]);
            assert_eq!(text(&output.stderr), "Current context is now \"here\"");
            let output = call(&d, user, &["context", "show"], &[]);
            assert_eq!(text(&output.stdout), "here");
            let output = call(
                &d,
                user,
                &["version", "--format", "{{.Client.Context}} {{.Server.Os}}"],
                &[],
            );
            assert_eq!(text(&output.stdout), "here linux");
            let ls = [
                "context",
                "ls",
                "--format",
                "{{.Name}}|{{.Description}}|{{.Current}}",
            ];
            let output = call(&d, user, &ls, &[]);
            assert_eq!(
                text(&output.stdout),
                "default|Current DOCKER_HOST based configuration|false\nhere|this one|true"
            );
            let output = call(&d, user, &["context", "use", "default"], &[]);
            assert!(output.status.success());
        }
    }
}

/// Every context command with the same output by both clients.
#[test]
fn context_commands_say_what_docker_s_say() {
    if clients().len() < 2 {
        return;
    }
    let transcript = |client: Client| {
        let d = Daemon::prepared();
        let lines: &[&[&str]] = &[
            &[
                "context",
                "create",
                "one",
                "--description",
                "d e",
                "--docker",
                "host=tcp://h:1",
            ],
            &["context", "create", "one"],
            &["context", "create", "default"],
            &["context", "create", "b!"],
            &["context", "create", "two", "--from", "one"],
            &["context", "create", "bad", "--docker", "foo=1"],
            &["context", "ls"],
            &["context", "ls", "-q"],
            &["context", "ls", "--format", "json"],
            &["context", "inspect", "two"],
            &[
                "context",
                "inspect",
                "one",
                "--format",
                "{{.Name}} {{json .Endpoints}}",
            ],
            &["context", "inspect", "none"],
            &["context", "use", "one"],
            &["context", "rm", "one"],
            &["context", "rm", "default"],
            &["context", "rm", "none"],
            &["context", "use", "none"],
            &["context", "update", "one", "--description", "new"],
            &["context", "export", "one", "one.tar"],
            &["context", "import", "three", "one.tar"],
            &["context", "import", "three", "one.tar"],
            &["context", "inspect", "three", "--format", "{{.Name}}"],
            &["context", "rm", "-f", "one"],
            &["context", "show"],
            &["context", "ls", "--format", "{{.Name}} {{.Error}}"],
            &["--context", "none", "ps"],
            &["--context", "two", "--host", "unix:///x", "ps"],
            &["-l", "loud", "ps"],
            &["-H", "foo://x", "ps"],
            &["-H", "unix:///nonexistent/x.sock", "ps"],
            &["nope"],
            &["container", "nope"],
        ];
        let mut all = String::new();
        for line in lines {
            let output = call(&d, client, line, &[]);
            let own = d.path("").display().to_string();
            let said = format!(
                "$ {line:?} -> {:?}\n{}\n{}\n",
                output.status.code(),
                text(&output.stdout),
                text(&output.stderr)
            );
            // What differs on purpose: each client's own name, directory and default socket.
            all.push_str(
                &said
                    .replace(&own, "DIR/")
                    .replace("docker:", "NAME:")
                    .replace("wharf:", "NAME:")
                    .replace("docker nope", "NAME nope")
                    .replace("wharf nope", "NAME nope")
                    .replace("docker container", "NAME container")
                    .replace("wharf container", "NAME container")
                    .replace("'docker ", "'NAME ")
                    .replace("'wharf ", "'NAME ")
                    .replace("unix:///var/run/docker.sock", "unix:///run/wharf.sock"),
            );
        }
        all.lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let (ours, theirs) = (transcript(Client::Wharf), transcript(Client::Docker));
    let differing: Vec<String> = ours
        .lines()
        .zip(theirs.lines())
        .filter(|(ours, theirs)| ours != theirs)
        .map(|(ours, theirs)| format!("- {theirs}\n+ {ours}"))
        .collect();
    assert!(
        differing.is_empty() && ours.lines().count() == theirs.lines().count(),
        "{}\n\n{ours}",
        differing.join("\n")
    );
}

/// A stand-in for ssh runs what it is told on this machine.
#[test]
fn daemons_behind_ssh() {
    let mut d = Daemon::prepared();
    d.launch();
    d.import("busybox");
    let bin = d.path("bin");
    script(
        &bin.join("ssh"),
        &format!(
            "#!/bin/sh\necho \"$@\" >> {0}/ssh.log\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nexec sh -c \"$*\"\n",
            d.path("").display()
        ),
    );
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_wharf"), bin.join("wharf")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_wharf"), bin.join("docker")).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let host = format!("ssh://me@far:2222{}", d.path("wharf.sock").display());
    for client in clients() {
        let run = ["--host", &host, "run", "--rm", "-i", "busybox", "cat"];
        let mut child = d
            .command(client)
            .env_remove("DOCKER_HOST")
            .env("PATH", &path)
            // What ssh starts on the far side finds its daemon by itself.
            .args(run)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"across\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            text(&output.stdout),
            "across",
            "{client:?}: {}",
            text(&output.stderr)
        );
    }
    let log = std::fs::read_to_string(d.path("ssh.log")).unwrap();
    assert!(log.contains("-T -l me -p 2222 -- far"), "{log}");
}

#[test]
fn plugins_are_commands() {
    let d = Daemon::start();
    script(
        &d.path("client-config/cli-plugins/docker-greet"),
        "#!/bin/sh\n[ \"$1\" = docker-cli-plugin-metadata ] && { echo '{\"SchemaVersion\":\"0.1.0\",\"Vendor\":\"V\",\"Version\":\"v1\",\"ShortDescription\":\"Greets\"}'; exit; }\necho \"args: $* host: $DOCKER_HOST\"\nexit 7\n",
    );
    d.write(
        "client-config/config.json",
        r#"{"aliases": {"builder": "greet"}, "currentContext": "", "HttpHeaders": {"X-Test": "1"}}"#,
    );
    let output = d
        .command(Client::Wharf)
        .args(["-D", "greet", "--flag", "x"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(
        text(&output.stdout).starts_with("args: -D greet --flag x host: unix://"),
        "{}",
        text(&output.stdout)
    );
    let output = d
        .command(Client::Wharf)
        .args(["builder", "prune"])
        .output()
        .unwrap();
    assert!(
        text(&output.stdout).starts_with("args: greet prune"),
        "{}",
        text(&output.stdout)
    );
    let info = d.ok(Client::Wharf, "info");
    assert!(info.contains("greet: Greets (V)"), "{info}");
    let output = d
        .command(Client::Wharf)
        .args(["-D", "version"])
        .output()
        .unwrap();
    assert!(text(&output.stderr).contains("debug: GET /v1.51/version"));
}

#[test]
fn under_the_name_docker_it_is_docker() {
    let d = Daemon::start();
    let link = d.path("docker");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_wharf"), &link).unwrap();
    let output = Command::new(&link).arg("imags").output().unwrap();
    assert_eq!(
        text(&output.stderr),
        "docker: unknown command: docker imags\n\nDid you mean this?\n\tdocker images\n\tdocker image\n\nRun 'docker --help' for more information"
    );
    let mut command = d.command(Client::Wharf);
    let output = command
        .arg0("docker")
        .args(["ps", "--nope"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).starts_with("unknown flag: --nope\n\nUsage:  docker ps"));
    for shell in ["bash", "zsh", "fish"] {
        let script = d.ok(Client::Wharf, &["completion", shell]);
        assert!(script.contains("wharf") && script.len() > 1000, "{shell}");
    }
    d.ok(Client::Wharf, &["man", d.path("man").to_str().unwrap()]);
    let pages = std::fs::read_dir(d.path("man")).unwrap().count();
    assert!(pages > 60, "{pages} pages");
}

#[test]
fn the_api_version_may_be_fixed() {
    let d = Daemon::start();
    let output = d
        .command(Client::Wharf)
        .env("DOCKER_API_VERSION", "1.41")
        .args(["version", "--format", "{{.Client.APIVersion}}"])
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "1.41", "{}", text(&output.stderr));
    let output = d
        .command(Client::Wharf)
        .env("DOCKER_API_VERSION", "1.99")
        .arg("ps")
        .output()
        .unwrap();
    assert!(text(&output.stderr).contains("client version 1.99 is too new"));
}

/// On a machine of its own, as far as the default places go, a first command needs nothing to be set up.
#[test]
fn a_client_starts_the_daemon_that_it_misses() {
    let taken = [
        "/sys/fs/cgroup/wharf",
        "/sys/fs/cgroup/memory/wharf",
        "/sys/fs/cgroup/systemd/wharf",
    ];
    if taken.iter().any(|path| Path::new(path).exists()) {
        crate::harness::skip(
            "starting a daemon by a client: one with the default root may run here",
        );
        return;
    }
    let script = r#"set -e
        for place in /run /var/lib /var/log; do mount -t tmpfs tmpfs $place; done
        ip link set lo up
        "$WHARF" ps -q 2>first
        "$WHARF" ps -q 2>second
        "$WHARF" run --rm nothing true 2>third || true
        echo "first: $(cat first)"
        echo "second: $(cat second)"
        test -S /run/wharf.sock && test -d /var/lib/wharf && ls /var/log/wharf.log
        unset DOCKER_HOST
        HOME=/nonexistent "$WHARF" -H unix:///run/other.sock ps 2>&1 || true"#;
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            script,
        ])
        .env("WHARF", env!("CARGO_BIN_EXE_wharf"))
        .env_remove("DOCKER_HOST")
        .env("DOCKER_CONFIG", directory.path())
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(
        text(&output.stdout),
        "first: no daemon is running: starting one in the background\nsecond: \n/var/log/wharf.log\n\
         Cannot connect to the Docker daemon at unix:///run/other.sock. Is the docker daemon running?",
        "{}",
        text(&output.stderr)
    );
}
