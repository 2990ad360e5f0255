//! Listing tags.

use crate::client::Client;
use crate::credentials::Credentials;
use crate::documents::MAX_DOCUMENT_BYTES;
use crate::endpoint::{Endpoint, without_query};
use crate::error::RegistryError;
use crate::scope::Scopes;
use crate::transport::{Call, failure, read_capped};
use reqwest::Method;
use reqwest::header::LINK;
use serde::Deserialize;
use wharf_image::Reference;

/// Tags asked for at once.
const TAGS_PER_PAGE: usize = 1000;
/// Most pages followed.
const MAX_PAGES: usize = 1000;

#[derive(Deserialize)]
struct TagPage {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Client {
    /// Lists the tags of a repository in the registry's order; mirrors are asked first.
    ///
    /// # Errors
    /// All failures of transport.
    pub async fn tags(
        &self,
        repository: &Reference,
        credentials: &Credentials,
    ) -> Result<Vec<String>, RegistryError> {
        for endpoint in self.inner().endpoints.mirrors_of(repository) {
            if let Ok(tags) = self.tags_at(endpoint, &Credentials::default()).await {
                return Ok(tags);
            }
        }
        let endpoint = self.inner().endpoints.of(repository).await?;
        self.tags_at(endpoint, credentials).await
    }

    async fn tags_at(
        &self,
        endpoint: Endpoint,
        credentials: &Credentials,
    ) -> Result<Vec<String>, RegistryError> {
        let mut url = endpoint.url(&format!("tags/list?n={TAGS_PER_PAGE}"))?;
        let mut tags = Vec::new();
        for _ in 0..MAX_PAGES {
            let scopes = Scopes::pull(&endpoint.path);
            let response = self
                .send(&Call::new(
                    Method::GET,
                    &endpoint,
                    url.clone(),
                    scopes,
                    credentials,
                ))
                .await?;
            if !response.status().is_success() {
                return Err(failure(&endpoint, "list tags", response).await);
            }
            let link = response
                .headers()
                .get(LINK)
                .and_then(|value| value.to_str().ok())
                .and_then(next_link);
            let next = link.map(|link| url.join(&link));
            let bytes =
                read_capped(response, MAX_DOCUMENT_BYTES, "tag list", &endpoint.registry).await?;
            let page: TagPage =
                serde_json::from_slice(&bytes).map_err(|error| RegistryError::Protocol {
                    registry: endpoint.registry.clone(),
                    expected: "a list of tags".to_owned(),
                    found: error.to_string(),
                })?;
            tags.extend(page.tags.unwrap_or_default());
            match next {
                None => return Ok(tags),
                Some(Ok(next)) if next.origin() == url.origin() => url = next,
                Some(next) => {
                    let target =
                        next.map_or_else(|_| "nowhere".to_owned(), |next| without_query(&next));
                    let reason = "the next page of tags must be at the same host";
                    return Err(RegistryError::Redirect {
                        registry: endpoint.registry,
                        target,
                        reason,
                    });
                }
            }
        }
        Err(RegistryError::Protocol {
            registry: endpoint.registry,
            expected: format!("at most {MAX_PAGES} pages of tags"),
            found: "more".to_owned(),
        })
    }
}

/// Finds the target of `<target>; rel="next"` (RFC 8288).
fn next_link(header: &str) -> Option<String> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = |parameter: &str| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        };
        parameters
            .split(';')
            .any(is_next)
            .then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::next_link;

    #[test]
    fn links_are_parsed() {
        let cases = [
            (
                r#"</v2/a/tags/list?n=1&last=b>; rel="next""#,
                Some("/v2/a/tags/list?n=1&last=b"),
            ),
            ("<x>; rel=next", Some("x")),
            ("<x>; rel=prev, <y>; a=b; rel=next", Some("y")),
            ("<x>; rel=prev", None),
            ("<x", None),
            ("", None),
        ];
        for (header, expected) in cases {
            assert_eq!(next_link(header).as_deref(), expected, "{header}");
        }
    }
}
