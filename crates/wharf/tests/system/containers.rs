//! Containers from create to rm, with both clients.

use crate::harness::{Client, Daemon, clients, eventually};
use std::io::{Read, Write};

#[test]
fn run_and_commit_story() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let first = d.call_with_input(
            client,
            "run -i --name commit_test busybox:latest",
            b"echo \"test commit\" >> first\n",
        );
        assert_eq!(first.code, 0, "{first:?}");
        let id = d.ok(
            client,
            "commit -a name -m 'first commit' commit_test commit_test:first",
        );
        assert!(id.starts_with("sha256:"), "{id}");
        let second = d.call_with_input(client, "start -ai commit_test", b"echo more > second\n");
        assert_eq!(second.code, 0, "{second:?}");
        d.ok(client, "commit commit_test commit_test:second");
        let layers = |name: &str| -> Vec<String> {
            serde_json::from_str(&d.ok(
                client,
                &["inspect", "--format", "{{json .RootFS.Layers}}", name],
            ))
            .unwrap()
        };
        let (base, one, two) = (
            layers("busybox"),
            layers("commit_test:first"),
            layers("commit_test:second"),
        );
        assert_eq!((base.len(), one.len(), two.len()), (1, 2, 2));
        assert_eq!(base[0], one[0]);
        assert_eq!(
            d.ok(client, "run --rm commit_test:second cat first second"),
            "test commit\nmore"
        );
        let inspected = d.ok(
            client,
            "inspect --format {{.Author}}|{{.Comment}} commit_test:first",
        );
        assert_eq!(inspected, "name|first commit");
        let images = d.ok(client, "images");
        let header: Vec<&str> = images.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(
            header,
            ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"],
            "{images}"
        );
        assert!(
            images.contains("commit_test") && images.contains("second"),
            "{images}"
        );
    }
}

/// What a commit copies while the container writes on is what its layer says.
#[test]
fn a_container_goes_on_while_and_after_it_is_committed() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let script =
            "mkdir /many; i=0; while true; do echo $i >/many/$((i % 400)); i=$((i + 1)); done";
        d.ok(
            client,
            &["run", "-d", "--name", "busy", "busybox", "sh", "-c", script],
        );
        eventually("all files are there", || {
            d.call(client, "exec busy test -e /many/399").code == 0
        });
        for pause in ["--pause=true", "--pause=false"] {
            d.ok(client, &["commit", pause, "busy", "made"]);
            let state = d.ok(client, "inspect --format {{.State.Status}} busy");
            assert_eq!(state, "running");
            let count = d.ok(
                client,
                &["run", "--rm", "made", "sh", "-c", "ls /many | wc -l"],
            );
            assert_eq!(count, "400");
            // The tar is made again from the copy, and verified.
            let tar = d.path("made.tar").display().to_string();
            d.ok(client, &["save", "-o", &tar, "made"]);
        }
        let newest = || {
            d.ok(
                client,
                &["exec", "busy", "sh", "-c", "cat /many/*|sort -n|tail -n1"],
            )
        };
        let before = newest();
        eventually("it writes on", || newest() != before);
        d.ok(client, "rm -f busy");
    }
}

#[test]
fn exit_codes() {
    for client in clients() {
        let d = Daemon::with_busybox();
        for (arguments, code) in [
            (vec!["true"], 0),
            (vec!["false"], 1),
            (vec!["sh", "-c", "exit 42"], 42),
            (vec!["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
            (vec!["no-such-program"], 127),
            (vec!["/etc/passwd"], 126),
        ] {
            let mut all = vec!["run", "--rm", "--network", "none", "busybox"];
            all.extend(&arguments);
            let called = d.call(client, &all);
            assert_eq!(called.code, code, "{client:?} {arguments:?}: {called:?}");
        }
        d.fails(
            client,
            "run --rm -v /x:relative busybox",
            125,
            "mount path must be absolute",
        );
    }
}

#[test]
fn streams_keep_apart_and_stdin_arrives() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let called = d.call(client, "run --rm busybox sh -c 'echo out; echo err >&2'");
        assert_eq!(
            (called.stdout.as_str(), called.stderr.as_str()),
            ("out\n", "err\n")
        );
        let input: Vec<u8> = (0..200_000u32)
            .flat_map(|n| format!("{n}\n").into_bytes())
            .collect();
        let called = d.call_with_input(client, "run --rm -i busybox md5sum", &input);
        let expected = d.call_with_input(client, "run --rm -i busybox cat", &input);
        assert_eq!(expected.stdout.as_bytes(), input);
        assert!(called.stdout.ends_with("-\n"), "{called:?}");
    }
}

