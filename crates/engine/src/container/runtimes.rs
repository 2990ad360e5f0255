//! Which OCI runtime makes a container: the built-in one, or a program of the host.

use crate::error::{EngineError, Result};
use crate::settings::Settings;
use std::path::{Path, PathBuf};
use wharf_runtime::ExternalRuntime;
use wharf_safefs::trusted;

/// Names of the built-in runtime; docker's clients ask for the second.
const BUILT_IN: [&str; 2] = ["wharf", "io.containerd.runc.v2"];
/// Programs that are looked for on the host without being configured.
const WELL_KNOWN: [&str; 4] = ["runc", "crun", "youki", "runsc"];
/// docker's default, which clients name by habit: where no program of that name is installed, the built-in runtime
/// takes its place.
const DOCKER_DEFAULT: &str = "runc";

/// Small inits that are looked for on the host: docker's, and those that need no library in a container.
const INITS: [&str; 3] = ["docker-init", "tini-static", "tini"];

/// A runtime by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// The built-in one.
    BuiltIn,
    /// A program.
    External(ExternalRuntime),
}

impl Runtime {
    /// Returns the program, if it is one.
    pub(crate) fn program(self) -> Option<ExternalRuntime> {
        match self {
            Self::External(program) => Some(program),
            Self::BuiltIn => None,
        }
    }
}

/// Finds a runtime; no name means the default one.
///
/// # Errors
/// Docker's text for a name that is neither built in, configured nor installed.
pub(crate) fn find(settings: &Settings, name: &str) -> Result<Runtime> {
    find_in(settings, name, &|program| on_path(program))
}

fn find_in(
    settings: &Settings,
    name: &str,
    installed: &dyn Fn(&str) -> Option<PathBuf>,
) -> Result<Runtime> {
    let name = if name.is_empty() {
        settings.default_runtime.as_str()
    } else {
        name
    };
    if name.is_empty() || BUILT_IN.contains(&name) {
        return Ok(Runtime::BuiltIn);
    }
    let unknown = || EngineError::invalid(format!("unknown or invalid runtime name: {name}"));
    if let Some(configured) = settings.runtimes.get(name) {
        let mut configured = configured.clone();
        if !configured.program.is_absolute() {
            let program = configured.program.to_string_lossy().into_owned();
            configured.program = installed(&program).ok_or_else(|| {
                EngineError::invalid(format!(
                    "runtime {name}: {program} is not installed: give its full path"
                ))
            })?;
        }
        return Ok(Runtime::External(configured));
    }
    if !WELL_KNOWN.contains(&name) {
        return Err(unknown());
    }
    match installed(name) {
        Some(program) => Ok(Runtime::External(ExternalRuntime {
            program,
            arguments: Vec::new(),
        })),
        None if name == DOCKER_DEFAULT => Ok(Runtime::BuiltIn),
        None => Err(unknown()),
    }
}

/// Returns the names and programs of all runtimes that can be asked for; the built-in ones have no
/// program.
pub(crate) fn all(settings: &Settings) -> Vec<(String, String)> {
    let names = BUILT_IN
        .into_iter()
        .chain(WELL_KNOWN)
        .map(str::to_owned)
        .chain(settings.runtimes.keys().cloned());
    let mut found: Vec<(String, String)> = names
        .filter_map(|name| {
            let program = match find(settings, &name).ok()? {
                Runtime::External(external) => external.program.to_string_lossy().into_owned(),
                Runtime::BuiltIn => "wharf".to_owned(),
            };
            Some((name, program))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Returns the small init that is put in front of the command of a container that a program makes, as docker does.
///
/// # Errors
/// None is installed, or the one that the administrator named is not there.
pub(crate) fn find_init(settings: &Settings) -> Result<PathBuf> {
    find_init_in(settings, &|program| on_path(program))
}

fn find_init_in(
    settings: &Settings,
    installed: &dyn Fn(&str) -> Option<PathBuf>,
) -> Result<PathBuf> {
    let named = &settings.init_program;
    if named.is_absolute() {
        return Ok(named.clone());
    }
    let named = named.to_str().filter(|name| !name.is_empty());
    let candidates = named.map_or(INITS.to_vec(), |name| vec![name]);
    candidates
        .iter()
        .find_map(|program| installed(program))
        .ok_or_else(|| {
            EngineError::invalid(format!(
                "an init process (--init) needs {} on the host: install it (Debian: tini), or name a program with init-path",
                candidates.join(", ")
            ))
        })
}

fn on_path(program: &str) -> Option<PathBuf> {
    wharf_runtime::defaults::PATH
        .split(':')
        .map(|directory| Path::new(directory).join(program))
        .find(|path| {
            trusted::metadata(path).is_ok_and(|found| found.is_file() && found.mode & 0o111 != 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inits_are_named_or_found() {
        let find = |named: &str, there: &str| {
            let settings = Settings {
                init_program: named.into(),
                ..Settings::default()
            };
            let installed =
                |program: &str| (program == there).then(|| Path::new("/usr/bin").join(program));
            find_init_in(&settings, &installed).ok()
        };
        for (named, there, expected) in [
            ("", "docker-init", Some("/usr/bin/docker-init")),
            ("", "tini-static", Some("/usr/bin/tini-static")),
            ("", "dumb-init", None),
            ("dumb-init", "dumb-init", Some("/usr/bin/dumb-init")),
            ("dumb-init", "docker-init", None),
            ("/opt/init", "", Some("/opt/init")),
        ] {
            assert_eq!(
                find(named, there),
                expected.map(PathBuf::from),
                "{named} {there}"
            );
        }
    }

    #[test]
    fn names_lead_to_runtimes() {
        let external = |program: &str, arguments: &[&str]| {
            Runtime::External(ExternalRuntime {
                program: program.into(),
                arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            })
        };
        let mut settings = Settings::default();
        for (name, program, arguments) in [
            ("mine", "/opt/mine", vec!["--debug"]),
            ("other", "crun", vec![]),
        ] {
            let Runtime::External(runtime) = external(program, &arguments) else {
                continue;
            };
            settings.runtimes.insert(name.to_owned(), runtime);
        }
        let find = |settings: &Settings, name: &str, is_there: bool| {
            let installed = |program: &str| is_there.then(|| Path::new("/usr/bin").join(program));
            find_in(settings, name, &installed).map_err(|error| error.message().to_owned())
        };
        for (name, is_there, expected) in [
            ("", false, Runtime::BuiltIn),
            ("wharf", true, Runtime::BuiltIn),
            ("io.containerd.runc.v2", true, Runtime::BuiltIn),
            ("runc", true, external("/usr/bin/runc", &[])),
            ("runc", false, Runtime::BuiltIn),
            ("crun", true, external("/usr/bin/crun", &[])),
            ("mine", false, external("/opt/mine", &["--debug"])),
            ("other", true, external("/usr/bin/crun", &[])),
        ] {
            assert_eq!(find(&settings, name, is_there), Ok(expected), "{name}");
        }
        let unknown = "unknown or invalid runtime name: ";
        assert_eq!(
            find(&settings, "crun", false),
            Err(format!("{unknown}crun"))
        );
        assert_eq!(find(&settings, "nope", true), Err(format!("{unknown}nope")));
        assert!(find(&settings, "other", false).is_err());
        settings.default_runtime = "mine".to_owned();
        assert_eq!(
            find(&settings, "", false),
            Ok(external("/opt/mine", &["--debug"]))
        );
    }
}
