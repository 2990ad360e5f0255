//! Every command of docker's client against wharf, compared with what a real dockerd of the client's version answered.
//!
//! `commands/commands.txt` says what is run; `commands/docker-*.txt` is what the client printed against dockerd (written
//! by this test when `WHARF_RECORD_PEERS` is set); `commands/differences-*.txt` lists the commands that wharf answers
//! differently, each with its reason.

use crate::arguments::split;
use crate::harness::{Daemon, base_image_tar, docker_program, skip};
use crate::peer::Peer;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the commands read from `$DIR`.
const FILES: [(&str, &str); 4] = [
    (
        "context/Dockerfile",
        "FROM busybox AS first\nARG SAID=nothing\nRUN echo $SAID > /said\nFROM first AS last\nLABEL a=b\nCMD [\"cat\", \"/said\"]\n",
    ),
    ("context/Broken", "FROM busybox\nNONSENSE\n"),
    (
        "context/Failing",
        "FROM busybox\nRUN echo words && exit 3\n",
    ),
    (
        "stack.yaml",
        "version: \"3\"\nservices:\n  one:\n    image: busybox\n",
    ),
];

/// Commands without a case, each with the reason.
const EXEMPT: [(&str, &str); 1] = [("completion", "prints a script and asks no daemon")];

/// One command and what came of it, normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    command: String,
    outcome: String,
}

#[test]
fn docker_28_5() {
    let Some(client) = docker_program() else {
        skip("the docker CLI is not installed (set WHARF_TEST_DOCKER to its path)");
        return;
    };
    compare(client, "28.5");
}

#[test]
fn docker_20_10() {
    let Some(client) = std::env::var_os("WHARF_TEST_DOCKER_OLD").map(PathBuf::from) else {
        skip("docker's client 20.10 is not at hand (set WHARF_TEST_DOCKER_OLD to its path)");
        return;
    };
    compare(&client, "20.10");
}

/// Runs all commands against wharf and compares with the record.
fn compare(client: &Path, version: &str) {
    let said = output_of(client, &["--version"]);
    if !said.contains(&format!("version {version}.")) {
        skip(&format!(
            "docker {version}: the client at hand is another: {}",
            said.trim()
        ));
        return;
    }
    let missing = commands_without_case(client);
    assert!(
        missing.is_empty(),
        "docker {version}: no case for {missing:?}"
    );
    let d = Daemon::start();
    let host = format!("unix://{}", d.path("wharf.sock").display());
    let ours = run_all(client, &host, &d.path("client"));
    let recorded = parse(&read(&data(&format!("docker-{version}.txt"))));
    let listed = read(&data(&format!("differences-{version}.txt")));
    let allowed = differences(&listed);
    if let Some(path) = std::env::var_os("WHARF_COMMANDS_OUTPUT") {
        std::fs::write(Path::new(&path).join(version), text(&ours)).unwrap();
    }
    let (mut complaints, mut differing) = (String::new(), BTreeSet::new());
    for (index, our) in ours.iter().enumerate() {
        let Some(their) = recorded
            .get(index)
            .filter(|their| their.command == our.command)
        else {
            panic!(
                "the record is of other commands: record again (see scripts/peer-daemon); at {}",
                our.command
            );
        };
        if our.outcome == their.outcome {
            continue;
        }
        differing.insert(our.command.as_str());
        if !allowed.contains_key(our.command.as_str()) {
            let _ = writeln!(
                complaints,
                "$ {}\n--- docker\n{}+++ wharf\n{}",
                our.command, their.outcome, our.outcome
            );
        }
    }
    for command in allowed
        .keys()
        .filter(|command| !differing.contains(*command))
    {
        let _ = writeln!(
            complaints,
            "$ {command}\nis listed as different and is not\n"
        );
    }
    assert!(complaints.is_empty(), "docker {version}: {complaints}");
}

