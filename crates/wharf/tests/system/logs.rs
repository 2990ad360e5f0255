//! Log drivers and readers: nothing is lost, nothing fills the disk, nothing holds others up.

use crate::harness::{Client, Daemon, eventually};
use std::net::UdpSocket;
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
    assert_eq!(d.ok(Client::Wharf, &["logs", "talks"]), "out");
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
        &[
            "run",
            "--name",
            "mute",
            "--log-driver",
            "none",
            "busybox",
            "echo",
            "x",
        ],
    );
    let text = "configured logging driver does not support reading";
    d.fails(Client::Wharf, &["logs", "mute"], 1, text);
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
    d.ok(
        Client::Wharf,
        &["run", "-d", "--name", "calm", "busybox", "sleep", "1000"],
    );
    let id = d.ok(Client::Wharf, &["inspect", "--format", "{{.Id}}", "flood"]);
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
        assert_eq!(
            d.ok(Client::Wharf, &["exec", "calm", "echo", "here"]),
            "here"
        );
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(
        d.ok(Client::Wharf, &["logs", "--tail", "1", "flood"]).len(),
        40
    );
}
