//! Registry credentials in headers and bodies (spec engine-api §3).

use crate::call::Call;
use crate::wire::system::AuthConfig;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use wharf_registry::Credentials;

/// Header with the credentials of one registry.
const AUTH_HEADER: &str = "x-registry-auth";
/// Header with the credentials of several registries, for builds.
const CONFIG_HEADER: &str = "x-registry-config";

/// Takes base64 with and without padding.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// Returns the credentials of a call. What cannot be decoded means anonymous, as in docker.
pub(crate) fn of_call(call: &Call) -> Credentials {
    let config = call.header(AUTH_HEADER).and_then(decode::<AuthConfig>);
    from_config(config.unwrap_or_default())
}

/// Returns the credentials of a build by registry host; what cannot be decoded means none.
pub(crate) fn of_build(call: &Call) -> BTreeMap<String, Credentials> {
    let configs = call
        .header(CONFIG_HEADER)
        .and_then(decode::<BTreeMap<String, AuthConfig>>);
    configs
        .unwrap_or_default()
        .into_iter()
        .map(|(host, config)| (host, from_config(config)))
        .collect()
}

/// Converts a client's document.
pub(crate) fn from_config(config: AuthConfig) -> Credentials {
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let (mut username, mut password) = (some(config.username), some(config.password));
    let pair = decode_base64(&config.auth).and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some((user, secret)) = pair.as_deref().and_then(|pair| pair.split_once(':'))
        && username.is_none()
    {
        username = Some(user.to_owned());
        password = Some(secret.trim_end_matches('\0').to_owned());
    }
    Credentials {
        username,
        password,
        identity_token: some(config.identitytoken),
        registry_token: some(config.registrytoken),
    }
}

fn decode<T: DeserializeOwned>(text: &str) -> Option<T> {
    let value = serde_json::from_slice(&decode_base64(text)?).ok()?;
    crate::go_json::from_value(value).ok()
}

/// Decodes the URL alphabet, which docker's clients use, or the standard one.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let decode = |alphabet| {
        GeneralPurpose::new(alphabet, LENIENT)
            .decode(text.trim())
            .ok()
    };
    decode(&alphabet::URL_SAFE).or_else(|| decode(&alphabet::STANDARD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};

    #[test]
    fn every_alphabet_and_padding_is_taken() {
        let text = r#"{"username":"u?>","password":"p~~"}"#;
        for encoded in [
            URL_SAFE.encode(text),
            URL_SAFE_NO_PAD.encode(text),
            STANDARD.encode(text),
        ] {
            let config: AuthConfig = decode(&encoded).expect("a document");
            let credentials = from_config(config);
            assert_eq!(credentials.username.as_deref(), Some("u?>"));
            assert_eq!(credentials.password.as_deref(), Some("p~~"));
        }
    }

    #[test]
    fn an_empty_document_is_anonymous() {
        let config: AuthConfig = decode("e30=").expect("a document");
        assert!(from_config(config).is_anonymous());
        assert!(decode::<AuthConfig>("not base64!").is_none());
    }

    #[test]
    fn a_pair_stands_for_user_and_password() {
        let config = AuthConfig {
            auth: STANDARD.encode("u:p:q"),
            ..AuthConfig::default()
        };
        let credentials = from_config(config);
        assert_eq!(credentials.username.as_deref(), Some("u"));
        assert_eq!(credentials.password.as_deref(), Some("p:q"));
    }
}
