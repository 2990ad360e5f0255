//! What a user proves their identity with.

use base64::Engine as _;
use std::fmt;

/// Holds the credentials for one registry, as docker's `X-Registry-Auth` carries them; the default
/// is anonymous access. Shown without the secrets.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Credentials {
    /// User name.
    pub username: Option<String>,
    /// Password or access token.
    pub password: Option<String>,
    /// OAuth 2 refresh token that stands for user name and password.
    pub identity_token: Option<String>,
    /// Bearer token sent to the registry as it is.
    pub registry_token: Option<String>,
}

impl Credentials {
    /// Makes credentials of a user name and password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            username: Some(username.into()),
            password: Some(password.into()),
            ..Self::default()
        }
    }

    /// Tells whether there is nothing to prove an identity with.
    pub fn is_anonymous(&self) -> bool {
        self.basic_header().is_none()
            && self.identity_token.is_none()
            && self.registry_token.is_none()
    }

    /// Returns the `Authorization` value of basic authentication (RFC 7617) if a user is named.
    pub(crate) fn basic_header(&self) -> Option<String> {
        let username = self.username.as_deref().filter(|name| !name.is_empty())?;
        let pair = format!(
            "{username}:{}",
            self.password.as_deref().unwrap_or_default()
        );
        Some(format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        ))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "***");
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &hidden(&self.password))
            .field("identity_token", &hidden(&self.identity_token))
            .field("registry_token", &hidden(&self.registry_token))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Credentials;

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials {
            identity_token: Some("s3cret".to_owned()),
            registry_token: Some("s3cret".to_owned()),
            ..Credentials::basic("ann", "s3cret")
        };
        let shown = format!("{credentials:?}");
        assert!(
            shown.contains("ann") && !shown.contains("s3cret"),
            "{shown}"
        );
    }

    #[test]
    fn basic_needs_a_user() {
        assert_eq!(
            Credentials::basic("ann", "pw").basic_header().as_deref(),
            Some("Basic YW5uOnB3")
        );
        assert_eq!(Credentials::basic("", "pw").basic_header(), None);
        assert!(Credentials::default().is_anonymous());
    }
}
