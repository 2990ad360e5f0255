//! Scopes of registry tokens: `type:name:action[,action]` (distribution token specification).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Collects what a token must allow, each resource once, in a fixed order so that it can be a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Scopes(BTreeMap<(String, String), BTreeSet<String>>);

impl Scopes {
    /// Asks to read a repository.
    pub(crate) fn pull(path: &str) -> Self {
        Self::default().with("repository", path, ["pull"])
    }

    /// Asks to read and write a repository.
    pub(crate) fn push(path: &str) -> Self {
        Self::default().with("repository", path, ["pull", "push"])
    }

    /// Adds the wish to read another repository, to mount its blobs.
    pub(crate) fn and_pull(self, path: &str) -> Self {
        self.with("repository", path, ["pull"])
    }

    /// Adds the scopes of a challenge, separated by spaces; malformed ones are left out, since the
    /// server that made them up would not understand them either.
    pub(crate) fn and_challenge(self, text: &str) -> Self {
        text.split_ascii_whitespace().fold(self, |scopes, scope| {
            // A name may hold `:` (host with port), a type and actions may not.
            let Some((kind, rest)) = scope.split_once(':') else {
                return scopes;
            };
            let Some((name, actions)) = rest.rsplit_once(':') else {
                return scopes;
            };
            scopes.with(
                kind,
                name,
                actions.split(',').filter(|action| !action.is_empty()),
            )
        })
    }

    /// Returns each scope as text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|((kind, name), actions)| {
            let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            format!("{kind}:{name}:{}", actions.join(","))
        })
    }

    fn with<'a>(
        mut self,
        kind: &str,
        name: &str,
        actions: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known = self
            .0
            .entry((kind.to_owned(), name.to_owned()))
            .or_default();
        known.extend(actions.into_iter().map(str::to_owned));
        self
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::Scopes;

    #[test]
    fn scopes_merge_by_resource() {
        let cases = [
            (Scopes::pull("a/b"), "repository:a/b:pull"),
            (Scopes::push("a"), "repository:a:pull,push"),
            (
                Scopes::push("b").and_pull("a"),
                "repository:a:pull repository:b:pull,push",
            ),
            (Scopes::push("a").and_pull("a"), "repository:a:pull,push"),
            (
                Scopes::pull("a").and_challenge("repository:a:pull,delete"),
                "repository:a:delete,pull",
            ),
            (
                Scopes::pull("a").and_challenge("registry:catalog:* x:h:5/r:pull"),
                "registry:catalog:* repository:a:pull x:h:5/r:pull",
            ),
            (
                Scopes::pull("a").and_challenge("nonsense a:b"),
                "repository:a:pull",
            ),
        ];
        for (scopes, expected) in cases {
            assert_eq!(scopes.to_string(), expected);
        }
    }
}
