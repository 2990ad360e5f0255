//! Query parameters and docker's way to read them (spec engine-api §1).

use crate::limits::MAX_QUERY_PAIRS;
use crate::respond::Failure;
use std::collections::BTreeMap;
use url::form_urlencoded;

/// The parameters of a request: of its query, and of its body when that is a form.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a query text; parameters keep their order.
    ///
    /// # Errors
    /// 400 past [`MAX_QUERY_PAIRS`].
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let mut query = Self::default();
        query.extend(text.as_bytes())?;
        Ok(query)
    }

    /// Adds the parameters of a form body behind those of the query.
    pub(crate) fn extend(&mut self, form: &[u8]) -> Result<(), Failure> {
        for (key, value) in form_urlencoded::parse(form) {
            if self.0.len() >= MAX_QUERY_PAIRS {
                return Err(Failure::bad_request(format!(
                    "too many parameters: at most {MAX_QUERY_PAIRS} are accepted"
                )));
            }
            self.0.push((key.into_owned(), value.into_owned()));
        }
        Ok(())
    }

    /// Replaces all values of a parameter by one.
    pub(crate) fn set(&mut self, key: &str, value: String) {
        self.0.retain(|(name, _)| name != key);
        self.0.push((key.to_owned(), value));
    }

    /// Returns a parameter's first value; None when it is absent.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// Returns a parameter's first value, or an empty text.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// Returns all values of a parameter that may be repeated.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// Returns a switch; `absent` when the parameter is not there.
    pub(crate) fn switch(&self, key: &str, absent: bool) -> bool {
        self.get(key).map_or(absent, is_true)
    }

    /// Returns a whole number; None when absent or empty.
    ///
    /// # Errors
    /// 400 with the text of Go's `strconv.Atoi`.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, Failure> {
        match self.text(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Failure::bad_request(format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
            }),
        }
    }

    /// Returns a JSON parameter; None when absent or empty.
    ///
    /// # Errors
    /// 400 `error reading <what>: …`.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(
        &self,
        key: &str,
        what: &str,
    ) -> Result<Option<T>, Failure> {
        match self.text(key) {
            "" => Ok(None),
            text => serde_json::from_str(text)
                .map(Some)
                .map_err(|error| Failure::bad_request(format!("error reading {what}: {error}"))),
        }
    }

    /// Returns a JSON map of texts; empty when absent or null.
    pub(crate) fn json_map(
        &self,
        key: &str,
        what: &str,
    ) -> Result<BTreeMap<String, String>, Failure> {
        Ok(self
            .json::<Option<_>>(key, what)?
            .flatten()
            .unwrap_or_default())
    }
}

/// Reads docker's query booleans: empty, `0`, `no`, `false` and `none` are false, all else is true.
fn is_true(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    !matches!(text.as_str(), "" | "0" | "no" | "false" | "none")
}

/// Undoes percent-encoding of a path.
///
/// # Errors
/// 400 when an escape is malformed or the result is not UTF-8.
pub(crate) fn percent_decode(path: &str) -> Result<String, Failure> {
    let malformed = || Failure::bad_request(format!("invalid path {path:?}: malformed % escape"));
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            rest.next()
                .and_then(|digit| char::from(digit).to_digit(16))
                .ok_or_else(malformed)
        };
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).map_err(|_| malformed())?);
    }
    String::from_utf8(bytes)
        .map_err(|_| Failure::bad_request(format!("invalid path {path:?}: it is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_switches_as_docker_does() {
        let query = Query::parse("a=&b=0&c=No&d=FALSE&e=none&f=1&g=maybe&h").expect("a query");
        for (key, expected) in [
            ("a", false),
            ("b", false),
            ("c", false),
            ("d", false),
            ("e", false),
            ("f", true),
            ("g", true),
            ("h", false),
        ] {
            assert_eq!(query.switch(key, true), expected, "{key}");
        }
        assert!(query.switch("absent", true));
        assert!(!query.switch("absent", false));
    }

    #[test]
    fn keeps_repeated_values_in_order() {
        let query = Query::parse("t=a&x=1&t=b%2Fc&t=d+e").expect("a query");
        assert_eq!(query.all("t"), ["a", "b/c", "d e"]);
        assert_eq!(query.get("t"), Some("a"));
    }

    #[test]
    fn says_what_is_no_number() {
        let query = Query::parse("t=abc&u=-1").expect("a query");
        let failure = query.integer("t").expect_err("no number");
        assert_eq!(
            failure.message(),
            "strconv.Atoi: parsing \"abc\": invalid syntax"
        );
        assert_eq!(query.integer("u"), Ok(Some(-1)));
        assert_eq!(query.integer("v"), Ok(None));
    }

    #[test]
    fn stops_at_the_limit_of_pairs() {
        let at_limit = "a=1&".repeat(MAX_QUERY_PAIRS);
        assert!(Query::parse(&at_limit).is_ok());
        assert!(Query::parse(&format!("{at_limit}a=1")).is_err());
    }

    #[test]
    fn decodes_paths() {
        assert_eq!(percent_decode("/a%2Fb%20c").as_deref(), Ok("/a/b c"));
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert!(percent_decode(bad).is_err(), "{bad}");
        }
    }
}
