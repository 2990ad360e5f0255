//! `.dockerignore` files: which paths of a build context are left out, and by which line.
//!
//! The rules are those of docker's matcher, its oddities included
//! (spec/llb.md §6 and the recorded `dockerignore` vectors): a path is left
//! out if the last pattern that changes the answer, matched against the path
//! and each of its parents, is not a `!` pattern.

mod glob;
mod matcher;
mod regex;

use crate::error::Error;
use matcher::Matcher;

/// The largest number of patterns.
pub const MAX_PATTERNS: usize = 20_000;
/// The longest line, in bytes.
pub const MAX_LINE_BYTES: usize = 65_535;

/// The patterns of an ignore file, in order.
#[derive(Debug, Clone, Default)]
pub struct IgnoreFile {
    patterns: Vec<IgnorePattern>,
}

/// One pattern.
#[derive(Debug, Clone)]
pub struct IgnorePattern {
    /// The pattern as the matcher sees it: cleaned, without `!`.
    pub cleaned: String,
    /// The line's text as written, without blanks around it.
    pub text: String,
    /// Line number in the file, from 1; 0 for patterns that came from no file.
    pub line: usize,
    /// Whether it is a `!` pattern, which takes paths in again.
    pub is_exception: bool,
    matcher: Matcher,
}

/// Whether a path is left out, and why.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// Whether the path is left out of the context.
    pub is_ignored: bool,
    /// The pattern that decided; nothing if no pattern changed the answer.
    pub pattern: Option<&'a IgnorePattern>,
}

/// What is known about a directory, so that its members cost one comparison a pattern.
///
/// Made by [`IgnoreFile::root`] and [`IgnoreFile::enter`].
#[derive(Debug, Clone)]
pub struct DirectoryMatches {
    /// For each pattern: whether it matches the directory or one of its parents.
    hits: Vec<bool>,
}

