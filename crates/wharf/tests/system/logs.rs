//! Log drivers and readers: nothing is lost, nothing fills the disk, nothing holds others up.

use crate::daemon::make_certificates;
use crate::harness::{Client, Daemon, eventually};
use crate::raw::call;
use std::io::{BufRead, BufReader, Lines};
use std::net::UdpSocket;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const COUNT: &str = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done";

#[test]
fn followers_miss_nothing_over_rotations() {
    let d = Daemon::with_busybox();
    for (name, driver, compress) in [
        ("json", "json-file", "false"),
        ("local", "local", "false"),
        ("packed", "local", "true"),
    ] {
        let options = [
            "run",
            "-d",
            "--name",
            name,
            "--log-driver",
            driver,
            "--log-opt",
            "max-size=100k",
            "--log-opt",
            "max-file=40",
            "--log-opt",
        ];
        let compress_option = format!("compress={compress}");
        let rest = [compress_option.as_str(), "busybox", "sh", "-c", COUNT];
        d.ok(Client::Wharf, &[&options[..], &rest].concat());
        let is_whole = |text: &str| {
            let numbers = text.lines().map(|line| line.parse::<u32>().unwrap());
            numbers.eq(1..=20_000)
        };
        assert!(
            is_whole(&d.ok(Client::Wharf, &["logs", "-f", name])),
            "{name} followed"
        );
        d.ok(Client::Wharf, &["wait", name]);
        assert!(
            is_whole(&d.ok(Client::Wharf, &["logs", name])),
            "{name} read"
        );
        let tail = d.ok(Client::Wharf, &["logs", "--tail", "12000", name]);
        assert!(
            tail.starts_with("8001\n") && tail.ends_with("\n20000"),
            "{name} tail"
        );
    }
}

#[test]
fn odd_output_comes_back_as_it_was() {
    let d = Daemon::with_busybox();
    let script = r"printf 'a\0b\377\n'; head -c 40000 /dev/zero | tr '\0' x; echo; printf end";
    for driver in ["json-file", "local"] {
        d.ok(
            Client::Wharf,
            &[
                "run",
                "--name",
                driver,
                "--log-driver",
                driver,
                "busybox",
                "sh",
                "-c",
                script,
            ],
        );
        let output = d
            .command(Client::Wharf)
            .args(["logs", driver])
            .output()
            .unwrap()
            .stdout;
        // A JSON file cannot hold what is no UTF-8; docker writes U+FFFD there.
        let first: &[u8] = match driver {
            "local" => b"a\0b\xff\n",
            _ => b"a\0b\xef\xbf\xbd\n",
        };
        let expected = [first, &[b'x'; 40_000], b"\nend"].concat();
        assert!(output == expected, "{driver}: {} bytes", output.len());
        let stamped = d.ok(Client::Wharf, &["logs", "-t", "--tail", "2", driver]);
        assert!(stamped.ends_with("Z end"), "{driver}");
    }
}

/// A tail counts the lines of both streams and of all times; what is asked for is chosen from among them, as docker does.
#[test]
fn a_tail_is_taken_before_streams_and_times_are_chosen() {
    let d = Daemon::with_busybox();
    let script = "for i in 1 2 3 4; do echo o$i; sleep 0.05; echo e$i >&2; sleep 0.05; done";
    for driver in ["json-file", "local"] {
        let run = ["run", "--name", driver, "--log-driver", driver];
        d.ok(
            Client::Wharf,
            &[&run[..], &["busybox", "sh", "-c", script]].concat(),
        );
        let logs = |query: &str| {
            let path = format!("/containers/{driver}/logs?timestamps=1&{query}");
            lines_of(&call(&d, "GET", &path, "").unwrap().body)
        };
        // The streams come by two pipes: the order in the log is whatever it is.
        let all = logs("stdout=1&stderr=1");
        assert_eq!(all.len(), 8, "{all:?}");
        for tail in 0..=9 {
            let last = &all[all.len().saturating_sub(tail)..];
            for (query, mark) in [
                ("stdout=1", " o"),
                ("stderr=1", " e"),
                ("stdout=1&stderr=1", " "),
            ] {
                let chosen: Vec<_> = last
                    .iter()
                    .filter(|line| line.contains(mark))
                    .cloned()
                    .collect();
                assert_eq!(
                    logs(&format!("{query}&tail={tail}")),
                    chosen,
                    "{driver} {query} {tail}"
                );
            }
            let time = all[4].split_once(' ').unwrap().0;
            let [mut until, mut since] = [last.to_vec(), last.to_vec()];
            until.retain(|line| *line <= all[4]);
            since.retain(|line| *line >= all[4]);
            let tail = tail.to_string();
            for (flag, chosen) in [("--until", until), ("--since", since)] {
                let line = ["logs", "-t", flag, time, "--tail", &tail, driver];
                let called = d.call(Client::Wharf, &line);
                let mut found: Vec<&str> = [&called.stdout, &called.stderr]
                    .into_iter()
                    .flat_map(|text| text.lines())
                    .collect();
                found.sort_unstable();
                assert_eq!(found, chosen, "{driver} {flag} {tail}");
            }
        }
    }
}