/// Lists the commands that a client's help names, at every level, and that no case of `commands.txt` runs.
fn commands_without_case(client: &Path) -> Vec<String> {
    let commands = commands();
    let lines = commands.lines().filter(|line| !line.starts_with('#'));
    let cases: Vec<Vec<String>> = lines.map(words_of_case).collect();
    let mut missing = Vec::new();
    let mut open = vec![Vec::<String>::new()];
    while let Some(path) = open.pop() {
        let children = named_commands(client, &path);
        if children.is_empty() && !path.is_empty() {
            let is_run = cases.iter().any(|words| words.starts_with(&path));
            let is_exempt = EXEMPT.iter().any(|(name, _)| *name == path[0]);
            if !is_run && !is_exempt {
                missing.push(path.join(" "));
            }
        }
        open.extend(
            children
                .into_iter()
                .map(|child| [path.as_slice(), &[child]].concat()),
        );
    }
    missing.sort();
    missing
}

/// Returns the commands below one, as its help lists them; plugins (marked by a star) are not docker's own.
fn named_commands(client: &Path, path: &[String]) -> Vec<String> {
    let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
    arguments.push("--help");
    let help = output_of(client, &arguments);
    let mut names = Vec::new();
    let mut is_list = false;
    for line in help.lines() {
        match line.strip_prefix("  ") {
            Some(entry) if is_list => {
                let name = entry.split(' ').next().unwrap_or_default();
                if !name.is_empty() && !name.ends_with('*') {
                    names.push(name.to_owned());
                }
            }
            _ => is_list = line.ends_with("Commands:"),
        }
    }
    // Some help names the command itself again.
    names.retain(|name| path.last() != Some(name));
    names
}

fn output_of(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("DOCKER_CONFIG", "/nonexistent")
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the words of a case of `commands.txt` without what it feeds.
fn words_of_case(line: &str) -> Vec<String> {
    let fed = line.strip_prefix('<').and_then(|rest| rest.split_once('|'));
    split(fed.map_or(line, |(_, command)| command))
}

/// Records what real daemons answer: `WHARF_RECORD_PEERS=28.5=ROOT,20.10=ROOT` with roots as `scripts/peer-daemon` takes them.
#[test]
fn record() {
    let Ok(peers) = std::env::var("WHARF_RECORD_PEERS") else {
        return;
    };
    for peer in peers.split(',') {
        let (version, root) = peer.split_once('=').expect("VERSION=ROOT");
        let peer = Peer::start(Path::new(root), &[]);
        let host = format!("unix://{}", peer.path("docker.sock").display());
        let client = Path::new(root).join("usr/bin/docker");
        let steps = run_all(&client, &host, &peer.path("client"));
        std::fs::write(data(&format!("docker-{version}.txt")), text(&steps)).unwrap();
    }
}

fn run_all(client: &Path, host: &str, directory: &Path) -> Vec<Step> {
    std::fs::create_dir_all(directory).unwrap();
    std::fs::copy(base_image_tar("busybox"), directory.join("busybox.tar")).unwrap();
    std::fs::write(directory.join("note"), "a note\n").unwrap();
    std::fs::create_dir_all(directory.join("context")).unwrap();
    for (name, content) in FILES {
        std::fs::write(directory.join(name), content).unwrap();
    }
    let own = directory.display().to_string();
    commands()
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (input, command) = match line.strip_prefix('<') {
                Some(rest) => rest.split_once('|').expect("<text|command"),
                None => ("", line),
            };
            let arguments = split(&command.replace("$DIR", &own));
            let mut child = Command::new(client)
                .args(arguments)
                .env("DOCKER_HOST", host)
                .env("DOCKER_CONFIG", directory.join("config"))
                .env("DOCKER_BUILDKIT", "0")
                .env("DOCKER_CLI_HINTS", "false")
                .current_dir(directory)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            if !input.is_empty() {
                let _may_not_read = writeln!(stdin, "{input}");
            }
            drop(stdin);
            let output = child.wait_with_output().unwrap();
            let mut outcome = format!("[{}]\n", output.status.code().unwrap_or(-1));
            for (name, bytes) in [("out", &output.stdout), ("err", &output.stderr)] {
                for said in String::from_utf8_lossy(bytes).lines() {
                    // Old clients tell of a wait that they gave up themselves, sooner or later.
                    if said.contains("error waiting for container") {
                        continue;
                    }
                    let said = normal(&said.replace(&own, "$DIR").replace(host, "$HOST"));
                    let _ = writeln!(outcome, "{name}| {said}");
                }
            }
            Step {
                command: line.to_owned(),
                outcome,
            }
        })
        .collect()
}

