//! All checks by name.

use super::own;

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its name, as the `check` directive takes it.
    pub name: &'static str,
    /// What it is about.
    pub description: &'static str,
    /// Whether the reference does not have it.
    pub is_own: bool,
    /// Whether it is only looked at where it is asked for by name.
    pub is_experimental: bool,
}

/// Where docker describes its checks.
const PAGES: &str = "https://docs.docker.com/go/dockerfile/rule/";
/// The reference's check that has no page.
const WITHOUT_PAGE: &str = "InvalidBaseImagePlatform";

const fn reference(name: &'static str, description: &'static str) -> Rule {
    Rule {
        name,
        description,
        is_own: false,
        is_experimental: false,
    }
}

const fn ours(name: &'static str, description: &'static str) -> Rule {
    Rule {
        name,
        description,
        is_own: true,
        is_experimental: false,
    }
}

/// All checks: the reference's in its order (spec/llb.md §8), then our own.
pub const RULES: [Rule; 28] = [
    reference("StageNameCasing", "Stage names should be lowercase"),
    reference(
        "FromAsCasing",
        "The 'as' keyword should match the case of the 'from' keyword",
    ),
    reference(
        "NoEmptyContinuation",
        "Empty continuation lines will become errors in a future release",
    ),
    reference(
        "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    reference("DuplicateStageName", "Stage names should be unique"),
    reference(
        "ReservedStageName",
        "Reserved words should not be used as stage names",
    ),
    reference(
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    ),
    reference(
        "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    reference("UndefinedArgInFrom", "FROM command must use declared ARGs"),
    reference(
        "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    ),
    reference(
        "UndefinedVar",
        "Variables should be defined before their use",
    ),
    reference(
        "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    reference(
        "LegacyKeyValueFormat",
        "Legacy key/value format with whitespace separator should not be used",
    ),
    reference(
        WITHOUT_PAGE,
        "Base image platform does not match expected target platform",
    ),
    reference(
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    reference(
        "SecretsUsedInArgOrEnv",
        "Sensitive data should not be used in the ARG or ENV commands",
    ),
    reference(
        "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    reference(
        "FromPlatformFlagConstDisallowed",
        "FROM --platform flag should not use a constant value",
    ),
    reference(
        "CopyIgnoredFile",
        "Attempting to Copy file that is excluded by .dockerignore",
    ),
    Rule {
        is_experimental: true,
        ..reference(
            "InvalidDefinitionDescription",
            "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
        )
    },
    reference(
        "ExposeProtoCasing",
        "Protocol in EXPOSE instruction should be lowercase",
    ),
    reference(
        "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    ),
    ours(
        own::EXEC_FORM_VARIABLE,
        "RUN in exec form does not replace variables",
    ),
    ours(
        own::APT_WITHOUT_YES,
        "apt should be called with -y where nobody can answer it",
    ),
    ours(
        own::APT_LISTS_IN_LAYER,
        "Package lists should not stay in a layer of the image",
    ),
    ours(
        own::RECURSIVE_CHANGE,
        "chown -R and chmod -R store files a second time that COPY could have given the right owner and mode",
    ),
    ours(
        own::SECRET_VALUE,
        "Values that look like secrets should not be used in the ARG or ENV commands",
    ),
    ours(
        own::COPY_BEFORE_INSTALL,
        "Dependencies should be installed before all files are copied, so that the cache serves them",
    ),
];

impl Rule {
    /// Returns the check of a name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.name == name)
    }

    /// Returns the page that describes it; none for our own checks, which `docs/checks.md` describes.
    pub fn url(&self) -> Option<String> {
        let has_page = !self.is_own && self.name != WITHOUT_PAGE;
        has_page.then(|| format!("{PAGES}{}/", kebab_case(self.name)))
    }
}

/// Writes `JSONArgsRecommended` as `json-args-recommended`.
fn kebab_case(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    let mut text = String::new();
    for (index, character) in characters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|at| characters.get(at));
        let starts_word = before.is_some_and(|before| before.is_lowercase())
            || characters
                .get(index + 1)
                .is_some_and(|next| next.is_lowercase());
        if index > 0 && character.is_uppercase() && starts_word {
            text.push('-');
        }
        text.push(character.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{RULES, Rule};

    #[test]
    fn pages() {
        let url = |name: &str| Rule::by_name(name).and_then(Rule::url);
        assert_eq!(
            url("JSONArgsRecommended").as_deref(),
            Some("https://docs.docker.com/go/dockerfile/rule/json-args-recommended/")
        );
        assert_eq!(
            url("SecretsUsedInArgOrEnv").as_deref(),
            Some("https://docs.docker.com/go/dockerfile/rule/secrets-used-in-arg-or-env/")
        );
        assert_eq!(url("InvalidBaseImagePlatform"), None);
        assert_eq!(url("AptWithoutYes"), None);
        assert_eq!(RULES.iter().filter(|rule| rule.is_own).count(), 6);
    }
}