/// Returns the lines of a framed log, oldest first.
fn lines_of(mut frames: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some((head, rest)) = frames.split_at_checked(8) {
        let length = u32::from_be_bytes(head[4..].try_into().unwrap()) as usize;
        let (line, others) = rest.split_at(length);
        lines.push(String::from_utf8_lossy(line).trim_end().to_owned());
        frames = others;
    }
    lines
}

/// A syslog daemon that speaks TLS, asks for a certificate and prints what it gets.
struct SecureServer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl SecureServer {
    fn start(d: &Daemon, arguments: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0"])
            .args(["-cert", "server.pem", "-key", "server-key.pem"])
            .args(arguments)
            .current_dir(d.path("tls"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ACCEPT 127.0.0.1:")?.parse().ok())
            .expect("the server listens");
        Self { child, lines, port }
    }

    /// Returns the next line that has a part.
    fn line_with(&mut self, part: &str) -> String {
        self.lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("the server ended without {part:?}"))
    }
}

impl Drop for SecureServer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn lines_reach_a_syslog_daemon_over_tls() {
    const LINES: usize = 20_000;
    let d = Daemon::with_busybox();
    if !make_certificates(&d) {
        return;
    }
    let file =
        |key: &str, name: &str| format!("syslog-tls-{key}={}", d.path("tls").join(name).display());
    let (ca, certificate, key) = (
        file("ca-cert", "ca.pem"),
        file("cert", "cert.pem"),
        file("key", "key.pem"),
    );
    let strict = ["-Verify", "1", "-verify_return_error", "-CAfile", "ca.pem"];
    let run = |port: u16, options: &[&str], script: &str| {
        let address = format!("syslog-address=tcp+tls://127.0.0.1:{port}");
        let mut arguments = vec!["run", "--rm", "--log-driver", "syslog"];
        for option in [address.as_str(), "tag=t"].iter().chain(options) {
            arguments.extend(["--log-opt", option]);
        }
        arguments.extend(["busybox", "sh", "-c", script]);
        let called = d.call(Client::Wharf, &arguments);
        (
            called.code,
            called.stdout.trim_end().to_owned(),
            called.stderr,
        )
    };

    // Its certificate is asked for and good; messages are counted, as RFC 5425 has it.
    let mut server = SecureServer::start(&d, &strict);
    let options = [ca.as_str(), &certificate, &key, "syslog-format=rfc5424"];
    let (code, out, said) = run(server.port, &options, "echo out; echo last >&2");
    assert_eq!((code, out.as_str()), (0, "out"), "{said}");
    for (priority, text) in [(" <30>1 ", " - out"), (" <27>1 ", " - last")] {
        let line = server.line_with(priority);
        assert!(line.ends_with(text), "{line}");
        let (count, message) = line.split_once(' ').unwrap();
        assert_eq!(count.parse(), Ok(message.len() + 1), "{line}");
    }
    drop(server);

