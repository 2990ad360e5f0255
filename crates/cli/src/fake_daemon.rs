//! A scripted daemon for tests: each connection is answered from a list, and what was asked is kept.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What to answer to requests whose first line begins with `start`.
pub(crate) struct Rule {
    start: String,
    answer: Vec<u8>,
    /// Answer only once the client has half-closed its side, and send what it sent back.
    echo: bool,
}

impl Rule {
    /// Returns a rule that answers with a JSON body.
    pub(crate) fn json(start: &str, status: u16, body: &str) -> Self {
        let answer = format!(
            "HTTP/1.1 {status} X\r\nApi-Version: 1.51\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            start: start.to_owned(),
            answer: answer.into_bytes(),
            echo: false,
        }
    }

    /// Returns a rule that turns the connection into a stream, sends `stream` and closes.
    pub(crate) fn hijack(start: &str, stream: &[u8]) -> Self {
        let mut answer = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".to_vec();
        answer.extend_from_slice(stream);
        Self {
            start: start.to_owned(),
            answer,
            echo: false,
        }
    }

    /// Returns a rule that turns the connection into a stream and sends back, framed, all it got before the half-close.
    pub(crate) fn echo(start: &str) -> Self {
        Self {
            echo: true,
            ..Self::hijack(start, b"")
        }
    }

    /// Returns a rule with an answer of its own.
    pub(crate) fn raw(start: &str, answer: &[u8]) -> Self {
        Self {
            start: start.to_owned(),
            answer: answer.to_vec(),
            echo: false,
        }
    }
}

/// A running fake; it ends with the test.
pub(crate) struct FakeDaemon {
    directory: tempfile::TempDir,
    requests: Arc<Mutex<Vec<String>>>,
    _thread: JoinHandle<()>,
}

impl FakeDaemon {
    /// Starts a fake that answers by the first rule that fits, and 404 otherwise.
    pub(crate) fn start(rules: Vec<Rule>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("sock")).unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (rules, kept) = (Arc::new(rules), Arc::clone(&requests));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (rules, kept) = (Arc::clone(&rules), Arc::clone(&kept));
                std::thread::spawn(move || answer(stream, &rules, &kept));
            }
        });
        Self {
            directory,
            requests,
            _thread: thread,
        }
    }

    /// Returns the directory of the fake, which is gone with it.
    pub(crate) fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// Returns the address.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.directory.path().join("sock").display())
    }

    /// Returns head and body of every request so far, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(mut stream: UnixStream, rules: &[Rule], kept: &Mutex<Vec<String>>) {
    let Some((head, mut body)) = read_head(&mut stream) else {
        return;
    };
    let header = |name: &str| {
        head.lines()
            .find_map(|line| {
                line.split_once(':')
                    .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            })
            .map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let chunked = header("transfer-encoding").is_some();
    let mut buffer = [0; 4096];
    while body.len() < length || (chunked && !body.ends_with(b"0\r\n\r\n")) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => body.extend_from_slice(&buffer[..read]),
        }
    }
    let index = {
        let mut kept = kept.lock().unwrap();
        kept.push(format!("{head}\r\n\r\n{}", String::from_utf8_lossy(&body)));
        kept.len() - 1
    };
    let line = head.lines().next().unwrap_or_default();
    let Some(rule) = rules.iter().find(|rule| line.starts_with(&rule.start)) else {
        let _ = stream.write_all(
            b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 29\r\n\r\n{\"message\":\"page not found\"}\n",
        );
        return;
    };
    let _ = stream.write_all(&rule.answer);
    if rule.echo {
        let mut typed = Vec::new();
        let _ = stream.read_to_end(&mut typed);
        let mut frame = vec![1, 0, 0, 0];
        frame.extend_from_slice(&(typed.len() as u32).to_be_bytes());
        frame.extend_from_slice(&typed);
        let _ = stream.write_all(&frame);
        kept.lock().unwrap()[index].push_str(&String::from_utf8_lossy(&typed));
    }
}

fn read_head(stream: &mut UnixStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), body));
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}
