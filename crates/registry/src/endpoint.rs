//! Where a registry is reached, and with which HTTP client.

use crate::client::ClientOptions;
use crate::error::{RegistryError, connect_error, innermost_cause, shown};
use crate::host::{InsecureHosts, is_loopback};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;
use url::Url;
use wharf_image::{DEFAULT_DOMAIN, Reference};

/// Host that serves the API of `docker.io`.
const DEFAULT_DOMAIN_API: &str = "registry-1.docker.io";
/// Host that searches `docker.io`.
const DEFAULT_DOMAIN_SEARCH: &str = "index.docker.io";
/// How long an insecure registry may take to show whether it speaks TLS.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Names one repository at one registry.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Host with port as the user wrote it; used in errors and as key of caches.
    pub(crate) registry: String,
    /// Path of the repository.
    pub(crate) path: String,
    /// Address of the repository, such as `https://host/v2/library/alpine/`.
    pub(crate) base: Url,
}

impl Endpoint {
    /// Returns an address below the repository. `tail` must consist of characters that mean
    /// themselves in a URL path: fixed words, tags and digests do.
    pub(crate) fn url(&self, tail: &str) -> Result<Url, RegistryError> {
        self.base
            .join(tail)
            .map_err(|error| RegistryError::Protocol {
                registry: self.registry.clone(),
                expected: "a path below the repository".to_owned(),
                found: format!("{tail:?}: {error}"),
            })
    }
}

/// Makes HTTP clients and decides between HTTPS and HTTP.
pub(crate) struct Endpoints {
    options: ClientOptions,
    insecure: InsecureHosts,
    mirrors: Vec<Url>,
    checked: OnceLock<reqwest::Client>,
    unchecked: OnceLock<reqwest::Client>,
    loopback: OnceLock<reqwest::Client>,
    /// Scheme by host, found out once.
    schemes: Mutex<HashMap<String, Arc<OnceCell<&'static str>>>>,
}

impl Endpoints {
    pub(crate) fn new(options: ClientOptions) -> Result<Self, RegistryError> {
        let mirrors = parse_mirrors(&options.mirrors)?;
        let mut insecure = options.insecure_registries.clone();
        // Who names a mirror with http:// wants it so.
        insecure.extend(
            mirrors
                .iter()
                .filter(|mirror| mirror.scheme() == "http")
                .map(host_of),
        );
        let insecure = InsecureHosts::parse(&insecure).map_err(|entry| RegistryError::Setup {
            detail: format!("insecure registry {entry:?} is not a host, host:port or network"),
        })?;
        // Fails only when a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let new = OnceLock::new;
        Ok(Self {
            options,
            insecure,
            mirrors,
            checked: new(),
            unchecked: new(),
            loopback: new(),
            schemes: Mutex::default(),
        })
    }

    /// Finds the registry of a reference.
    pub(crate) async fn of(&self, reference: &Reference) -> Result<Endpoint, RegistryError> {
        let domain = reference.domain();
        let host = if domain == DEFAULT_DOMAIN {
            DEFAULT_DOMAIN_API
        } else {
            domain
        };
        let address_error = || RegistryError::Address {
            reference: reference.familiar(),
            domain: domain.to_owned(),
        };
        if host.is_empty() {
            return Err(address_error());
        }
        let scheme = if self.insecure.contains(domain) {
            self.probe(host).await?
        } else {
            "https"
        };
        let base = Url::parse(&format!("{scheme}://{host}/v2/{}/", reference.path()))
            .map_err(|_| address_error())?;
        Ok(Endpoint {
            registry: domain.to_owned(),
            path: reference.path().to_owned(),
            base,
        })
    }

    /// Finds the API root of a registry's first version, which only searches still use.
    pub(crate) async fn first_version(&self, domain: &str) -> Result<Endpoint, RegistryError> {
        let host = if domain == DEFAULT_DOMAIN {
            DEFAULT_DOMAIN_SEARCH
        } else {
            domain
        };
        let scheme = if self.insecure.contains(domain) {
            self.probe(host).await?
        } else {
            "https"
        };
        let base =
            Url::parse(&format!("{scheme}://{host}/v1/")).map_err(|_| RegistryError::Address {
                reference: domain.to_owned(),
                domain: domain.to_owned(),
            })?;
        Ok(Endpoint {
            registry: domain.to_owned(),
            path: String::new(),
            base,
        })
    }

