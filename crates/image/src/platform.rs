//! Platforms: parsing, normalisation and matching (spec image-store §4).

use crate::cpu::{compatible_cpus, normal_architecture};
use crate::manifest::DescriptorPlatform;
use std::fmt;
use std::str::FromStr;

/// Tells why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The text is not `os[/arch[/variant]]`.
    #[error("invalid platform {0:?}: expected os/architecture[/variant], such as linux/amd64")]
    Malformed(String),
    /// Neither an operating system nor an architecture has this name.
    #[error("unknown operating system or architecture {0:?}")]
    Unknown(String),
    /// The text has a `*`.
    #[error(
        "invalid platform {0:?}: wildcards are not supported, name one platform such as linux/amd64"
    )]
    Wildcard(String),
}

/// Names an operating system and CPU in normalised form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Platform {
    /// Operating system, such as `linux`.
    pub os: String,
    /// Architecture, such as `amd64`.
    pub architecture: String,
    /// Variant, such as `v7`; empty when none.
    pub variant: String,
    /// Operating system version, such as `10.0.20348`; empty when none.
    pub os_version: String,
    /// Operating system features, sorted, each once.
    pub os_features: Vec<String>,
}

const KNOWN_SYSTEMS: [&str; 16] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];
const KNOWN_ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// Returns the platform this program runs on.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", ""),
            "x86" => ("386", ""),
            "arm" => ("arm", "v7"),
            "loongarch64" => ("loong64", ""),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "powerpc64" => ("ppc64", ""),
            other => (other, ""),
        };
        Self {
            os: normal_os(std::env::consts::OS),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            ..Self::default()
        }
    }

    /// Parses `os[/arch[/variant]]`, `os` alone or `arch` alone, filling in from the host.
    ///
    /// # Errors
    /// See [`PlatformError`].
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        Self::parse_as_written(text).map(Self::normalized)
    }

    /// Parses like [`Platform::parse`] but keeps `arm64/v8` and a missing `arm` variant as written,
    /// which is how docker shows them back.
    ///
    /// # Errors
    /// See [`PlatformError`].
    pub fn parse_as_written(text: &str) -> Result<Self, PlatformError> {
        let malformed = || PlatformError::Malformed(text.to_owned());
        if text.contains('*') {
            return Err(PlatformError::Wildcard(text.to_owned()));
        }
        let mut parts = text.split('/');
        let first = parts.next().unwrap_or_default();
        let (architecture, variant) = (parts.next(), parts.next());
        if parts.next().is_some()
            || [architecture, variant]
                .into_iter()
                .flatten()
                .any(|part| !is_specifier(part))
        {
            return Err(malformed());
        }
        let system = OsOptions::parse(first).ok_or_else(malformed)?;
        let mut platform = Self {
            os: normal_os(system.os),
            os_version: system.version,
            os_features: system.features,
            ..Self::default()
        };
        match (architecture, variant) {
            (None, _) if KNOWN_SYSTEMS.contains(&platform.os.as_str()) => {
                let host = Self::host();
                (platform.architecture, platform.variant) =
                    without_default_variant(host.architecture, host.variant);
            }
            (None, _) => {
                let (architecture, variant) = normal_architecture(first, "");
                if !KNOWN_ARCHITECTURES.contains(&architecture.as_str()) {
                    return Err(PlatformError::Unknown(text.to_owned()));
                }
                platform.os = Self::host().os;
                (platform.architecture, platform.variant) =
                    without_default_variant(architecture, variant);
            }
            (Some(architecture), None) => {
                let (architecture, variant) = normal_architecture(architecture, "");
                (platform.architecture, platform.variant) =
                    without_default_variant(architecture, variant);
            }
            (Some(architecture), Some(variant)) => {
                (platform.architecture, platform.variant) =
                    normal_architecture(architecture, variant);
                if platform.architecture == "arm64" && platform.variant.is_empty() {
                    platform.variant = "v8".to_owned();
                }
            }
        }
        Ok(platform)
    }

    /// Returns the canonical form: `x86_64` is `amd64`, `arm` is `arm/v7`, `arm64/v8` is `arm64`.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.os = normal_os(&self.os);
        (self.architecture, self.variant) = normal_architecture(&self.architecture, &self.variant);
        self.os_features.sort();
        self.os_features.dedup();
        self
    }

    /// Returns the text with version and features of the operating system:
    /// `windows(10.0.20348+f)/amd64`.
    pub fn format_all(&self) -> String {
        let features = self
            .os_features
            .iter()
            .map(|feature| format!("+{}", encode_option(feature)));
        let options: String = std::iter::once(encode_option(&self.os_version))
            .chain(features)
            .collect();
        if options.is_empty() || self.os.is_empty() {
            return self.to_string();
        }
        Self {
            os: format!("{}({options})", self.os),
            ..self.clone()
        }
        .to_string()
    }

    /// Tells how well `candidate` runs on this platform: `None` when it does not, else a rank where
    /// 0 is exact and greater is worse ("Only" matching, spec image-store §4).
    pub fn rank(&self, candidate: &DescriptorPlatform) -> Option<usize> {
        let candidate = Self::from(candidate);
        let host = self.clone().normalized();
        if host.os != candidate.os || !host.runs_os_of(&candidate) {
            return None;
        }
        compatible_cpus(&host.architecture, &host.variant)
            .iter()
            .position(|(architecture, variant)| {
                *architecture == candidate.architecture && *variant == candidate.variant
            })
    }

    /// Tells whether `candidate` is this very platform ("OnlyStrict" matching).
    pub fn matches_exactly(&self, candidate: &DescriptorPlatform) -> bool {
        self.rank(candidate) == Some(0)
    }

    /// Tells whether version and features that `candidate` asks for are here. Only Windows versions
    /// must fit, in major, minor and build number; a version left out fits all.
    fn runs_os_of(&self, candidate: &Self) -> bool {
        let build = |version: &str| {
            version
                .splitn(4, '.')
                .take(3)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let version_fits = self.os != "windows"
            || self.os_version.is_empty()
            || candidate.os_version.is_empty()
            || build(&self.os_version) == build(&candidate.os_version);
        version_fits
            && candidate
                .os_features
                .iter()
                .all(|feature| self.os_features.contains(feature))
    }
}