#[test]
fn life_of_a_server() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let page = d.write("www/index.html", "hello from busybox\n");
        let mount = format!("{}:/www:ro", page.parent().unwrap().display());
        let id = d.ok(
            client,
            &[
                "run",
                "-d",
                "--name",
                "web",
                "-p",
                "127.0.0.1::80",
                "-v",
                &mount,
                "busybox",
                "httpd",
                "-f",
                "-v",
                "-h",
                "/www",
            ],
        );
        assert_eq!(id.len(), 64);
        let port = d.ok(client, "port web 80");
        assert_eq!(http_get(&port), "hello from busybox\n");
        assert!(d.ok(client, "ps").contains("web"));
        assert!(d.ok(client, "top web").contains("httpd"));
        eventually("the request is logged", || {
            !d.call(client, "logs web").stderr.is_empty()
                || !d.call(client, "logs web").stdout.is_empty()
        });
        assert_eq!(
            d.ok(client, "exec web cat /www/index.html"),
            "hello from busybox"
        );
        assert_eq!(d.call(client, "exec web sh -c 'exit 3'").code, 3);
        assert_eq!(d.call(client, "exec web nope").code, 127);
        d.write("in.txt", "copied in\n");
        d.ok(client, "cp in.txt web:/tmp/");
        assert_eq!(d.ok(client, "exec web cat /tmp/in.txt"), "copied in");
        d.ok(client, "cp web:/tmp/in.txt out.txt");
        assert_eq!(
            std::fs::read_to_string(d.path("out.txt")).unwrap(),
            "copied in\n"
        );
        let diff = d.ok(client, "diff web");
        assert!(diff.lines().any(|line| line == "A /tmp/in.txt"), "{diff}");
        d.ok(client, "stop -t 1 web");
        assert!(
            d.ok(client, "ps -a --filter status=exited --format {{.Names}}")
                .contains("web")
        );
        assert!(
            std::net::TcpStream::connect(&port).is_err(),
            "the port is still open"
        );
        d.ok(client, "start web");
        let port = d.ok(client, "port web 80");
        eventually("the page is back", || {
            std::net::TcpStream::connect(&port).is_ok()
        });
        d.fails(client, "rm web", 1, "container is running");
        d.ok(client, "rm -f web");
        assert_eq!(d.ok(client, "ps -aq"), "");
    }
}

#[test]
fn limits_users_and_isolation() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let run = |arguments: &[&str]| {
            let mut all = vec!["run", "--rm", "--network", "none"];
            all.extend(arguments);
            d.call(client, &all)
        };
        assert_eq!(
            run(&["-u", "1000:2000", "busybox", "id"]).stdout.trim(),
            "uid=1000 gid=2000 groups=2000"
        );
        assert_eq!(run(&["-h", "here", "busybox", "hostname"]).stdout, "here\n");
        assert_eq!(
            run(&["-w", "/made/up", "busybox", "pwd"]).stdout,
            "/made/up\n"
        );
        assert_eq!(
            run(&["-e", "A=b", "busybox", "sh", "-c", "echo $A"]).stdout,
            "b\n"
        );
        assert_eq!(run(&["busybox", "sh", "-c", "echo $$"]).stdout, "1\n");
        assert!(
            run(&[
                "--pids-limit",
                "8",
                "busybox",
                "sh",
                "-c",
                "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait"
            ])
            .code
                != 0
        );
        let out_of_memory = run(&[
            "-m",
            "16m",
            "--memory-swap",
            "16m",
            "busybox",
            "sh",
            "-c",
            "head -c 64m /dev/zero | tail",
        ]);
        assert_ne!(out_of_memory.code, 0, "{out_of_memory:?}");
        assert_ne!(run(&["--read-only", "busybox", "touch", "/x"]).code, 0);
        assert_eq!(
            run(&["--read-only", "--tmpfs", "/t", "busybox", "touch", "/t/x"]).code,
            0
        );
        assert_ne!(
            run(&["busybox", "mount", "-t", "tmpfs", "none", "/mnt"]).code,
            0
        );
        assert_eq!(
            run(&["--init", "busybox", "sh", "-c", "cat /proc/1/comm"]).code,
            0
        );
        assert!(d.mounts().is_empty(), "{:?}", d.mounts());
    }
}

#[test]
fn volumes_copy_up_and_stay() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(client, "volume create data");
        d.ok(
            client,
            "run --rm -v data:/etc busybox sh -c 'echo kept > /etc/kept'",
        );
        let listed = d.ok(
            client,
            "run --rm -v data:/d busybox sh -c 'cat /d/kept; grep -c root /d/passwd'",
        );
        assert!(listed.starts_with("kept\n"), "{listed}");
        assert_eq!(d.ok(client, "volume ls -q"), "data");
        d.ok(
            client,
            "run --name anonymous -v /anon busybox touch /anon/x",
        );
        assert_eq!(d.ok(client, "volume ls -q").lines().count(), 2);
        let volumes = d.ok(client, "volume ls -q");
        let used = volumes.lines().find(|name| *name != "data").unwrap();
        d.fails(client, &["volume", "rm", used], 1, "volume is in use");
        d.ok(client, "rm -v anonymous");
        assert_eq!(d.ok(client, "volume ls -q"), "data");
        d.ok(client, "volume rm data");
    }
}

#[test]
fn terminals_have_a_size() {
    let d = Daemon::with_busybox();
    // `script` gives the client a terminal of its own.
    let command = format!(
        "stty rows 33 cols 101; {} run --rm -it busybox stty size",
        env!("CARGO_BIN_EXE_wharf")
    );
    let output = d
        .command(Client::Wharf)
        .get_envs()
        .fold(
            &mut std::process::Command::new("script"),
            |script, (key, value)| match value {
                Some(value) => script.env(key, value),
                None => script.env_remove(key),
            },
        )
        .args(["-qec", &command, "/dev/null"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("33 101"), "{text}");
    for client in clients() {
        d.fails(client, "run --rm -it busybox true", 1, "TTY");
    }
}

/// Gets `/` from `address` by plain HTTP.
pub fn http_get(address: &str) -> String {
    let mut answer = String::new();
    eventually("the server answers", || {
        let Ok(mut stream) = std::net::TcpStream::connect(address) else {
            return false;
        };
        answer.clear();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.contains("\r\n\r\n")
    });
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}
