//! Versions of the API: what is spoken here, and how versions compare.

use crate::respond::Failure;
use std::cmp::Ordering;

/// The newest API version spoken, the one of Docker Engine 28.3.3 to 28.5 (spec engine-api, head).
pub const API_VERSION: &str = "1.51";
/// The oldest API version spoken.
pub const MIN_API_VERSION: &str = "1.24";
/// The version of Docker Engine whose behaviour the API follows; clients show and compare it.
pub const ENGINE_VERSION: &str = "28.5.1";

/// A client's API version, such as `1.43`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiVersion(String);

impl ApiVersion {
    /// Returns the newest version, which paths without a version mean.
    pub(crate) fn newest() -> Self {
        Self(API_VERSION.to_owned())
    }

    /// Takes a version text from a path and checks that it is spoken here.
    ///
    /// # Errors
    /// 400 with docker's text when it is too old or too new (spec engine-api §1).
    pub(crate) fn from_path(text: &str) -> Result<Self, Failure> {
        if compare(text, MIN_API_VERSION) == Ordering::Less {
            return Err(Failure::bad_request(format!(
                "client version {text} is too old. Minimum supported API version is \
                 {MIN_API_VERSION}, please upgrade your client to a newer version"
            )));
        }
        if compare(text, API_VERSION) == Ordering::Greater {
            return Err(Failure::bad_request(format!(
                "client version {text} is too new. Maximum supported API version is {API_VERSION}"
            )));
        }
        Ok(Self(text.to_owned()))
    }

    /// Tells whether this version is older than `other`.
    pub(crate) fn is_before(&self, other: &str) -> bool {
        compare(&self.0, other) == Ordering::Less
    }
}

/// Compares versions number by number; a part that is no number counts as 0 (docker's rule).
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    let parts = |text: &str| -> Vec<u64> {
        text.split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    let (left, right) = (parts(left), parts(right));
    let length = left.len().max(right.len());
    let at = |parts: &[u64], index: usize| parts.get(index).copied().unwrap_or(0);
    (0..length)
        .map(|index| at(&left, index).cmp(&at(&right, index)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_range_and_names_its_ends() {
        assert!(ApiVersion::from_path("1.24").is_ok());
        assert!(ApiVersion::from_path("1.51").is_ok());
        assert!(ApiVersion::from_path("01.41").is_ok());
        let old = ApiVersion::from_path("1.23").expect_err("too old");
        assert_eq!(
            old.message(),
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade \
             your client to a newer version"
        );
        let new = ApiVersion::from_path("1.52").expect_err("too new");
        assert_eq!(
            new.message(),
            "client version 1.52 is too new. Maximum supported API version is 1.51"
        );
    }

    #[test]
    fn orders_by_number() {
        assert!(ApiVersion("1.9".into()).is_before("1.10"));
        assert!(!ApiVersion("1.41".into()).is_before("1.41"));
    }
}