impl IgnoreFile {
    /// Reads the text of an ignore file.
    ///
    /// # Errors
    /// Patterns that are not well formed, a lone `!`, and files beyond
    /// [`MAX_PATTERNS`] or [`MAX_LINE_BYTES`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::compile(read_lines(text)?.into_iter())
    }

    /// Takes patterns from elsewhere (`COPY --exclude`) as they are.
    ///
    /// # Errors
    /// As [`IgnoreFile::parse`].
    pub fn from_patterns<S: AsRef<str>>(
        patterns: impl IntoIterator<Item = S>,
    ) -> Result<Self, Error> {
        let lines = patterns.into_iter().map(|pattern| {
            let pattern = pattern.as_ref();
            PatternLine {
                text: pattern.to_owned(),
                pattern: pattern.to_owned(),
                line: 0,
            }
        });
        Self::compile(lines)
    }

    /// Returns the patterns in order.
    pub fn patterns(&self) -> &[IgnorePattern] {
        &self.patterns
    }

    /// Returns whether any pattern is a `!` pattern.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_exception)
    }

    /// Decides about a path relative to the context, with `/` between names and none at the start.
    ///
    /// # Errors
    /// A pattern that turns out to be not well formed when it is tried.
    pub fn decide(&self, path: &str) -> Result<Decision<'_>, Error> {
        let mut decision = Decision {
            is_ignored: false,
            pattern: None,
        };
        for pattern in &self.patterns {
            // A pattern that could not change the answer is not tried.
            if pattern.is_exception == decision.is_ignored && pattern.matches_or_parent(path)? {
                decision = Decision {
                    is_ignored: !pattern.is_exception,
                    pattern: Some(pattern),
                };
            }
        }
        Ok(decision)
    }

    /// Returns what is known at the root of the context.
    pub fn root(&self) -> DirectoryMatches {
        DirectoryMatches {
            hits: vec![false; self.patterns.len()],
        }
    }

    /// Returns what is known in a directory, from what is known in its parent.
    pub fn enter(&self, parent: &DirectoryMatches, path: &str) -> DirectoryMatches {
        let patterns = self.patterns.iter().zip(&parent.hits);
        let hits = patterns
            .map(|(pattern, hit)| *hit || pattern.matcher.matches(path))
            .collect();
        DirectoryMatches { hits }
    }

    /// Decides about a member of a directory; the same answer as [`IgnoreFile::decide`], sooner.
    ///
    /// `path` is the member's whole path, `parent` what is known in its directory.
    ///
    /// # Errors
    /// As [`IgnoreFile::decide`].
    pub fn decide_in(&self, parent: &DirectoryMatches, path: &str) -> Result<Decision<'_>, Error> {
        let mut decision = Decision {
            is_ignored: false,
            pattern: None,
        };
        for (pattern, hit) in self.patterns.iter().zip(&parent.hits) {
            if pattern.is_exception != decision.is_ignored {
                continue;
            }
            pattern.check()?;
            if *hit || pattern.matcher.matches(path) {
                decision = Decision {
                    is_ignored: !pattern.is_exception,
                    pattern: Some(pattern),
                };
            }
        }
        Ok(decision)
    }

    /// Returns whether nothing below a directory can be in the context, so that it need not be read.
    ///
    /// True if the directory is left out and no `!` pattern that counts after
    /// the last pattern that leaves it out can match anything below it.
    ///
    /// # Errors
    /// As [`IgnoreFile::decide`].
    pub fn can_skip_directory(&self, path: &str) -> Result<bool, Error> {
        if !self.decide(path)?.is_ignored {
            return Ok(false);
        }
        let below = format!("{path}/");
        for pattern in self.patterns.iter().rev() {
            if pattern.is_exception {
                if pattern.matcher.may_match_below(&below) {
                    return Ok(false);
                }
            } else if pattern.matches_or_parent(path)? {
                return Ok(true);
            }
        }
        Ok(true)
    }

    fn compile(lines: impl Iterator<Item = PatternLine>) -> Result<Self, Error> {
        let mut patterns = Vec::new();
        for PatternLine {
            text,
            pattern,
            line,
        } in lines
        {
            let trimmed = pattern.trim();
            if trimmed.is_empty() {
                continue;
            }
            if patterns.len() == MAX_PATTERNS {
                let (found, limit) = (MAX_PATTERNS + 1, MAX_PATTERNS);
                return Err(Error::IgnoreTooLarge {
                    what: "patterns",
                    found,
                    limit,
                });
            }
            let cleaned = glob::clean(trimmed);
            let (is_exception, cleaned) = match cleaned.strip_prefix('!') {
                Some("") => return Err(Error::IgnoreLoneExclusion { line }),
                Some(rest) => (true, rest.to_owned()),
                None => (false, cleaned),
            };
            let syntax_error = || Error::IgnoreSyntax {
                pattern: text.clone(),
                line,
            };
            if !glob::is_well_formed(&cleaned) {
                return Err(syntax_error());
            }
            let matcher = Matcher::compile(&cleaned);
            patterns.push(IgnorePattern {
                cleaned,
                text,
                line,
                is_exception,
                matcher,
            });
        }
        Ok(Self { patterns })
    }
}

impl IgnorePattern {
    /// Returns whether the pattern matches the path or one of its parents.
    fn matches_or_parent(&self, path: &str) -> Result<bool, Error> {
        self.check()?;
        Ok(self.matcher.matches_or_parent(path))
    }
}

impl IgnorePattern {
    /// Returns an error for a pattern that cannot be tried.
    fn check(&self) -> Result<(), Error> {
        if matches!(self.matcher, Matcher::Broken) {
            return Err(Error::IgnoreSyntax {
                pattern: self.text.clone(),
                line: self.line,
            });
        }
        Ok(())
    }
}

/// A line of an ignore file that holds a pattern.
struct PatternLine {
    text: String,
    pattern: String,
    line: usize,
}

/// Ignore files of a context, the first that is there counts.
const CONTEXT_FILES: [&str; 2] = [".containerignore", ".dockerignore"];

/// Returns the names under which an ignore file is looked for, the first that is there counts.
///
/// A Dockerfile's own come first, docker's name before podman's; of those of the context podman's comes first, as with
/// podman and buildah. Only `.dockerignore` names are known to docker.
pub fn file_names(dockerfile: Option<&str>) -> Vec<String> {
    let own = dockerfile.into_iter().flat_map(|name| {
        [
            format!("{name}.dockerignore"),
            format!("{name}.containerignore"),
        ]
    });
    own.chain(CONTEXT_FILES.map(str::to_owned)).collect()
}

