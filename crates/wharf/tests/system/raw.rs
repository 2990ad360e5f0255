//! A plain HTTP client for tests that call the API often or need a connection's bytes.

use crate::harness::{Daemon, PATIENCE};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads the body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Opens a connection to a daemon.
pub fn connect(daemon: &Daemon) -> std::io::Result<UnixStream> {
    connect_at(&daemon.socket())
}

fn connect_at(socket: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a request with a JSON body, or without one if it is empty.
pub fn send(stream: &mut UnixStream, method: &str, path: &str, body: &str) -> std::io::Result<()> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: d\r\n");
    if !body.is_empty() {
        head += &format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())
}

/// Calls the API once on a connection of its own.
pub fn call(daemon: &Daemon, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
    call_at(&daemon.socket(), method, path, body)
}

/// Calls the API at a socket, whether or not its daemon is there.
pub fn call_at(socket: &Path, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
    let mut stream = connect_at(socket)?;
    send(&mut stream, method, path, body)?;
    receive(&mut BufReader::new(stream))
}

/// Reads an answer; one without a length goes to the connection's end.
pub fn receive(reader: &mut BufReader<UnixStream>) -> std::io::Result<Answer> {
    let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(broken)?;
    let (mut length, mut chunked) = (None, false);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse::<usize>().ok();
        }
        chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(|_| broken())?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if status != 204 && status != 304 {
        match length {
            Some(length) => {
                body = vec![0; length];
                reader.read_exact(&mut body)?;
            }
            None => {
                reader.read_to_end(&mut body)?;
            }
        }
    }
    Ok(Answer { status, body })
}
