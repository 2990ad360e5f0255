//! Searching a registry for images: the one call of the registry API's first version that lives on.

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::RegistryError;
use crate::scope::Scopes;
use crate::transport::{Call, failure, read_capped};
use reqwest::Method;
use serde::Deserialize;

/// Most results of one search.
pub const MAX_RESULTS: u32 = 100;
/// Bytes of an answer.
const MAX_ANSWER_BYTES: u64 = 4 << 20;

/// One image that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Repository.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many users marked it.
    pub star_count: i64,
    /// Made by the registry's own people.
    pub is_official: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Results {
    results: Vec<Found>,
}

impl Client {
    /// Searches the registry `domain` for repositories, at most [`MAX_RESULTS`].
    ///
    /// # Errors
    /// A registry that cannot be reached, refuses, or cannot be searched.
    pub async fn search(
        &self,
        domain: &str,
        term: &str,
        limit: u32,
        credentials: &Credentials,
    ) -> Result<Vec<Found>, RegistryError> {
        let endpoint = self.inner().endpoints.first_version(domain).await?;
        let mut url = endpoint.url("search")?;
        url.query_pairs_mut()
            .append_pair("q", term)
            .append_pair("n", &limit.min(MAX_RESULTS).to_string());
        let call = Call::new(Method::GET, &endpoint, url, Scopes::default(), credentials);
        let response = self.send(&call).await?;
        if !response.status().is_success() {
            return Err(failure(&endpoint, "search", response).await);
        }
        let bytes = read_capped(response, MAX_ANSWER_BYTES, "search result", domain).await?;
        let results: Results =
            serde_json::from_slice(&bytes).map_err(|error| RegistryError::Protocol {
                registry: domain.to_owned(),
                expected: "a list of images".to_owned(),
                found: error.to_string(),
            })?;
        Ok(results.results)
    }
}