/// Puts placeholders for what differs from run to run: IDs, times, sizes, process numbers.
fn normal(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_alphanumeric()) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest
            .find(|letter: char| {
                !(letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | ':' | '_'))
            })
            .unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        text.push_str(&placeholder(word));
        rest = behind;
    }
    text.push_str(rest);
    // Columns are as wide as what was in them.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    without_durations(&text)
}

/// Puts a placeholder for how long ago something was.
fn without_durations(line: &str) -> String {
    let mut text = line
        .replace("Less than a second", "<while>")
        .replace("About a minute", "<while>");
    for unit in ["seconds", "second", "minutes"] {
        let words: Vec<&str> = text.split(' ').collect();
        let mut kept: Vec<&str> = Vec::new();
        for word in words {
            let follows_number = kept.last().is_some_and(|last| last.parse::<u32>().is_ok());
            if word == unit && follows_number {
                kept.pop();
                kept.push("<while>");
            } else {
                kept.push(word);
            }
        }
        text = kept.join(" ");
    }
    text
}

fn placeholder(word: &str) -> String {
    let is_hex = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    if let Some(hex) = word
        .strip_prefix("sha256:")
        .filter(|hex| is_hex(hex) && hex.len() >= 12)
    {
        return format!("sha256:<{}>", hex.len());
    }
    if is_hex(word) && matches!(word.len(), 12 | 64) {
        return format!("<{}>", word.len());
    }
    let bytes = word.as_bytes();
    let is_time = bytes.len() >= 10
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes[7] == b'-';
    if is_time {
        return "<time>".to_owned();
    }
    let digits = word.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = &word[digits.len()..];
    if matches!(unit, "B" | "kB" | "MB" | "GB") && digits.parse::<f64>().is_ok() {
        return "<size>".to_owned();
    }
    if word.bytes().all(|byte| byte.is_ascii_digit()) && word.len() > 3 {
        return "<number>".to_owned();
    }
    word.to_owned()
}

fn text(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        let _ = write!(text, "$ {}\n{}", step.command, step.outcome);
    }
    text
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step {
                command: command.to_owned(),
                outcome: String::new(),
            }),
            (None, Some(step)) => {
                let _ = writeln!(step.outcome, "{line}");
            }
            (None, None) => {}
        }
    }
    steps
}

/// Reads the listed differences: a line with the reason, then the commands it holds for, each after `$ `.
fn differences(text: &str) -> BTreeMap<&str, &str> {
    let mut reason = "";
    let mut listed = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match line.strip_prefix("$ ") {
            Some(command) => {
                assert!(!reason.is_empty(), "{command} has no reason");
                listed.insert(command, reason);
            }
            None => reason = line,
        }
    }
    listed
}

/// Returns the cases, a line each.
fn commands() -> String {
    read(&data("commands.txt"))
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/system/commands")
        .join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn normalising() {
    for (line, expected) in [
        ("0123456789ab  x", "<12> x"),
        ("sha256:0123456789ab", "sha256:<12>"),
        ("2024-01-02T03:04:05.5Z", "<time>"),
        ("1.2MB (12%)", "<size> (12%)"),
        ("123 12345", "123 <number>"),
        ("a-b.c", "a-b.c"),
    ] {
        assert_eq!(normal(line), expected);
    }
    assert_eq!(split("a 'b c' ''"), ["a", "b c", ""]);
}
