//! What is wanted of the checks: `# check=skip=RuleA,RuleB;error=true;experimental=all`.

use super::catalog::Rule;
use crate::ast::Directives;
use crate::diagnostic::Diagnostic;
use crate::error::Error;
use crate::instruction::fields::parse_flag;

/// Settings in one directive; what stands behind the last separator belongs to the last of them.
const MAX_SETTINGS: usize = 3;
/// Stands for all rules.
const ALL: &str = "all";

/// Which checks are wanted, and whether a finding fails the build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LintConfig {
    skip: Vec<String>,
    experimental: Vec<String>,
    /// Whether any warning fails the build.
    pub is_error: bool,
}

impl LintConfig {
    /// Reads the `check` directive.
    ///
    /// # Errors
    /// A setting that there is not, as in the reference.
    pub fn from_directives(directives: &Directives) -> Result<Self, Error> {
        match &directives.check {
            Some(check) => Self::parse(&check.text),
            None => Ok(Self::default()),
        }
    }

    /// Reads the `# check=…` comment above one instruction, which holds for it alone; a malformed one says nothing.
    pub fn from_comments(comments: &[String]) -> Self {
        let setting = comments.iter().find_map(|comment| {
            let (name, value) = comment.split_once('=')?;
            (name.trim().eq_ignore_ascii_case("check")).then(|| value.trim())
        });
        let setting = setting.and_then(|value| value.split(' ').next());
        setting
            .and_then(|value| Self::parse(value).ok())
            .unwrap_or_default()
    }

    /// Reads the settings: the value of the directive, or of `BUILDKIT_DOCKERFILE_CHECK`.
    ///
    /// # Errors
    /// A setting that there is not.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut config = Self::default();
        if text.trim().is_empty() {
            return Ok(config);
        }
        for setting in text.trim().splitn(MAX_SETTINGS, ';') {
            let wrong = |option: &str| Error::CheckOption {
                option: option.to_owned(),
            };
            let (name, value) = setting.split_once('=').ok_or_else(|| wrong(setting))?;
            let names = || value.split(',').map(|rule| rule.trim().to_owned());
            match name.trim() {
                "skip" => config.skip = names().collect(),
                "experimental" => config.experimental = names().collect(),
                "error" => {
                    config.is_error = parse_flag(value.trim()).ok_or_else(|| wrong(setting))?;
                }
                other => return Err(wrong(other)),
            }
        }
        Ok(config)
    }

    /// Returns whether a rule's findings are wanted, where `above` holds for one instruction.
    pub(super) fn wants(&self, rule: &Rule, above: &Self) -> bool {
        if rule.is_experimental {
            return lists(&self.experimental, rule.name) || lists(&above.experimental, rule.name);
        }
        !lists(&self.skip, rule.name) && !lists(&above.skip, rule.name)
    }

    /// Returns whether an experimental rule is wanted.
    pub fn is_experimental(&self, rule: &str) -> bool {
        lists(&self.experimental, rule)
    }

    /// Returns the names of the rules whose findings fail the build.
    ///
    /// With `error=true` these are all of the reference's; our own only where `experimental` names them, which the
    /// reference takes and does nothing with.
    pub fn violated(&self, warnings: &[Diagnostic]) -> Vec<&'static str> {
        let mut names = Vec::new();
        for warning in warnings.iter().filter(|_| self.is_error) {
            let rule = warning.rule.and_then(Rule::by_name);
            let counts = |rule: &&Rule| !rule.is_own || self.is_experimental(rule.name);
            if let Some(rule) = rule.filter(counts)
                && !names.contains(&rule.name)
            {
                names.push(rule.name);
            }
        }
        names
    }
}

fn lists(names: &[String], rule: &str) -> bool {
    names.iter().any(|name| name == ALL || name == rule)
}

#[cfg(test)]
mod tests {
    use super::LintConfig;
    use crate::lint::Rule;
    use crate::parser::parse;

    fn config(check: &str) -> Result<LintConfig, String> {
        let source = format!("# check={check}\nFROM a\n");
        LintConfig::from_directives(&parse(&source).ast.directives)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn settings() {
        let rule = |name: &str| Rule::by_name(name).expect("a rule");
        let (casing, maintainer) = (rule("FromAsCasing"), rule("MaintainerDeprecated"));
        let none = LintConfig::default();
        let both = config("skip=FromAsCasing, StageNameCasing;error=true").expect("settings");
        assert!(!both.wants(casing, &none) && both.wants(maintainer, &none));
        assert!(!both.wants(maintainer, &config("skip=all").expect("settings")));
        assert!(both.is_error);
        let described = rule("InvalidDefinitionDescription");
        assert!(!none.wants(described, &none));
        assert!(
            config("experimental=all")
                .expect("settings")
                .wants(described, &none)
        );
    }

    #[test]
    fn settings_that_there_are_not() {
        for (check, option) in [
            ("foo=bar", "foo"),
            ("skip", "skip"),
            ("error=maybe", "error=maybe"),
        ] {
            let expected =
                format!("failed to parse check options: invalid check option \"{option}\"");
            assert_eq!(config(check), Err(expected));
        }
    }
}
