//! One request on its way through a handler: who asks, for what, and the body.

use crate::body::{self, RequestBody};
use crate::policy::PolicyHandle;
use crate::query::Query;
use crate::respond::Failure;
use crate::version::ApiVersion;
use http::header::{CONTENT_TYPE, HeaderMap};
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use wharf_engine::Engine;

/// The other end of a connection, as the kernel knows it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// User and groups of the process that connected; None when the kernel does not tell.
    pub(crate) caller: Option<wharf_safefs::Caller>,
    /// Holds the connection's place under the limit, also after a hijack.
    pub(crate) permit: Arc<OwnedSemaphorePermit>,
    /// What clients of the socket may do.
    pub(crate) policy: PolicyHandle,
    /// Web pages could reach the socket through a browser: requests that come from one are refused.
    pub(crate) refuses_browsers: bool,
}

/// A request that found its route.
pub(crate) struct Call {
    /// The engine that does the work.
    pub(crate) engine: Arc<Engine>,
    /// The API version the client speaks.
    pub(crate) version: ApiVersion,
    /// The pattern's parameter, percent-decoded; empty for patterns without one.
    pub(crate) name: String,
    /// Parameters of the query.
    pub(crate) query: Query,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// The body, not read yet; None when it was a form, which is among the parameters then.
    pub(crate) body: Option<RequestBody>,
    /// Who asks.
    pub(crate) peer: Peer,
    /// The connection itself, when the client asks to upgrade it.
    pub(crate) upgrade: Option<OnUpgrade>,
}

impl Call {
    /// Returns the path's name without the leading slash docker writes before container names.
    pub(crate) fn container(&self) -> &str {
        self.name.strip_prefix('/').unwrap_or(&self.name)
    }

    /// Returns a header as text; None when absent or not text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Reads a JSON body that must be there.
    ///
    /// # Errors
    /// 400 with docker's texts for a wrong content type, an empty body, or bad JSON (spec
    /// engine-api §1); 413 past the limit.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, Failure> {
        body::read_document(self.value().await?.ok_or_else(body::empty_document)?)
    }

    /// Reads a JSON body; the type's default when there is none.
    pub(crate) async fn json_or_default<T>(self) -> Result<T, Failure>
    where
        T: DeserializeOwned + Default,
    {
        match self.value().await? {
            None | Some(Value::Null) => Ok(T::default()),
            Some(value) => body::read_document(value),
        }
    }

    /// Reads a JSON body as it is; None when it is empty.
    pub(crate) async fn value(self) -> Result<Option<Value>, Failure> {
        let content_type = self.headers.get(CONTENT_TYPE).cloned();
        let was_form = self.body.is_none();
        let bytes = body::collect(self.body).await?;
        if bytes.is_empty() && !was_form {
            return Ok(None);
        }
        body::check_json_content_type(content_type.as_ref())?;
        body::parse_json(&bytes).map(Some)
    }
}