    // More than one record, faster than it is taken.
    let mut server = SecureServer::start(&d, &strict);
    let script = format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; done");
    let (code, _, said) = run(server.port, &options[..3], &script);
    assert_eq!(code, 0, "{said}");
    for number in 1..=LINES {
        let line = server.line_with("]: line ");
        assert!(
            line.ends_with(&format!("]: line {number}")),
            "{number}: {line}"
        );
    }
    drop(server);

    // Who is not trusted gets nothing, unless that is asked for.
    let mut server = SecureServer::start(&d, &[]);
    let (code, _, said) = run(server.port, &[], "true");
    assert_eq!(code, 125, "{said}");
    let expected = "failed to initialize logging driver: invalid peer certificate: UnknownIssuer";
    assert!(said.contains(expected), "{said}");
    let (code, _, said) = run(server.port, &["syslog-tls-skip-verify=1"], "echo unseen");
    assert_eq!(code, 0, "{said}");
    assert!(server.line_with("]: ").ends_with("]: unseen"));
    let (code, _, said) = run(server.port, &["syslog-tls-ca-cert=/nosuch"], "true");
    // As docker's client has it for every start that does not find a file.
    assert_eq!(code, 127, "{said}");
    let expected =
        "could not read CA certificate \"/nosuch\": open /nosuch: no such file or directory";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn lines_reach_a_syslog_daemon_and_are_kept() {
    let d = Daemon::with_busybox();
    let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
    daemon
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let address = format!("syslog-address=udp://{}", daemon.local_addr().unwrap());
    let arguments = [
        "run",
        "--name",
        "talks",
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
        "--log-opt",
        "tag={{.Name}}",
        "--log-opt",
        "syslog-format=rfc3164",
        "busybox",
        "sh",
        "-c",
        "echo out; usleep 50000; echo err >&2",
    ];
    d.ok(Client::Wharf, &arguments);
    let mut buffer = [0; 2000];
    for (priority, text) in [("<30>", "out"), ("<27>", "err")] {
        let length = daemon.recv(&mut buffer).unwrap();
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(
            message.starts_with(priority) && message.contains(" talks["),
            "{message}"
        );
        assert!(message.ends_with(&format!("]: {text}\n")), "{message}");
    }
    assert_eq!(d.ok(Client::Wharf, "logs talks"), "out");
    let nobody = [
        "run",
        "--log-driver",
        "syslog",
        "--log-opt",
        "syslog-address=tcp://127.0.0.1:1",
    ];
    let nobody = [&nobody[..], &["busybox", "true"]].concat();
    d.fails(
        Client::Wharf,
        &nobody,
        125,
        "failed to initialize logging driver: dial tcp 127.0.0.1:1",
    );
    d.ok(
        Client::Wharf,
        "run --name mute --log-driver none busybox echo x",
    );
    let text = "configured logging driver does not support reading";
    d.fails(Client::Wharf, "logs mute", 1, text);
}

/// Output without end stays within its files, and others are served meanwhile.
#[test]
fn a_container_that_floods_fills_no_disk_and_stalls_nobody() {
    let d = Daemon::with_busybox();
    let options = [
        "run",
        "-d",
        "--log-opt",
        "max-size=1m",
        "--log-opt",
        "max-file=3",
    ];
    let flood = [
        "--name",
        "flood",
        "busybox",
        "yes",
        "0123456789012345678901234567890123456789",
    ];
    d.ok(Client::Wharf, &[&options[..], &flood].concat());
    d.ok(Client::Wharf, "run -d --name calm busybox sleep 1000");
    let id = d.ok(Client::Wharf, "inspect --format {{.Id}} flood");
    let directory = d.path(&format!("root/containers/{id}"));
    let bytes = || -> u64 {
        let files = std::fs::read_dir(&directory).unwrap().flatten();
        let lengths = files.filter_map(|file| file.metadata().ok().filter(|m| m.is_file()));
        lengths.map(|metadata| metadata.len()).sum()
    };
    eventually("the log is rotated", || bytes() > 2 << 20);
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert!(bytes() < 4 << 20, "{} bytes", bytes());
        let begun = Instant::now();
        assert_eq!(d.ok(Client::Wharf, "exec calm echo here"), "here");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(d.ok(Client::Wharf, "logs --tail 1 flood").len(), 40);
}
