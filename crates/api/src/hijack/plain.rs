//! Hijacking for clients that send no `Upgrade` header (spec engine-api §2.2).
//!
//! Old clients post to `attach` and `exec start` plainly and then use the connection both ways; the
//! answer is a `200` without a length. The HTTP library gives a connection away only after a `101`,
//! so this adapter between the two adds the header to such a request and writes its `101` as the
//! `200` that the client expects. All other bytes pass as they are.

use super::RAW_STREAM;
use super::framing::{Framing, Head};
use crate::limits::{COPY_BUFFER_BYTES, MAX_HEAD_BYTES};
use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is added to the head of a request that hijacks without saying so.
const ADDED_HEADERS: &[u8] = b"Connection: Upgrade\r\nUpgrade: tcp\r\n";

/// A connection on which requests without `Upgrade` can be hijacked too.
#[derive(Debug)]
pub(crate) struct PlainHijack<S> {
    inner: S,
    framing: Framing,
    /// Bytes of a request's head that is not whole yet.
    head: BytesMut,
    /// Bytes that go to the reader next.
    ready: BytesMut,
    /// The head of the answer to a request that was changed, as far as it was written.
    answer: Option<BytesMut>,
    /// Bytes that go to the client next.
    pending: BytesMut,
    has_ended: bool,
}

/// What remains of a connection once the HTTP library let go of it.
#[derive(Debug)]
pub(crate) struct Parts<S> {
    /// The connection.
    pub(crate) io: S,
    /// What the client sent and nobody has read.
    pub(crate) unread: BytesMut,
    /// What the client has not been sent.
    pub(crate) unsent: BytesMut,
}

impl<S> PlainHijack<S> {
    /// Wraps a new connection.
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            framing: Framing::Head,
            head: BytesMut::new(),
            ready: BytesMut::new(),
            answer: None,
            pending: BytesMut::new(),
            has_ended: false,
        }
    }

    /// Gives the connection back, with what is under way in both directions.
    pub(crate) fn into_parts(mut self) -> Parts<S> {
        self.ready.unsplit(self.head);
        Parts {
            io: self.inner,
            unread: self.ready,
            unsent: self.pending,
        }
    }

    /// Hands a whole head over to the reader, changed if it hijacks without saying so.
    fn take_head(&mut self, length: usize) {
        let bytes = self.head.split_to(length);
        let head = Head::read(&bytes);
        self.framing = head.body;
        if !head.hijacks_plainly {
            self.ready.unsplit(bytes);
            return;
        }
        let line_end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1;
        let (line, rest) = bytes.split_at_checked(line_end).unwrap_or((&bytes, &[]));
        self.ready.extend_from_slice(line);
        self.ready.extend_from_slice(ADDED_HEADERS);
        self.ready.extend_from_slice(rest);
        self.answer = Some(BytesMut::new());
    }

    /// Takes a part of the answer's head; once it is whole it goes out, in the plain form if the
    /// connection is given away by it.
    fn take_answer(&mut self, bytes: &[u8]) {
        let Some(answer) = &mut self.answer else {
            return;
        };
        answer.extend_from_slice(bytes);
        let Some(length) = super::framing::head_length(answer) else {
            return;
        };
        let rest = answer.split_off(length);
        let head = std::mem::take(answer);
        if head.starts_with(b"HTTP/1.1 100") {
            // Only asks for the body: the answer is still to come.
            self.pending.unsplit(head);
            self.take_answer(&rest);
            return;
        }
        self.answer = None;
        if head.starts_with(b"HTTP/1.1 101") {
            let plain = format!("HTTP/1.1 200 OK\r\nContent-Type: {RAW_STREAM}\r\n\r\n");
            self.pending.extend_from_slice(plain.as_bytes());
        } else {
            self.pending.unsplit(head);
        }
        self.pending.unsplit(rest);
    }
}

