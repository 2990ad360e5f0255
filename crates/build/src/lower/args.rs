//! Build arguments: those before the first FROM, the predefined ones, and who declared what (spec llb §7.1).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use wharf_dockerfile::InstructionKind;
use wharf_dockerfile::expand::Expander;
use wharf_image::Platform;
use wharf_llb::ProxyEnv;

use super::epoch::EPOCH_ARG;
use super::mistakes::{Mistakes, within};
use super::{LowerInput, mistake};
use crate::BuildError;

/// Proxy arguments, usable without being declared.
const PROXY_ARGS: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];
/// Arguments that tell the builder something and need no declaration.
const BUILDER_PREFIX: &str = "BUILDKIT_";
/// What TARGETSTAGE is where no target was asked for.
const DEFAULT_TARGET: &str = "default";

/// The arguments before the first FROM.
pub(super) struct Globals {
    /// Variables for FROM: platforms and declared arguments.
    pub values: Vec<(String, String)>,
    /// Names of build arguments that were declared.
    pub consumed: BTreeSet<String>,
    /// Whether a mistake leaves open what they are.
    pub is_unsure: bool,
    /// What stands for `SOURCE_DATE_EPOCH` where that is a name: the seconds that it led to.
    pub epoch: Option<String>,
}

impl Globals {
    /// Reads the arguments; one that cannot be read has no value.
    pub fn new(
        input: &LowerInput<'_>,
        expander: &Expander,
        mistakes: &Mistakes,
    ) -> Result<Self, BuildError> {
        let mut globals = Self {
            values: platform_values(input),
            consumed: BTreeSet::new(),
            is_unsure: false,
            epoch: None,
        };
        for instruction in &input.dockerfile.meta_args {
            let args = match &instruction.kind {
                InstructionKind::Arg(args) => args,
                InstructionKind::Unreadable(unreadable) => {
                    globals.is_unsure |= unreadable.may_set_variables();
                    continue;
                }
                _ => continue,
            };
            for arg in args {
                globals.consumed.insert(arg.key.clone());
                let default = match &arg.value {
                    Some(value) => {
                        let expanded = expander.expand_word(value, &globals.values);
                        let at = within(input, &instruction.location, value);
                        let told =
                            expanded.map_err(|error| mistake(input, &at, error.to_string(), None));
                        mistakes.keep(told)?
                    }
                    None => None,
                };
                if let Some(value) = given(input.build_args, &arg.key).or(default) {
                    globals.values.push((arg.key.clone(), value));
                }
            }
        }
        globals.is_unsure |= mistakes.count() > 0;
        Ok(globals)
    }

    /// Returns what instructions see of `--build-arg`.
    pub fn given(&self, input: &LowerInput<'_>, key: &str) -> Option<String> {
        match &self.epoch {
            Some(seconds) if key == EPOCH_ARG => Some(seconds.clone()),
            _ => given(input.build_args, key),
        }
    }

    /// Returns the value of a global argument.
    pub fn value(&self, key: &str) -> Option<String> {
        let found = self.values.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value.clone())
    }
}

/// Returns a time, as RFC 3339, in nanoseconds since 1970, as the graph has it.
pub(super) fn nanoseconds(epoch: &str) -> Option<i64> {
    let time: Timestamp = epoch.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// Returns the value of `--build-arg`.
pub(super) fn given(build_args: &BTreeMap<String, Option<String>>, key: &str) -> Option<String> {
    build_args.get(key).cloned().flatten()
}

/// Returns the proxy variables that RUN gets.
pub(super) fn proxy_env(build_args: &BTreeMap<String, Option<String>>) -> Option<ProxyEnv> {
    let value = |name: &str| {
        given(build_args, name)
            .or_else(|| given(build_args, &name.to_lowercase()))
            .unwrap_or_default()
    };
    let [http, https, ftp, no, all] = PROXY_ARGS.map(value);
    let proxy = ProxyEnv {
        http,
        https,
        ftp,
        no,
        all,
    };
    (proxy != ProxyEnv::default()).then_some(proxy)
}

/// Returns docker's warning about build arguments that nothing declared.
pub(super) fn unconsumed(
    build_args: &BTreeMap<String, Option<String>>,
    consumed: &BTreeSet<String>,
) -> Option<String> {
    let is_known = |name: &str| {
        consumed.contains(name)
            || PROXY_ARGS.contains(&name.to_uppercase().as_str())
            || name == EPOCH_ARG
            || name.starts_with(BUILDER_PREFIX)
    };
    let names: Vec<&str> = build_args
        .iter()
        .filter(|(name, value)| value.is_some() && !is_known(name))
        .map(|(name, _)| name.as_str())
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "One or more build-args [{}] were not consumed",
            names.join(" ")
        )
    })
}

fn platform_values(input: &LowerInput<'_>) -> Vec<(String, String)> {
    let target = if input.target.is_empty() {
        DEFAULT_TARGET
    } else {
        input.target
    };
    let mut values = vec![("TARGETSTAGE".to_owned(), target.to_owned())];
    for (prefix, platform) in [
        ("BUILD", &input.build_platform),
        ("TARGET", &input.platform),
    ] {
        values.extend(platform_parts(prefix, platform));
    }
    for (name, value) in &mut values {
        if let Some(given) = given(input.build_args, name) {
            *value = given;
        }
    }
    values
}

fn platform_parts(prefix: &str, platform: &Platform) -> [(String, String); 5] {
    [
        ("PLATFORM", platform.to_string()),
        ("OS", platform.os.clone()),
        ("OSVERSION", platform.os_version.clone()),
        ("ARCH", platform.architecture.clone()),
        ("VARIANT", platform.variant.clone()),
    ]
    .map(|(name, value)| (format!("{prefix}{name}"), value))
}
