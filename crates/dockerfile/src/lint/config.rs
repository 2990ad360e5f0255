//! The `check` directive: `skip=RuleA,RuleB;error=true;experimental=all`.

use crate::ast::Directives;

/// Which checks are wanted, and whether a finding fails the build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LintConfig {
    skip: Vec<String>,
    experimental: Vec<String>,
    /// Whether any warning fails the build.
    pub is_error: bool,
}

impl LintConfig {
    /// Reads the `check` directive; settings that are not known are ignored, as in the reference.
    pub fn from_directives(directives: &Directives) -> Self {
        match &directives.check {
            Some(check) => Self::parse(&check.text),
            None => Self::default(),
        }
    }

    /// Reads the `# check=…` comments above one instruction; they hold for it alone.
    pub fn from_comments(comments: &[String]) -> Self {
        let settings: Vec<&str> = comments
            .iter()
            .filter_map(|comment| comment.strip_prefix("check="))
            .collect();
        Self::parse(&settings.join(";"))
    }

    fn parse(text: &str) -> Self {
        let mut config = Self::default();
        for setting in text.split(';') {
            let Some((name, value)) = setting.split_once('=') else {
                continue;
            };
            let names: Vec<String> = value
                .split(',')
                .map(|rule| rule.trim().to_owned())
                .collect();
            match name.trim() {
                "skip" => config.skip.extend(names),
                "experimental" => config.experimental.extend(names),
                "error" => config.is_error = value.trim() == "true",
                _ => {}
            }
        }
        config
    }

    /// Returns whether a rule's findings are not wanted.
    pub fn is_skipped(&self, rule: &str) -> bool {
        lists(&self.skip, rule)
    }

    /// Returns whether an experimental rule is wanted.
    pub fn is_experimental(&self, rule: &str) -> bool {
        lists(&self.experimental, rule)
    }
}

fn lists(names: &[String], rule: &str) -> bool {
    names.iter().any(|name| name == "all" || name == rule)
}

#[cfg(test)]
mod tests {
    use super::LintConfig;
    use crate::parser::parse;

    #[test]
    fn settings() {
        let config = |check: &str| {
            let source = format!("# check={check}\nFROM a\n");
            LintConfig::from_directives(&parse(&source).ast.directives)
        };
        let both = config("skip=A,B;error=true");
        assert!(both.is_skipped("A") && both.is_skipped("B") && !both.is_skipped("C"));
        assert!(both.is_error && !both.is_experimental("A"));
        assert!(config("skip=all").is_skipped("C"));
        assert!(config("experimental=all").is_experimental("C"));
    }
}