    /// Returns where else a reference of docker.io may be read, in the order to try.
    pub(crate) fn mirrors_of(&self, reference: &Reference) -> Vec<Endpoint> {
        if reference.domain() != DEFAULT_DOMAIN {
            return Vec::new();
        }
        let repository = format!("v2/{}/", reference.path());
        self.mirrors
            .iter()
            .filter_map(|mirror| {
                Some(Endpoint {
                    registry: host_of(mirror),
                    path: reference.path().to_owned(),
                    base: mirror.join(&repository).ok()?,
                })
            })
            .collect()
    }

    /// Returns the HTTP client for an address.
    ///
    /// # Errors
    /// Refuses plain HTTP to hosts that are neither loopback nor listed.
    pub(crate) fn client(
        &self,
        registry: &str,
        url: &Url,
    ) -> Result<&reqwest::Client, RegistryError> {
        let host = host_of(url);
        let insecure = self.insecure.contains(&host);
        if url.scheme() != "https" && !(insecure && url.scheme() == "http") {
            return Err(RegistryError::Redirect {
                registry: registry.to_owned(),
                target: without_query(url),
                reason: "only https is used, and http for registries listed as insecure",
            });
        }
        let (slot, checks_certificates, uses_proxy) = match (insecure, is_loopback(&host)) {
            (_, true) => (&self.loopback, false, false),
            (true, false) => (&self.unchecked, false, true),
            (false, false) => (&self.checked, true, true),
        };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = self.build(checks_certificates, uses_proxy)?;
        Ok(slot.get_or_init(|| client))
    }

    /// Tells whether a registry may be spoken to without checked TLS.
    pub(crate) fn is_insecure(&self, registry: &str) -> bool {
        self.insecure.contains(registry)
    }

    fn build(
        &self,
        checks_certificates: bool,
        uses_proxy: bool,
    ) -> Result<reqwest::Client, RegistryError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(self.options.user_agent.as_str())
            .connect_timeout(self.options.connect_timeout)
            .read_timeout(self.options.read_timeout)
            // Followed by hand: credentials must not travel to other hosts.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tls_danger_accept_invalid_certs(!checks_certificates);
        if !uses_proxy {
            builder = builder.no_proxy();
        }
        builder.build().map_err(|error| RegistryError::Setup {
            detail: innermost_cause(error),
        })
    }

    /// Finds out whether an insecure host speaks TLS. TLS is tried first, so that nothing is sent in
    /// the clear without need.
    async fn probe(&self, host: &str) -> Result<&'static str, RegistryError> {
        let cell = {
            let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(schemes.entry(host.to_owned()).or_default())
        };
        cell.get_or_try_init(|| async {
            match self.answers("https", host).await {
                Ok(()) => Ok("https"),
                Err(_) => self.answers("http", host).await.map(|()| "http"),
            }
        })
        .await
        .copied()
    }

    async fn answers(&self, scheme: &str, host: &str) -> Result<(), RegistryError> {
        let url = Url::parse(&format!("{scheme}://{host}/v2/")).map_err(|error| {
            RegistryError::Address {
                reference: host.to_owned(),
                domain: shown(&error.to_string()),
            }
        })?;
        let request = self.client(host, &url)?.get(url).timeout(PROBE_TIMEOUT);
        request
            .send()
            .await
            .map(drop)
            .map_err(|error| connect_error(host, error))
    }
}

/// Parses mirrors as docker does: a URL of http or https with nothing behind its path; the path ends
/// with a slash afterwards.
fn parse_mirrors(mirrors: &[String]) -> Result<Vec<Url>, RegistryError> {
    let parse = |text: &String| {
        let mut url = Url::parse(text).ok()?;
        let is_plain = matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.host_str().is_some();
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        is_plain.then_some(url)
    };
    mirrors
        .iter()
        .map(|text| {
            parse(text).ok_or_else(|| RegistryError::Setup {
                detail: format!(
                    "invalid mirror: {text:?} is not a URL such as https://mirror.example"
                ),
            })
        })
        .collect()
}

/// Returns host and, when it is not the scheme's default, port of an address.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Returns an address fit to be shown: queries may hold signatures.
pub(crate) fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for addresses that cannot have a user, which then have none.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    shown(url.as_str())
}
