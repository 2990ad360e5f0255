//! A process's streams over a web socket (RFC 6455): binary messages, never framed as docker's
//! other streams are.

use super::PlainHijack;
use crate::call::Peer;
use crate::limits::COPY_BUFFER_BYTES;
use crate::respond::{self, Body};
use crate::stdcopy::Decoder;
use crate::transport::Transport;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use wharf_engine::model::view::AttachedStream;

/// Bytes of one message from a client.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Returns the answer to a handshake's key; None when the request is no handshake.
pub(crate) fn accept_key(headers: &HeaderMap) -> Option<String> {
    let asks = headers
        .get(UPGRADE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    let key = headers.get("sec-websocket-key").filter(|_| asks)?;
    Some(derive_accept_key(key.as_bytes()))
}

/// Answers a handshake and connects the process to it.
pub(crate) fn serve(
    stream: AttachedStream,
    upgrade: OnUpgrade,
    accept_key: &str,
    protocol: Option<HeaderValue>,
    peer: Peer,
) -> Response<Body> {
    let mut response = respond::status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(key) = HeaderValue::from_str(accept_key) {
        headers.insert("sec-websocket-accept", key);
    }
    if let Some(protocol) = protocol {
        headers.insert("sec-websocket-protocol", protocol);
    }
    tokio::spawn(async move {
        // The permit counts the connection until its streams end.
        let _permit = peer.permit;
        let Ok(upgraded) = upgrade.await else { return };
        if let Ok(parts) = upgraded.downcast::<TokioIo<PlainHijack<Transport>>>() {
            let rest = parts.io.into_inner().into_parts();
            let mut already_read = BytesMut::from(parts.read_buf);
            already_read.unsplit(rest.unread);
            connect(rest.io, already_read.to_vec(), stream).await;
        }
    });
    response
}

/// Copies both ways until the output ends or the client is gone.
async fn connect(
    client: impl AsyncRead + AsyncWrite + Send + Unpin,
    already_read: Vec<u8>,
    stream: AttachedStream,
) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let socket =
        WebSocketStream::from_partially_read(client, already_read, Role::Server, Some(config));
    let (mut to_client, mut from_client) = socket.await.split();
    let (mut from_process, mut to_process) = tokio::io::split(stream.io);
    let input = async {
        while let Some(Ok(message)) = from_client.next().await {
            let sent = match message {
                Message::Binary(bytes) => to_process.write_all(&bytes).await,
                Message::Text(text) => to_process.write_all(text.as_bytes()).await,
                Message::Close(_) => break,
                _ => Ok(()),
            };
            if sent.is_err() {
                break;
            }
        }
        let _already_gone = to_process.shutdown().await;
    };
    let output = async {
        let mut output = Output::new(stream.tty);
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        while let Ok(count @ 1..) = from_process.read(&mut buffer).await {
            for bytes in output.take(buffer.get(..count).unwrap_or_default()) {
                if to_client.send(Message::Binary(bytes)).await.is_err() {
                    return;
                }
            }
        }
        let _already_gone = to_client.close().await;
    };
    tokio::select! {
        () = input => {}
        () = output => {}
    }
}

/// Takes docker's frames off, unless the output comes raw.
struct Output(Option<Decoder>);

impl Output {
    fn new(is_raw: bool) -> Self {
        Self((!is_raw).then(Decoder::default))
    }

    fn take(&mut self, bytes: &[u8]) -> Vec<Bytes> {
        let Some(decoder) = &mut self.0 else {
            return vec![Bytes::copy_from_slice(bytes)];
        };
        decoder.push(bytes);
        let frames = std::iter::from_fn(|| decoder.next_frame().ok().flatten());
        frames.map(|(_, payload)| payload).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_directions_go_without_docker_s_frames() {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (process, mut other_end) = tokio::io::duplex(1 << 16);
        let stream = AttachedStream {
            io: Box::new(process),
            tty: false,
        };
        let served = tokio::spawn(connect(server, Vec::new(), stream));
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        client.send(Message::Text("in".into())).await.expect("sent");
        let mut input = [0; 2];
        other_end.read_exact(&mut input).await.expect("input");
        assert_eq!(&input, b"in");
        other_end
            .write_all(b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x01!")
            .await
            .expect("output");
        drop(other_end);
        let mut output = Vec::new();
        while let Some(Ok(Message::Binary(bytes))) = client.next().await {
            output.extend_from_slice(&bytes);
        }
        assert_eq!(output, b"out!");
        drop(client);
        served.await.expect("no panic");
    }

    #[test]
    fn handshakes_are_answered_as_the_rfc_says() {
        let mut headers = HeaderMap::new();
        assert_eq!(accept_key(&headers), None);
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        headers.insert("sec-websocket-key", key);
        assert_eq!(
            accept_key(&headers).as_deref(),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
    }
}
