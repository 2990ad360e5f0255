//! Settings that come from files or from the environment beside the configuration, and those that are counts.

use super::file::Layer;
use std::path::Path;
use wharf_engine::SeccompDefault;
use wharf_safefs::trusted;

/// Bytes of a seccomp profile.
const MAX_PROFILE_BYTES: u64 = 1 << 20;
/// Names of the variables that HTTP clients read, in the order of the settings.
const PROXY_VARIABLES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// Returns the engine's proxies: HTTP, HTTPS, exceptions. What the configuration says takes precedence over the
/// environment.
pub fn proxies(layer: &Layer) -> [String; 3] {
    let own = layer.proxies.clone().unwrap_or_default();
    let mut own = [own.http_proxy, own.https_proxy, own.no_proxy].into_iter();
    PROXY_VARIABLES.map(|name| {
        let variable = || std::env::var(name).or_else(|_| std::env::var(name.to_lowercase()));
        let own = own.next().flatten();
        own.unwrap_or_else(|| variable().unwrap_or_default())
    })
}

/// Puts the proxies into the environment, where every HTTP client of this process finds them, as docker does.
///
/// To be called before the process has a second thread.
pub fn export_proxies(proxies: &[String; 3]) {
    for (name, value) in PROXY_VARIABLES.into_iter().zip(proxies) {
        let is_set = std::env::var(name).or_else(|_| std::env::var(name.to_lowercase()));
        if is_set.unwrap_or_default() == *value {
            continue;
        }
        for name in [name.to_owned(), name.to_lowercase()] {
            // SAFETY: there is one thread, so that nobody reads the environment meanwhile.
            unsafe { std::env::set_var(name, value) };
        }
    }
}

/// Returns the filter of system calls that the configuration names.
///
/// # Errors
/// A file that cannot be read.
pub fn seccomp(layer: &Layer) -> Result<Option<SeccompDefault>, String> {
    let name = layer.seccomp_profile.as_deref().unwrap_or_default();
    let profile = match name {
        "" | "builtin" | "default" => return Ok(None),
        "unconfined" => name.to_owned(),
        path => trusted::read_to_string(Path::new(path), MAX_PROFILE_BYTES)
            .map_err(|error| format!("seccomp-profile: {error}"))?,
    };
    Ok(Some(SeccompDefault {
        name: name.to_owned(),
        profile,
    }))
}

/// Checks a number of transfers; 0 is no limit.
///
/// # Errors
/// A negative number.
pub fn count(name: &str, number: Option<i64>) -> Result<Option<usize>, String> {
    let check =
        |number: i64| usize::try_from(number).map_err(|_| format!("{name}: {number} is negative"));
    number.map(check).transpose()
}

/// Returns how often a download is tried.
///
/// # Errors
/// A number below 1.
pub fn attempts(layer: &Layer) -> Result<Option<u32>, String> {
    let check = |number: i64| match u32::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!(
            "max-download-attempts: {number} is not a number from 1 on"
        )),
    };
    layer.max_download_attempts.map(check).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::file::layer::Proxies;

    #[test]
    fn counts_have_their_ranges() {
        assert_eq!(count("x", Some(0)), Ok(Some(0)));
        assert_eq!(count("x", None), Ok(None));
        assert!(count("x", Some(-1)).is_err());
        for (number, is_right) in [(0, false), (1, true), (-1, false), (5_000_000_000, false)] {
            let layer = Layer {
                max_download_attempts: Some(number),
                ..Layer::default()
            };
            assert_eq!(attempts(&layer).is_ok(), is_right, "{number}");
        }
    }

    #[test]
    fn the_file_s_proxies_come_first() {
        let layer = Layer {
            proxies: Some(Proxies {
                http_proxy: Some("http://proxy:1".to_owned()),
                no_proxy: Some(String::new()),
                ..Proxies::default()
            }),
            ..Layer::default()
        };
        let found = proxies(&layer);
        assert_eq!(
            (found[0].as_str(), found[2].as_str()),
            ("http://proxy:1", "")
        );
    }

    #[test]
    fn profiles_are_built_in_none_or_files() {
        let named = |name: &str| {
            seccomp(&Layer {
                seccomp_profile: Some(name.to_owned()),
                ..Layer::default()
            })
        };
        assert_eq!(named("builtin"), Ok(None));
        assert_eq!(
            named("unconfined").map(|own| own.map(|own| own.profile)),
            Ok(Some("unconfined".to_owned()))
        );
        assert!(named("/nosuch").is_err_and(|error| error.starts_with("seccomp-profile")));
    }
}
