//! The `WWW-Authenticate` header (RFC 9110 §11.6.1).

use std::iter::Peekable;
use std::str::CharIndices;

/// Longest header looked at; longer ones are taken for no challenge.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Names what a registry wants to see in `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password.
    Basic,
    /// A token that `realm` gives out.
    Bearer {
        /// Address of the token server.
        realm: String,
        /// Name of the registry at the token server.
        service: Option<String>,
        /// Scopes the refused request needed.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Picks the challenge to answer out of a response's headers: bearer before basic, others never.
    pub(crate) fn choose<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let challenges: Vec<Self> = headers.into_iter().flat_map(parse).collect();
        let bearer = challenges
            .iter()
            .find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(challenges.first()).cloned()
    }

    fn new(scheme: &str, parameters: &[(String, String)]) -> Option<Self> {
        let value = |name: &str| {
            let found = parameters
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name));
            found
                .map(|(_, value)| value.clone())
                .filter(|value| !value.is_empty())
        };
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => Some(Self::Basic),
            "bearer" => Some(Self::Bearer {
                realm: value("realm")?,
                service: value("service"),
                scope: value("scope"),
            }),
            _ => None,
        }
    }
}

/// Parses one header, which may hold several challenges; stops at the first malformed part.
fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    if header.len() > MAX_HEADER_BYTES {
        return challenges;
    }
    let mut current: Option<(String, Vec<(String, String)>)> = None;
    let mut rest = header.char_indices().peekable();
    loop {
        skip(&mut rest, |character| {
            character == ',' || character.is_ascii_whitespace()
        });
        let word = token(header, &mut rest);
        if word.is_empty() {
            break;
        }
        skip(&mut rest, |character| character.is_ascii_whitespace());
        if rest.next_if(|(_, character)| *character == '=').is_some() {
            skip(&mut rest, |character| character.is_ascii_whitespace());
            let Some(value) = value(header, &mut rest) else {
                break;
            };
            if let Some((_, parameters)) = &mut current {
                parameters.push((word.to_owned(), value));
            }
        } else {
            let finished = current.replace((word.to_owned(), Vec::new()));
            challenges.extend(
                finished.and_then(|(scheme, parameters)| Challenge::new(&scheme, &parameters)),
            );
        }
    }
    challenges
        .extend(current.and_then(|(scheme, parameters)| Challenge::new(&scheme, &parameters)));
    challenges
}

fn skip(rest: &mut Peekable<CharIndices<'_>>, is_skipped: impl Fn(char) -> bool) {
    while rest
        .next_if(|(_, character)| is_skipped(*character))
        .is_some()
    {}
}

fn token<'a>(header: &'a str, rest: &mut Peekable<CharIndices<'_>>) -> &'a str {
    let is_token =
        |character: char| character.is_ascii_graphic() && !matches!(character, '=' | ',' | '"');
    let start = rest.peek().map_or(header.len(), |(at, _)| *at);
    skip(rest, is_token);
    let end = rest.peek().map_or(header.len(), |(at, _)| *at);
    header.get(start..end).unwrap_or_default()
}

/// Takes a token or quoted string; `None` when a quote is not closed.
fn value(header: &str, rest: &mut Peekable<CharIndices<'_>>) -> Option<String> {
    if rest.next_if(|(_, character)| *character == '"').is_none() {
        return Some(token(header, rest).to_owned());
    }
    let mut text = String::new();
    loop {
        match rest.next()?.1 {
            '"' => return Some(text),
            '\\' => text.push(rest.next()?.1),
            character => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Challenge;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: owned(service),
            scope: owned(scope),
        })
    }

    #[test]
    fn headers_are_parsed() {
        let cases: [(&[&str], Option<Challenge>); 12] = [
            (
                &[r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#],
                bearer("https://a/t", Some("s"), Some("repository:x:pull,push")),
            ),
            (
                &[r#"bearer REALM="https://a/t""#],
                bearer("https://a/t", None, None),
            ),
            (
                &[r#"Bearer realm = "a" , service=s"#],
                bearer("a", Some("s"), None),
            ),
            (
                &[r#"Bearer realm="a\"b\\c""#],
                bearer(r#"a"b\c"#, None, None),
            ),
            (&[r#"Basic realm="x""#], Some(Challenge::Basic)),
            (&["Basic"], Some(Challenge::Basic)),
            (
                &[r#"Basic realm="x", Bearer realm="a",service="s""#],
                bearer("a", Some("s"), None),
            ),
            (
                &[r#"Basic realm="x""#, r#"Bearer realm="a""#],
                bearer("a", None, None),
            ),
            (&[r#"Negotiate, Basic realm="x""#], Some(Challenge::Basic)),
            (&["Bearer"], None),
            (&[r#"Bearer realm="open"#], None),
            (&["", "=", "\"", "Digest realm=x"], None),
        ];
        for (headers, expected) in cases {
            assert_eq!(
                Challenge::choose(headers.iter().copied()),
                expected,
                "{headers:?}"
            );
        }
        let long = format!(r#"Bearer realm="{}""#, "a".repeat(super::MAX_HEADER_BYTES));
        assert_eq!(Challenge::choose([long.as_str()]), None);
    }
}
