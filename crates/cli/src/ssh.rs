//! Daemons of other machines, reached by starting a client there (docker's `ssh://` hosts).

use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use url::Url;

use crate::connection::Stream;
use crate::error::{CliError, Result};

/// What is run there: the client that is installed, and of two the one that is ours.
const REMOTE_COMMAND: &str = "sh -c 'command -v wharf >/dev/null && exec wharf system dial-stdio; exec docker system dial-stdio'";
/// Seconds that ssh waits for a connection, as with docker.
const CONNECT_TIMEOUT: &str = "ConnectTimeout=30";

/// Whom to reach by ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// Path of a socket there; None means that machine's own choice.
    socket: Option<String>,
}

impl SshTarget {
    /// Parses `ssh://[user@]host[:port][/path/of/socket]`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| CliError::UnsupportedHost(format!("invalid SSH URL {text}: {why}"));
        let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if url.password().is_some() {
            return Err(wrong("plain-text password is not supported"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("query and fragment are not supported"));
        }
        let host = url.host_str().unwrap_or_default();
        // Ssh would take what starts with a dash for an option.
        if host.is_empty() || host.starts_with('-') || url.username().starts_with('-') {
            return Err(wrong("no host specified"));
        }
        let path = url.path();
        let is_plain = path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
        if !is_plain {
            return Err(wrong("the socket's path has characters that a shell reads"));
        }
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Self {
            user: some(url.username()),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port(),
            socket: some(path.trim_end_matches('/')),
        })
    }

    /// Returns the target as a URL.
    pub fn url(&self) -> String {
        let user = self.user.iter().map(|user| format!("{user}@"));
        let port = self.port.iter().map(|port| format!(":{port}"));
        let socket = self.socket.iter().cloned();
        let parts: String = user
            .chain([self.host.clone()])
            .chain(port)
            .chain(socket)
            .collect();
        format!("ssh://{parts}")
    }

    /// Returns the arguments for ssh.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["-o".to_owned(), CONNECT_TIMEOUT.to_owned(), "-T".to_owned()];
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        let command = match &self.socket {
            None => REMOTE_COMMAND.to_owned(),
            Some(socket) => REMOTE_COMMAND
                .replace(
                    "wharf system",
                    &format!("wharf --host unix://{socket} system"),
                )
                .replace(
                    "docker system",
                    &format!("docker --host unix://{socket} system"),
                ),
        };
        arguments.extend(["--".to_owned(), self.host.clone(), command]);
        arguments
    }

    /// Starts ssh; what it says on standard error is the user's to see.
    pub fn connect(&self) -> Result<Stream> {
        let mut child = Command::new("ssh")
            .args(self.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| CliError::io("cannot start ssh", error))?;
        match (child.stdout.take(), child.stdin.take()) {
            (Some(output), Some(input)) => Ok(Box::new(SshStream {
                _child: child,
                output,
                input: Some(input),
            })),
            _ => Err(CliError::usage("ssh started without pipes")),
        }
    }
}

/// Both ends of a running ssh.
struct SshStream {
    _child: Child,
    output: ChildStdout,
    /// None once our side is closed.
    input: Option<ChildStdin>,
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.output).poll_read(context, buffer)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(context, bytes),
            None => Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        let Some(input) = &mut self.input else {
            return Poll::Ready(Ok(()));
        };
        let done = Pin::new(input).poll_shutdown(context);
        if done.is_ready() {
            // Closing the pipe is what tells the other side.
            self.input = None;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_user_port_and_host() {
        let target = SshTarget::parse("ssh://me@host:2222").unwrap();
        let arguments = target.arguments();
        assert_eq!(
            arguments[..9],
            [
                "-o",
                CONNECT_TIMEOUT,
                "-T",
                "-l",
                "me",
                "-p",
                "2222",
                "--",
                "host"
            ]
        );
        assert!(arguments[9].contains("docker system dial-stdio"));
        let target = SshTarget::parse("ssh://host/run/x.sock").unwrap();
        assert!(
            target
                .arguments()
                .last()
                .unwrap()
                .contains("--host unix:///run/x.sock system")
        );
    }

    #[test]
    fn nothing_reaches_a_shell() {
        for url in [
            "ssh://h/$(x)",
            "ssh://h/a;b",
            "ssh://u:p@h",
            "ssh://h?x",
            "ssh://h/'",
        ] {
            assert!(SshTarget::parse(url).is_err(), "{url}");
        }
    }
}