/// Shows `os/arch[/variant]`.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return f.write_str("unknown");
        }
        f.write_str(&self.os)?;
        [&self.architecture, &self.variant]
            .into_iter()
            .filter(|part| !part.is_empty())
            .try_for_each(|part| write!(f, "/{part}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        Self::parse(text)
    }
}

/// Normalises the platform of a descriptor.
impl From<&DescriptorPlatform> for Platform {
    fn from(platform: &DescriptorPlatform) -> Self {
        Self {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
            os_version: platform.os_version.clone().unwrap_or_default(),
            os_features: platform.os_features.clone(),
        }
        .normalized()
    }
}

impl From<&Platform> for DescriptorPlatform {
    fn from(platform: &Platform) -> Self {
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: given(&platform.os_version),
            os_features: platform.os_features.clone(),
            variant: given(&platform.variant),
        }
    }
}

/// Holds the first component of a platform: `os[(version[+feature]…)]`.
struct OsOptions<'a> {
    os: &'a str,
    version: String,
    features: Vec<String>,
}

impl<'a> OsOptions<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (os, options) = match text.split_once('(') {
            Some((os, rest)) => (os, rest.strip_suffix(')')?),
            None => (text, ""),
        };
        let is_os_character =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if os.is_empty() || !os.bytes().all(is_os_character) {
            return None;
        }
        let mut options = options.split('+');
        let version = decode_option(options.next().unwrap_or_default())?;
        let features = options
            .map(|feature| {
                if feature.is_empty() {
                    None
                } else {
                    decode_option(feature)
                }
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            os,
            version,
            features,
        })
    }
}

fn is_specifier(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Undoes `%xx` escapes; `None` for characters or escapes that do not belong in an option.
fn decode_option(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'%' => {
                let (escape, tail) = rest.split_at_checked(2)?;
                bytes.extend(hex::decode(escape).ok()?);
                rest = tail;
            }
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-') => {
                bytes.push(*byte)
            }
            _ => return None,
        }
    }
    String::from_utf8(bytes).ok()
}

/// Escapes the characters that have a meaning in a platform text.
fn encode_option(text: &str) -> String {
    text.chars().fold(
        String::with_capacity(text.len()),
        |mut encoded, character| {
            if matches!(character, '%' | '+' | '(' | ')' | '/') {
                encoded.push_str(&format!("%{:02X}", u32::from(character)));
            } else {
                encoded.push(character);
            }
            encoded
        },
    )
}

fn normal_os(os: &str) -> String {
    let os = os.to_ascii_lowercase();
    match os.as_str() {
        "" => normal_os(std::env::consts::OS),
        "macos" => "darwin".to_owned(),
        _ => os,
    }
}

/// Leaves out the variant that `arm` has when none is written.
fn without_default_variant(architecture: String, variant: String) -> (String, String) {
    let variant = if architecture == "arm" && variant == "v7" {
        String::new()
    } else {
        variant
    };
    (architecture, variant)
}
