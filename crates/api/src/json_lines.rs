//! Answers of long operations: one JSON message a line (spec engine-api §2.3).

use crate::json_message::Message;
use crate::limits::{PROGRESS_INTERVAL, STREAM_CHUNKS};
use crate::respond::{self, Answer, Failure};
use bytes::Bytes;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Instant;
use tokio::sync::mpsc;
use wharf_engine::model::view::{Progress, ProgressSender};
use wharf_engine::{EngineError, ErrorKind};

/// How an operation that sends messages ended.
pub(crate) struct Failed {
    /// What the user is told.
    pub(crate) error: EngineError,
    /// Exit code of the program that failed, for builds.
    pub(crate) code: Option<i32>,
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self { error, code: None }
    }
}

/// How errors are told when nothing was sent yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EarlyErrors {
    /// By the HTTP status.
    ByStatus,
    /// In the stream; the status is always 200 (load).
    InBand,
    /// In the stream, but for a request that is wrong in itself (push).
    InBandUnlessInvalid,
}

impl EarlyErrors {
    fn sets_status(self, error: &EngineError) -> bool {
        match self {
            Self::ByStatus => true,
            Self::InBand => false,
            Self::InBandUnlessInvalid => error.kind() == ErrorKind::Invalid,
        }
    }
}

type Operation = Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>>;

/// Runs an operation and answers with its messages as they come.
///
/// A client that goes away drops the operation. The answer starts with the first message: until
/// then an error still sets the HTTP status, unless `early` says otherwise.
pub(crate) async fn run<F, O>(early: EarlyErrors, start: F) -> Answer
where
    F: FnOnce(ProgressSender) -> O,
    O: Future<Output = Result<(), Failed>> + Send + 'static,
{
    let (progress, mut messages) = mpsc::unbounded_channel();
    let mut operation: Operation = Box::pin(start(progress));
    let mut first = None;
    let mut outcome = None;
    tokio::select! {
        biased;
        Some(message) = messages.recv() => first = Some(message),
        result = &mut operation => outcome = Some(result),
    }
    if let Some(Err(failed)) = &outcome
        && early.sets_status(&failed.error)
        && messages.is_empty()
    {
        return Err(Failure::new(
            respond::status_of(failed.error.kind()),
            failed.error.message(),
        ));
    }
    let (chunks, body) = mpsc::channel(STREAM_CHUNKS);
    let writer = Writer {
        chunks,
        bars: HashMap::new(),
    };
    tokio::spawn(writer.run(first, outcome, messages, operation));
    Ok(respond::stream(respond::JSON, body))
}

struct Writer {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    /// When a part's bar was last sent, and with which status.
    bars: HashMap<String, (Instant, String)>,
}

/// The client does not read any more.
struct Gone;

impl Writer {
    async fn run(
        mut self,
        first: Option<Progress>,
        outcome: Option<Result<(), Failed>>,
        messages: mpsc::UnboundedReceiver<Progress>,
        operation: Operation,
    ) {
        // An error here means the client left; dropping the operation is all there is to do.
        let _ = self.forward(first, outcome, messages, operation).await;
    }

    async fn forward(
        &mut self,
        first: Option<Progress>,
        mut outcome: Option<Result<(), Failed>>,
        mut messages: mpsc::UnboundedReceiver<Progress>,
        mut operation: Operation,
    ) -> Result<(), Gone> {
        if let Some(message) = first {
            self.progress(message).await?;
        }
        while outcome.is_none() {
            tokio::select! {
                biased;
                () = self.chunks.closed() => return Err(Gone),
                Some(message) = messages.recv() => self.progress(message).await?,
                result = &mut operation => outcome = Some(result),
            }
        }
        while let Ok(message) = messages.try_recv() {
            self.progress(message).await?;
        }
        match outcome {
            Some(Err(failed)) => {
                self.send(&Message::error(failed.error.message(), failed.code))
                    .await
            }
            Some(Ok(())) | None => Ok(()),
        }
    }

    async fn progress(&mut self, progress: Progress) -> Result<(), Gone> {
        if self.is_too_early(&progress, Instant::now()) {
            return Ok(());
        }
        self.send(&Message::from(progress)).await
    }

    /// Tells whether a bar moves again before its interval is over. The first and the last move and
    /// every change of the status are always shown.
    fn is_too_early(&mut self, progress: &Progress, now: Instant) -> bool {
        let Progress::Status {
            id: Some(id),
            status,
            progress: Some((current, total)),
        } = progress
        else {
            return false;
        };
        let is_early = current < total
            && self.bars.get(id).is_some_and(|(shown, shown_status)| {
                shown_status == status && now.duration_since(*shown) < PROGRESS_INTERVAL
            });
        if !is_early {
            self.bars.insert(id.clone(), (now, status.clone()));
        }
        is_early
    }

    async fn send(&self, message: &Message) -> Result<(), Gone> {
        let mut line = serde_json::to_vec(message).unwrap_or_default();
        line.extend_from_slice(b"\r\n");
        self.chunks
            .send(Ok(Bytes::from(line)))
            .await
            .map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn part(status: &str, progress: Option<(u64, u64)>) -> Progress {
        Progress::Status {
            id: Some("c6a83fedfae6".into()),
            status: status.into(),
            progress,
        }
    }

    #[test]
    fn bars_move_at_most_ten_times_a_second() {
        let mut writer = Writer {
            chunks: mpsc::channel(1).0,
            bars: HashMap::new(),
        };
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert!(!writer.is_too_early(&part("Downloading", Some((1, 9))), at(0)));
        assert!(writer.is_too_early(&part("Downloading", Some((2, 9))), at(99)));
        assert!(!writer.is_too_early(&part("Downloading", Some((3, 9))), at(100)));
        assert!(!writer.is_too_early(&part("Extracting", Some((1, 9))), at(101)));
        assert!(!writer.is_too_early(&part("Extracting", Some((9, 9))), at(102)));
        assert!(!writer.is_too_early(&part("Pull complete", None), at(103)));
    }

    #[tokio::test]
    async fn an_error_before_the_first_message_sets_the_status() {
        let fail = |_: ProgressSender| async { Err(Failed::from(EngineError::not_found("gone"))) };
        let failure = run(EarlyErrors::ByStatus, fail)
            .await
            .err()
            .expect("a failure");
        assert_eq!(
            (failure.status().as_u16(), failure.message()),
            (404, "gone")
        );
        let response = run(EarlyErrors::InBand, fail).await.expect("an answer");
        assert_eq!(
            collect(response).await,
            "{\"errorDetail\":{\"message\":\"gone\"},\"error\":\"gone\"}\r\n"
        );
    }

    #[tokio::test]
    async fn an_error_after_a_message_is_in_band() {
        let response = run(EarlyErrors::ByStatus, |progress| async move {
            let _ = progress.send(Progress::Stream("one\n".into()));
            Err(Failed::from(EngineError::internal("late")))
        })
        .await
        .expect("an answer");
        assert_eq!(
            collect(response).await,
            "{\"stream\":\"one\\n\"}\r\n{\"errorDetail\":{\"message\":\"late\"},\"error\":\"late\"}\r\n"
        );
    }

    async fn collect(response: http::Response<respond::Body>) -> String {
        let respond::Body::Stream(mut chunks) = response.into_body() else {
            panic!("a stream was expected")
        };
        let mut text = String::new();
        while let Some(chunk) = chunks.recv().await {
            text.push_str(&String::from_utf8_lossy(&chunk.expect("a chunk")));
        }
        text
    }
}
