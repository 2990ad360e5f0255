//! Answers to challenges: basic authentication and tokens (distribution token specification, OAuth 2
//! token specification of distribution).

use crate::challenge::Challenge;
use crate::credentials::Credentials;
use crate::endpoint::{Endpoints, without_query};
use crate::error::{RegistryError, connect_error};
use crate::scope::Scopes;
use crate::transport::{failure_detail, read_capped};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use url::Url;

/// Largest answer of a token server.
const MAX_TOKEN_ANSWER_BYTES: u64 = 1024 * 1024;
/// Life of a token whose server says nothing about it.
const DEFAULT_TOKEN_LIFE: Duration = Duration::from_secs(60);
/// Time before its end at which a token is not used any more.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);
/// Most tokens kept; the cache is emptied when it is full.
const MAX_CACHED_TOKENS: usize = 1024;
/// Name this client gives itself at token servers.
const CLIENT_ID: &str = "wharf";

/// Names the one who asks and what for; a token serves exactly one such wish.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wish {
    pub(crate) registry: String,
    pub(crate) scopes: Scopes,
    pub(crate) credentials: Credentials,
}

type Slot = Arc<tokio::sync::Mutex<Grant>>;

/// Holds what is known of one wish.
#[derive(Default)]
struct Grant {
    token: Option<Token>,
    /// Scope the registry asked for when it refused the wish.
    challenge_scope: String,
}

struct Token {
    header: String,
    valid_until: Instant,
}

/// Remembers challenges by registry and tokens by wish.
#[derive(Default)]
pub(crate) struct Authorizer {
    challenges: Mutex<HashMap<String, Challenge>>,
    tokens: Mutex<HashMap<Wish, Slot>>,
}

impl Authorizer {
    /// Returns the `Authorization` header for a request, if the registry is known to want one.
    pub(crate) async fn header(
        &self,
        endpoints: &Endpoints,
        wish: &Wish,
    ) -> Result<Option<String>, RegistryError> {
        if let Some(token) = &wish.credentials.registry_token {
            return Ok(Some(format!("Bearer {token}")));
        }
        let challenge = self
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&wish.registry)
            .cloned();
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(wish.credentials.basic_header()),
            Some(Challenge::Bearer { realm, service, .. }) => {
                let slot = self.slot(wish);
                // Held while fetching: requests with the same wish wait for one token.
                let mut grant = slot.lock().await;
                if let Some(token) = grant
                    .token
                    .as_ref()
                    .filter(|token| token.valid_until > Instant::now())
                {
                    return Ok(Some(token.header.clone()));
                }
                let fetched = fetch(
                    endpoints,
                    wish,
                    &realm,
                    service.as_deref(),
                    &grant.challenge_scope,
                )
                .await?;
                Ok(Some(grant.token.insert(fetched).header.clone()))
            }
        }
    }

    /// Takes note of a refusal; tells whether trying again with a new header has a point.
    pub(crate) async fn challenged(
        &self,
        wish: &Wish,
        headers: &reqwest::header::HeaderMap,
        sent: Option<&str>,
    ) -> bool {
        let values = headers.get_all(reqwest::header::WWW_AUTHENTICATE);
        let Some(challenge) =
            Challenge::choose(values.iter().filter_map(|value| value.to_str().ok()))
        else {
            return false;
        };
        let has_answer = match challenge {
            _ if wish.credentials.registry_token.is_some() => false,
            Challenge::Basic => wish
                .credentials
                .basic_header()
                .is_some_and(|header| Some(header.as_str()) != sent),
            Challenge::Bearer { .. } => true,
        };
        let slot = self.slot(wish);
        let mut grant = slot.lock().await;
        // Another request may have replaced the refused token meanwhile.
        if grant
            .token
            .as_ref()
            .is_some_and(|token| Some(token.header.as_str()) == sent)
        {
            grant.token = None;
        }
        if let Challenge::Bearer { scope, .. } = &challenge {
            grant.challenge_scope = scope.clone().unwrap_or_default();
        }
        let mut challenges = self
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        challenges.insert(wish.registry.clone(), challenge);
        has_answer
    }

    fn slot(&self, wish: &Wish) -> Slot {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_CACHED_TOKENS && !tokens.contains_key(wish) {
            tokens.clear();
        }
        Arc::clone(tokens.entry(wish.clone()).or_default())
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// Gets a token for a wish from the realm of a challenge.
async fn fetch(
    endpoints: &Endpoints,
    wish: &Wish,
    realm: &str,
    service: Option<&str>,
    challenge_scope: &str,
) -> Result<Token, RegistryError> {
    let registry = wish.registry.as_str();
    let mut url = Url::parse(realm).map_err(|error| RegistryError::Protocol {
        registry: registry.to_owned(),
        expected: "an address as token realm".to_owned(),
        found: format!("{realm:?}: {error}"),
    })?;
    if url.scheme() != "https" && !endpoints.is_insecure(registry) {
        let reason = "credentials are not sent over plain http";
        return Err(RegistryError::Redirect {
            registry: registry.to_owned(),
            target: without_query(&url),
            reason,
        });
    }
    let client = endpoints.client(registry, &url)?;
    let scopes = wish.scopes.clone().and_challenge(challenge_scope);
    let request = token_request(client, &mut url, wish, service, &scopes);
    let asked_at = Instant::now();
    let response = request
        .send()
        .await
        .map_err(|error| connect_error(&without_query(&url), error))?;
    if !response.status().is_success() {
        return Err(refusal(wish, &url, response).await);
    }
    let bytes = read_capped(response, MAX_TOKEN_ANSWER_BYTES, "token", registry).await?;
    parse_answer(&bytes, asked_at).ok_or_else(|| RegistryError::Protocol {
        registry: without_query(&url),
        expected: "JSON with a token".to_owned(),
        found: format!("{} bytes without one", bytes.len()),
    })
}

/// Builds the request for a token: OAuth 2 with an identity token, else a GET with or without user.
fn token_request(
    client: &reqwest::Client,
    url: &mut Url,
    wish: &Wish,
    service: Option<&str>,
    scopes: &Scopes,
) -> reqwest::RequestBuilder {
    if let Some(identity_token) = &wish.credentials.identity_token {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service.unwrap_or_default())
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &scopes.to_string())
            .append_pair("refresh_token", identity_token)
            .finish();
        return client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
    }
    if let Some(service) = service {
        url.query_pairs_mut().append_pair("service", service);
    }
    for scope in scopes.texts() {
        url.query_pairs_mut().append_pair("scope", &scope);
    }
    match wish.credentials.basic_header() {
        Some(header) => client.get(url.clone()).header(AUTHORIZATION, header),
        None => client.get(url.clone()),
    }
}