impl<S: AsyncRead + Unpin> PlainHijack<S> {
    /// Reads until a head is whole; too long a one passes as it is, for the reader to refuse.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = vec![0; COPY_BUFFER_BYTES.min(4096)];
        loop {
            // Line ends before a request line mean nothing.
            let blank = self.head.iter().take_while(|byte| b"\r\n".contains(byte));
            let blank = blank.count();
            let skipped = self.head.split_to(blank);
            self.ready.unsplit(skipped);
            if let Some(length) = super::framing::head_length(&self.head) {
                self.take_head(length);
            } else if self.has_ended || self.head.len() > MAX_HEAD_BYTES {
                self.framing = Framing::Raw;
                let head = std::mem::take(&mut self.head);
                self.ready.unsplit(head);
            } else if self.ready.is_empty() {
                let mut buffer = ReadBuf::new(&mut room);
                ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer))?;
                self.has_ended = buffer.filled().is_empty();
                self.head.extend_from_slice(buffer.filled());
                continue;
            }
            return Poll::Ready(Ok(()));
        }
    }

    /// Reads a part of a body straight into the reader's buffer.
    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.head.is_empty() {
            ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        } else {
            let count = self.head.len().min(buffer.remaining());
            buffer.put_slice(&self.head.split_to(count));
        }
        let new = buffer.filled().get(before..).unwrap_or_default();
        let taken = self.framing.advance(new);
        if taken < new.len() {
            // The next request came right behind.
            let mut next = BytesMut::from(new.get(taken..).unwrap_or_default());
            next.unsplit(std::mem::take(&mut self.head));
            self.head = next;
            buffer.set_filled(before + taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PlainHijack<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ready.is_empty() && matches!(this.framing, Framing::Head) {
            ready!(this.poll_head(context))?;
        } else if this.ready.is_empty() {
            return this.poll_body(context, buffer);
        }
        let count = this.ready.len().min(buffer.remaining());
        buffer.put_slice(&this.ready.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> PlainHijack<S> {
    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let count = ready!(Pin::new(&mut self.inner).poll_write(context, &self.pending))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PlainHijack<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.answer.is_some() {
            let mut count = 0;
            for slice in slices {
                count += slice.len();
                match this.answer {
                    Some(_) => this.take_answer(slice),
                    None => this.pending.extend_from_slice(slice),
                }
            }
            return Poll::Ready(Ok(count));
        }
        ready!(this.poll_pending(context))?;
        Pin::new(&mut this.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn read_all(requests: &[&str]) -> String {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        for request in requests {
            client.write_all(request.as_bytes()).await.expect("sent");
        }
        client.shutdown().await.expect("closed");
        let mut text = String::new();
        let mut io = PlainHijack::new(server);
        io.read_to_string(&mut text).await.expect("read");
        text
    }

    #[tokio::test]
    async fn only_plain_hijacks_are_changed() {
        let other = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(read_all(&[other]).await, other);
        let asking = "POST /containers/a/attach HTTP/1.1\r\nUpgrade: tcp\r\n\r\n";
        assert_eq!(read_all(&[asking]).await, asking);
        let changed = read_all(&["POST /v1.24/exec/a/start HTTP/1.1\r\nA: b\r\n\r\nstdin"]).await;
        assert_eq!(
            changed,
            "POST /v1.24/exec/a/start HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nA: b\r\n\r\nstdin"
        );
    }

    #[tokio::test]
    async fn a_body_is_never_taken_for_a_head() {
        let inner = "POST /containers/a/attach HTTP/1.1\r\n\r\n";
        let sized = format!(
            "PUT /x HTTP/1.1\r\ncontent-length: {}\r\n\r\n{inner}",
            inner.len()
        );
        assert_eq!(read_all(&[&sized]).await, sized);
        let chunked = format!(
            "PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x};e=1\r\n{inner}\r\n0\r\n\r\n",
            inner.len()
        );
        assert_eq!(read_all(&[&chunked]).await, chunked);
        for before in [sized, chunked] {
            let both = read_all(&[&before, inner]).await;
            assert!(both.starts_with(&before));
            assert!(both.ends_with("HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"));
        }
    }

    #[tokio::test]
    async fn the_answer_is_plain_and_nothing_else_is_touched() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client
            .write_all(b"POST /containers/a/attach HTTP/1.1\r\n\r\nstdin")
            .await
            .expect("sent");
        let mut io = PlainHijack::new(server);
        let mut head = [0; 73];
        io.read_exact(&mut head).await.expect("the changed head");
        io.write_all(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n")
            .await
            .expect("answered");
        io.write_all(b"HTTP/1.1 101 out").await.expect("output");
        io.flush().await.expect("flushed");
        let parts = io.into_parts();
        assert!(parts.unsent.is_empty());
        let mut unread = parts.unread;
        let mut inner = parts.io;
        if unread.is_empty() {
            inner.read_buf(&mut unread).await.expect("the input");
        }
        assert_eq!(&unread[..], b"stdin");
        drop(inner);
        let mut text = String::new();
        client.read_to_string(&mut text).await.expect("read");
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nHTTP/1.1 101 out"
        );
    }
}