/// Returns the patterns of an ignore file as docker's reader gives them to its matcher.
///
/// # Errors
/// Lines beyond [`MAX_LINE_BYTES`].
pub fn read_patterns(text: &str) -> Result<Vec<String>, Error> {
    Ok(read_lines(text)?
        .into_iter()
        .map(|line| line.pattern)
        .collect())
}

fn read_lines(text: &str) -> Result<Vec<PatternLine>, Error> {
    let mut lines = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        if line.len() > MAX_LINE_BYTES {
            let (found, limit) = (line.len(), MAX_LINE_BYTES);
            return Err(Error::IgnoreTooLarge {
                what: "bytes in a line",
                found,
                limit,
            });
        }
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let (mark, pattern) = match line.trim().strip_prefix('!') {
            Some(rest) => ("!", rest.trim()),
            None => ("", line.trim()),
        };
        let mut cleaned = String::new();
        if !pattern.is_empty() {
            cleaned = glob::clean(pattern);
            if cleaned.len() > 1 && cleaned.starts_with('/') {
                cleaned.remove(0);
            }
        }
        let pattern = format!("{mark}{cleaned}");
        lines.push(PatternLine {
            text: line.trim().to_owned(),
            pattern,
            line: index + 1,
        });
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::{Error, IgnoreFile, MAX_LINE_BYTES, MAX_PATTERNS};

    #[test]
    fn the_deciding_line_is_named() {
        let file = IgnoreFile::parse("# c\nnode_modules\n*.md\n\n!README.md\n").expect("patterns");
        for (path, is_ignored, line) in [
            ("node_modules/a/b", true, Some(2)),
            ("x.md", true, Some(3)),
            ("README.md", false, Some(5)),
            ("src/main.rs", false, None),
        ] {
            let decision = file.decide(path).expect(path);
            assert_eq!(decision.is_ignored, is_ignored, "{path}");
            assert_eq!(decision.pattern.map(|pattern| pattern.line), line, "{path}");
        }
    }

    #[test]
    fn directories_are_skipped_when_no_exception_reaches_below() {
        let check = |patterns: &str, directory: &str, expected: bool| {
            let file = IgnoreFile::parse(patterns).expect("patterns");
            assert_eq!(
                file.can_skip_directory(directory),
                Ok(expected),
                "{patterns:?} {directory}"
            );
        };
        check("target", "target", true);
        check("target", "src", false);
        check("target\n!target/keep", "target", false);
        check("target\n!target/keep", "target/other", true);
        check("!target/keep\ntarget", "target", true);
        check("*\n!src/**", "target", true);
        check("*\n!src/**", "src", false);
        check("**\n!**/*.rs", "a/b", false);
        check("a\n!README.md", "a", true);
        check("a\n!*/x", "a", false);
        check("a\n!*/x", "a/b", true);
        check("a\n!a*/x", "a", false);
        check("a\n!b*/x", "a", true);
    }

    #[test]
    fn parents_are_found_as_if_each_was_tried() {
        let patterns = [
            "a*", "*/b", "a?/*", "**/x", "a/**/c", "*.d", "a\\*", "[a-c]/*", "**/a*/c", "*/*/*",
        ];
        for path in [
            "a", "a/b", "ab/b/c", "x/a.d/c", "a/b/c/x", "d/e", "a*/b", "é/b", "a//b",
        ] {
            for pattern in patterns {
                let file = IgnoreFile::parse(pattern).expect(pattern);
                let matcher = &file.patterns[0].matcher;
                let parents = path.match_indices('/').map(|(slash, _)| &path[..slash]);
                let expected = parents.chain([path]).any(|path| matcher.matches(path));
                assert_eq!(
                    matcher.matches_or_parent(path),
                    expected,
                    "{pattern} {path}"
                );
            }
        }
    }

    #[test]
    fn limits() {
        let many = |count: usize| "a\n".repeat(count);
        assert!(IgnoreFile::parse(&many(MAX_PATTERNS)).is_ok());
        let error = IgnoreFile::parse(&many(MAX_PATTERNS + 1)).err();
        assert!(matches!(error, Some(Error::IgnoreTooLarge { .. })));
        assert!(IgnoreFile::parse(&"a".repeat(MAX_LINE_BYTES)).is_ok());
        assert!(IgnoreFile::parse(&"a".repeat(MAX_LINE_BYTES + 1)).is_err());
    }
}