fn parse_answer(bytes: &[u8], asked_at: Instant) -> Option<Token> {
    let answer: TokenAnswer = serde_json::from_slice(bytes).ok()?;
    let token = [answer.token, answer.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty())?;
    let life = answer
        .expires_in
        .filter(|seconds| *seconds > 0)
        .map_or(DEFAULT_TOKEN_LIFE, Duration::from_secs);
    // Very short lives still serve the one request they were fetched for.
    let usable = life.checked_sub(TOKEN_MARGIN).unwrap_or(life / 2);
    let valid_until = asked_at
        .checked_add(usable)
        .unwrap_or(asked_at + DEFAULT_TOKEN_LIFE);
    Some(Token {
        header: format!("Bearer {token}"),
        valid_until,
    })
}

async fn refusal(wish: &Wish, url: &Url, response: reqwest::Response) -> RegistryError {
    let status = response.status();
    let registry = wish.registry.clone();
    let detail = failure_detail(response).await.unwrap_or_default();
    let or = |fallback: &str| {
        if detail.is_empty() {
            fallback.to_owned()
        } else {
            detail.clone()
        }
    };
    match status.as_u16() {
        401 | 400 if !wish.credentials.is_anonymous() => RegistryError::Unauthorized {
            registry,
            detail: or("unauthorized: incorrect username or password"),
        },
        401 => RegistryError::Unauthorized {
            registry,
            detail: or("unauthorized: authentication required"),
        },
        403 => RegistryError::Unauthorized {
            registry,
            detail: or("denied: requested access to the resource is denied"),
        },
        status => RegistryError::Status {
            what: "give out a token".to_owned(),
            registry: without_query(url),
            status,
            detail,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT_TOKEN_LIFE, parse_answer};
    use std::time::{Duration, Instant};

    #[test]
    fn token_answers_are_parsed() {
        let now = Instant::now();
        let cases = [
            (r#"{"token":"a","expires_in":300}"#, Some(("Bearer a", 295))),
            (
                r#"{"access_token":"b"}"#,
                Some(("Bearer b", DEFAULT_TOKEN_LIFE.as_secs() - 5)),
            ),
            (
                r#"{"token":"","access_token":"b","expires_in":0}"#,
                Some(("Bearer b", 55)),
            ),
            (
                r#"{"token":"a","expires_in":18446744073709551615}"#,
                Some(("Bearer a", 60)),
            ),
            (r#"{"token":"a","expires_in":4}"#, Some(("Bearer a", 2))),
            (r#"{"token":""}"#, None),
            ("{}", None),
            ("<html>", None),
        ];
        for (text, expected) in cases {
            let found = parse_answer(text.as_bytes(), now);
            let found = found
                .as_ref()
                .map(|token| (token.header.as_str(), token.valid_until - now));
            assert_eq!(
                found,
                expected.map(|(header, seconds)| (header, Duration::from_secs(seconds))),
                "{text}"
            );
        }
    }
}
