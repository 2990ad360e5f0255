//! The client and its options.

use crate::auth::Authorizer;
use crate::endpoint::Endpoints;
use crate::error::RegistryError;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Sets up a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Value of the `User-Agent` header.
    pub user_agent: String,
    /// Registries that may be reached over plain HTTP or with unchecked certificates: `host`,
    /// `host:port` or a network such as `10.0.0.0/8`. Loopback always may.
    pub insecure_registries: Vec<String>,
    /// URLs of registries that are asked before docker.io when something is read.
    pub mirrors: Vec<String>,
    /// Longest time to wait for a connection.
    pub connect_timeout: Duration,
    /// Longest time to wait for the next bytes.
    pub read_timeout: Duration,
    /// How often a request is made, in all, before its failure is reported.
    pub attempts: u32,
    /// Wait before the second attempt; doubles each time.
    pub first_retry_delay: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("wharf/", env!("CARGO_PKG_VERSION")).to_owned(),
            insecure_registries: Vec::new(),
            mirrors: Vec::new(),
            connect_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(60),
            attempts: 5,
            first_retry_delay: Duration::from_millis(500),
        }
    }
}

/// Speaks to registries; keeps connections and tokens. Clones share both.
#[derive(Clone)]
pub struct Client {
    inner: Arc<RwLock<Arc<Inner>>>,
}

pub(crate) struct Inner {
    pub(crate) options: ClientOptions,
    pub(crate) endpoints: Endpoints,
    pub(crate) authorizer: Authorizer,
}

impl Client {
    /// Sets up a client. Connects to nothing yet.
    ///
    /// # Errors
    /// [`RegistryError::Setup`] when an insecure registry is malformed.
    pub fn new(options: ClientOptions) -> Result<Self, RegistryError> {
        let inner = Inner::new(options)?;
        Ok(Self {
            inner: Arc::new(RwLock::new(inner)),
        })
    }

    /// Works by other options from now on, as do all clones. What is under way goes on by the old.
    ///
    /// # Errors
    /// Those of [`Client::new`]; the old options stay then.
    pub fn reconfigure(&self, options: ClientOptions) -> Result<(), RegistryError> {
        let inner = Inner::new(options)?;
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = inner;
        Ok(())
    }

    pub(crate) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn new(options: ClientOptions) -> Result<Arc<Self>, RegistryError> {
        let endpoints = Endpoints::new(options.clone())?;
        Ok(Arc::new(Self {
            options,
            endpoints,
            authorizer: Authorizer::default(),
        }))
    }
}
