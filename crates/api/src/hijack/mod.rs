//! Taking a connection over for a raw byte stream (spec engine-api §2.2).

mod framing;
mod plain;
mod web_socket;

pub(crate) use plain::PlainHijack;
pub(crate) use web_socket::{accept_key, serve as serve_web_socket};

use crate::call::Peer;
use crate::limits::{COPY_BUFFER_BYTES, STREAM_CHUNKS};
use crate::respond::{self, Body};
use crate::transport::Transport;
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::future;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use wharf_engine::model::view::AttachedStream;

/// Content type of streams that are not framed, and of all streams before API 1.42.
pub(crate) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Content type of framed streams (spec engine-api §2.1).
pub(crate) const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// Answers with a process's streams: a hijacked connection where the client asks to upgrade, else
/// its output as the rest of the connection.
///
/// `stream` is waited for once the head of the answer is sent.
pub(crate) async fn serve(
    stream: impl Future<Output = AttachedStream> + Send + 'static,
    upgrade: Option<OnUpgrade>,
    content_type: &'static str,
    peer: Peer,
) -> Response<Body> {
    let Some(upgrade) = upgrade else {
        return output_only(stream.await, content_type);
    };
    let mut response = respond::status(StatusCode::SWITCHING_PROTOCOLS);
    respond::set_content_type(&mut response, content_type);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    response
        .extensions_mut()
        .insert(ReasonPhrase::from_static(b"UPGRADED"));
    tokio::spawn(async move {
        // The permit counts the connection until its streams end.
        let _permit = peer.permit;
        let Ok(upgraded) = upgrade.await else { return };
        if let Ok(parts) = upgraded.downcast::<TokioIo<PlainHijack<Transport>>>() {
            let rest = parts.io.into_inner().into_parts();
            let mut client = rest.io;
            let mut already_read = BytesMut::from(parts.read_buf);
            already_read.unsplit(rest.unread);
            if client.write_all(&rest.unsent).await.is_ok() {
                let stream = stream.await;
                connect(client, already_read.freeze(), stream).await;
            }
        }
    });
    response
}

/// Copies both ways until the output ends or the client is gone.
///
/// The client may close its half to end the input; the output goes on then. The output waits until
/// the client has read the head of the answer: docker-py reads the head through a buffer and what
/// follows from the socket itself, so that what comes in one read with the head is lost to it.
async fn connect(client: Transport, already_read: Bytes, stream: AttachedStream) {
    let (hang_up, head_read) = (client.hang_up(), client.all_read());
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_process, mut to_process) = tokio::io::split(stream.io);
    let input = async {
        // Errors mean that the process takes no more input; its output still counts.
        if to_process.write_all(&already_read).await.is_ok() {
            let _ = copy(&mut from_client, &mut to_process).await;
        }
        let _ = to_process.shutdown().await;
        future::pending::<()>().await;
    };
    let output = async {
        head_read.await;
        // An error means that one side is gone, and the stream is over either way.
        let _ = copy(&mut from_process, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::select! {
        () = input => {}
        () = output => {}
        () = hang_up => {}
    }
}

/// Copies and flushes whatever comes until the end.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..count).unwrap_or_default())
            .await?;
        to.flush().await?;
    }
}

/// Streams the output with neither length nor chunks: the body is the rest of the connection.
///
/// Clients that send no `Upgrade` read the socket directly. An answer of HTTP/1.0 is what makes the
/// server write it so.
fn output_only(stream: AttachedStream, content_type: &'static str) -> Response<Body> {
    let mut response = respond::stream(content_type, read_to_chunks(stream));
    *response.version_mut() = Version::HTTP_10;
    response
}

fn read_to_chunks(stream: AttachedStream) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(STREAM_CHUNKS);
    tokio::spawn(async move {
        let (mut from_process, mut to_process) = tokio::io::split(stream.io);
        // There is no way to send input without an upgrade, so it ends at once.
        let _ = to_process.shutdown().await;
        loop {
            let mut buffer = BytesMut::with_capacity(COPY_BUFFER_BYTES);
            let read = tokio::select! {
                read = from_process.read_buf(&mut buffer) => read,
                () = sender.closed() => return,
            };
            let chunk = match read {
                Ok(0) => return,
                Ok(_) => Ok(buffer.freeze()),
                Err(error) => Err(error),
            };
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Answers a failed attach on the connection as plain text, as docker does there (§2.2).
pub(crate) fn refuse(failure: &respond::Failure) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Bytes::from(format!(
        "{}\r\n",
        failure.message()
    ))));
    *response.status_mut() = failure.status();
    respond::set_content_type(&mut response, RAW_STREAM);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixStream;

    fn attached(io: tokio::io::DuplexStream) -> AttachedStream {
        AttachedStream {
            io: Box::new(io),
            tty: true,
        }
    }

    #[tokio::test]
    async fn buffered_bytes_come_first_and_half_close_keeps_the_output() {
        let (client, server) = UnixStream::pair().expect("a socket pair");
        let (process, mut other_end) = tokio::io::duplex(64);
        let served = tokio::spawn(connect(
            Transport::Unix(server),
            Bytes::from_static(b"early "),
            attached(process),
        ));
        let (mut from_server, mut to_server) = client.into_split();
        to_server.write_all(b"late").await.expect("sent");
        to_server.shutdown().await.expect("half closed");
        let mut input = Vec::new();
        other_end.read_to_end(&mut input).await.expect("input ends");
        assert_eq!(input, b"early late");
        other_end
            .write_all(b"answer")
            .await
            .expect("output goes on");
        drop(other_end);
        let mut output = Vec::new();
        from_server
            .read_to_end(&mut output)
            .await
            .expect("output ends");
        assert_eq!(output, b"answer");
        served.await.expect("no panic");
    }

    #[tokio::test]
    async fn output_never_comes_in_one_read_with_the_head() {
        let (mut client, mut server) = UnixStream::pair().expect("a socket pair");
        server.write_all(b"the head").await.expect("sent");
        let (process, mut other_end) = tokio::io::duplex(64);
        other_end.write_all(b"output").await.expect("written");
        drop(other_end);
        let served = tokio::spawn(connect(
            Transport::Unix(server),
            Bytes::new(),
            attached(process),
        ));
        // A client that is late: the output has long been there.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let mut buffer = [0; 8192];
        let count = client.read(&mut buffer).await.expect("the head");
        assert_eq!(buffer.get(..count), Some(&b"the head"[..]));
        let mut output = Vec::new();
        client.read_to_end(&mut output).await.expect("the output");
        assert_eq!(output, b"output");
        served.await.expect("no panic");
    }

    #[tokio::test]
    async fn a_client_that_left_ends_an_idle_stream() {
        let (client, server) = UnixStream::pair().expect("a socket pair");
        let (process, _other_end) = tokio::io::duplex(64);
        let served = tokio::spawn(connect(
            Transport::Unix(server),
            Bytes::new(),
            attached(process),
        ));
        drop(client);
        served.await.expect("it ends without any output");
    }
}
