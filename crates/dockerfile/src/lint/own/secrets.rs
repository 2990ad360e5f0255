//! Values that look like secrets, whatever their names are.

/// Beginnings of tokens, and how many characters stand behind them at least.
const TOKENS: [(&str, usize); 14] = [
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 35),
    ("ghp_", 30),
    ("gho_", 30),
    ("ghu_", 30),
    ("ghs_", 30),
    ("github_pat_", 30),
    ("glpat-", 16),
    ("npm_", 30),
    ("sk_live_", 16),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("dckr_pat_", 20),
];

/// Returns what kind of secret a value looks like.
pub(super) fn kind(value: &str) -> Option<&'static str> {
    let value = value.trim_matches(['"', '\'']);
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let is_token = TOKENS.iter().any(|(start, length)| {
        value
            .strip_prefix(start)
            .is_some_and(|rest| rest.len() >= *length && rest.bytes().all(is_token_byte))
    });
    if is_token {
        return Some("an access token");
    }
    if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    is_address_with_password(value).then_some("an address with a password")
}

/// Returns whether a value is `scheme://user:password@host`; a variable is no password.
fn is_address_with_password(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else {
        return false;
    };
    let Some((_, password)) = user.split_once(':') else {
        return false;
    };
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte);
    !scheme.is_empty()
        && scheme.bytes().all(is_scheme)
        && !password.is_empty()
        && !password.contains(['$', '<', '{', '*'])
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn values_that_look_like_secrets() {
        let key = format!("AKIA{}", "Z".repeat(16));
        assert_eq!(kind(&key), Some("an access token"));
        assert_eq!(
            kind(&format!("ghp_{}", "a".repeat(36))),
            Some("an access token")
        );
        assert_eq!(kind("AKIA"), None);
        assert_eq!(
            kind("postgres://u:p4ss@db/app"),
            Some("an address with a password")
        );
        assert_eq!(kind("postgres://u:$PASS@db/app"), None);
        assert_eq!(kind("https://example.org/a:b@c"), None);
        assert_eq!(
            kind("'-----BEGIN RSA PRIVATE KEY-----x'"),
            Some("a private key")
        );
    }
}
