//! AppArmor (`apparmor(7)`): whether this kernel has it on, and the profile that containers run under unless
//! another is asked for.

mod profile;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use wharf_safefs::trusted;

use crate::error::{Result, RuntimeError};
use profile::{Includes, profile_text};

/// The AppArmor profile that docker gives its containers.
pub const DEFAULT_APPARMOR_PROFILE: &str = "docker-default";

/// What asks for no profile.
pub const UNCONFINED: &str = "unconfined";

/// The longest list of loaded profiles that is read.
const MAX_LIST_BYTES: u64 = 16 * 1024 * 1024;
/// The longest label of a process that is read.
const MAX_LABEL_BYTES: u64 = 64 * 1024;
/// Most characters of the parser's complaint that go into an error.
const MAX_COMPLAINT_CHARS: usize = 2000;

/// How the default profile stands on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultProfile {
    /// The kernel has no AppArmor, or it is off.
    Off,
    /// The profile is loaded.
    Loaded,
    /// AppArmor is on, but the profile is not there and cannot be loaded by anyone here.
    Missing {
        /// What is not there.
        reason: String,
    },
}

/// Tells whether the kernel has AppArmor on. In a container (`container` is set in the environment, as its
/// maker does) it counts as off: the profiles are the host's.
pub fn is_on() -> bool {
    std::env::var_os("container").is_none_or(|kind| kind.is_empty()) && Places::host().is_on()
}

/// Tells whether the kernel shows its profiles (securityfs is mounted and can be read).
pub fn shows_profiles() -> bool {
    trusted::read_to_string(Places::host().profiles, MAX_LIST_BYTES).is_ok()
}

/// Makes sure that containers can run under [`DEFAULT_APPARMOR_PROFILE`]: loads it by `apparmor_parser` unless
/// it is loaded. A loaded profile is left as it is, whoever loaded it. May wait for the parser.
///
/// # Errors
/// [`RuntimeError::DefaultProfile`] with the parser's words when it refuses the profile or cannot be run.
pub fn ensure_default_profile() -> Result<DefaultProfile> {
    if !is_on() {
        return Ok(DefaultProfile::Off);
    }
    Places::host().ensure()
}

/// Where AppArmor's files and its parser are.
struct Places {
    enabled: PathBuf,
    profiles: PathBuf,
    policy: PathBuf,
    parsers: Vec<PathBuf>,
    labels: Vec<PathBuf>,
}

impl Places {
    fn host() -> Self {
        Self {
            enabled: "/sys/module/apparmor/parameters/enabled".into(),
            profiles: "/sys/kernel/security/apparmor/profiles".into(),
            policy: "/etc/apparmor.d".into(),
            // `PATH` of a service may have no system directories.
            parsers: ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"]
                .map(PathBuf::from)
                .into(),
            // Before Linux 5.8 the only security module had the directory to itself.
            labels: [
                "/proc/self/attr/apparmor/current",
                "/proc/self/attr/current",
            ]
            .map(PathBuf::from)
            .into(),
        }
    }

    fn is_on(&self) -> bool {
        trusted::read_to_string(&self.enabled, MAX_LABEL_BYTES)
            .is_ok_and(|text| text.starts_with('Y'))
    }

    fn ensure(&self) -> Result<DefaultProfile> {
        /// One parser is enough when many containers start at once.
        static LOADING: Mutex<()> = Mutex::new(());
        let missing = |reason: String| Ok(DefaultProfile::Missing { reason });
        let _loading = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        match trusted::read_to_string(&self.profiles, MAX_LIST_BYTES) {
            Ok(list) if is_listed(&list, DEFAULT_APPARMOR_PROFILE) => {
                return Ok(DefaultProfile::Loaded);
            }
            Ok(_) => {}
            Err(error) if error.is_not_found() => {
                return missing("/sys/kernel/security (securityfs) is not mounted".to_owned());
            }
            Err(error) => return missing(format!("its list of profiles is hidden: {error}")),
        }
        let text = profile_text(&self.includes(), self.own_label().as_deref());
        for parser in &self.parsers {
            match run(parser, &text) {
                Ok(()) => return Ok(DefaultProfile::Loaded),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(RuntimeError::DefaultProfile {
                        name: DEFAULT_APPARMOR_PROFILE,
                        reason: format!("{} -Kr: {error}", parser.display()),
                    });
                }
            }
        }
        missing("apparmor_parser is not installed".to_owned())
    }

    /// Looks which of the distribution's files the profile can build on.
    fn includes(&self) -> Includes {
        let has = |name: &str| trusted::exists(self.policy.join(name)).unwrap_or(false);
        Includes {
            abi: has("abi/3.0"),
            tunables: has("tunables/global"),
            base: has("abstractions/base"),
        }
    }

    /// Returns the label that this process runs under, without its mode.
    fn own_label(&self) -> Option<String> {
        let read = |path| trusted::read_to_string(path, MAX_LABEL_BYTES).ok();
        let text = self.labels.iter().find_map(read)?;
        let text = text.trim_end_matches(['\n', '\0']);
        let (label, _mode) = text.rsplit_once(" (").unwrap_or((text, ""));
        Some(label.to_owned())
    }
}

/// Tells whether a kernel's list, `NAME (MODE)` a line, has a profile.
fn is_listed(list: &str, name: &str) -> bool {
    let mut names = list
        .lines()
        .filter_map(|line| Some(line.rsplit_once(" (")?.0));
    names.any(|known| known == name)
}

/// Lets the parser (`apparmor_parser(8)`) put a profile into the kernel, keeping nothing on disk.
fn run(parser: &PathBuf, text: &str) -> io::Result<()> {
    let mut child = Command::new(parser)
        .arg("-Kr")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // If it ends before it has read everything, its own message says more than the broken pipe.
    let written = child
        .stdin
        .take()
        .map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    if output.status.success() {
        return written;
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint: String = complaint.trim().chars().take(MAX_COMPLAINT_CHARS).collect();
    Err(io::Error::other(if complaint.is_empty() {
        output.status.to_string()
    } else {
        complaint
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A host of files, whose parser is a script that keeps what it is given in `given`.
    fn host(directory: &tempfile::TempDir, profiles: Option<&str>, parser: Option<&str>) -> Places {
        let path = directory.path();
        std::fs::write(path.join("enabled"), "Y\n").unwrap();
        std::fs::write(path.join("label"), "/usr/bin/wharf (enforce)\n").unwrap();
        if let Some(profiles) = profiles {
            std::fs::write(path.join("profiles"), profiles).unwrap();
        }
        if let Some(script) = parser {
            let script = format!("#!/bin/sh\ncd {}\n{script}\n", path.display());
            std::fs::write(path.join("parser"), script).unwrap();
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(path.join("parser"), mode).unwrap();
        }
        Places {
            enabled: path.join("enabled"),
            profiles: path.join("profiles"),
            policy: path.join("policy"),
            parsers: vec![path.join("none"), path.join("parser")],
            labels: vec![path.join("no label"), path.join("label")],
        }
    }

    #[test]
    fn the_profile_is_loaded_once_and_by_the_parser() {
        let directory = tempfile::tempdir().unwrap();
        let script =
            r#"[ "$*" = -Kr ] && cat >given && echo "docker-default (enforce)" >>profiles"#;
        let others = "/usr/bin/docker-default (enforce)\nan other (complain)\n";
        let host = host(&directory, Some(others), Some(script));
        let given = directory.path().join("given");
        assert_eq!(host.ensure().unwrap(), DefaultProfile::Loaded);
        let text = std::fs::read_to_string(&given).unwrap();
        assert!(text.contains("profile docker-default "), "{text}");
        assert!(text.contains(r#"peer="/usr/bin/wharf""#), "{text}");
        // What is loaded is left alone.
        std::fs::remove_file(&given).unwrap();
        assert_eq!(host.ensure().unwrap(), DefaultProfile::Loaded);
        assert!(!given.exists());
        // Somebody unloaded it.
        std::fs::write(directory.path().join("profiles"), others).unwrap();
        assert_eq!(host.ensure().unwrap(), DefaultProfile::Loaded);
        assert!(given.exists());
    }

    #[test]
    fn a_parser_that_refuses_is_quoted() {
        let directory = tempfile::tempdir().unwrap();
        for (script, expected) in [
            (
                "echo 'syntax error, line 3' >&2; exit 1",
                "-Kr: syntax error, line 3",
            ),
            ("exit 7", "-Kr: exit status: 7"),
        ] {
            let error = host(&directory, Some(""), Some(script))
                .ensure()
                .unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("AppArmor enabled on system but the docker-default profile could not be loaded: "), "{text}");
            assert!(text.ends_with(expected), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let reason = |host: Places| match host.ensure().unwrap() {
            DefaultProfile::Missing { reason } => reason,
            other => panic!("{other:?}"),
        };
        let hidden = reason(host(&directory, None, Some("exit 0")));
        assert!(hidden.contains("is not mounted"), "{hidden}");
        std::fs::remove_file(directory.path().join("parser")).unwrap();
        let without = reason(host(&directory, Some(""), None));
        assert_eq!(without, "apparmor_parser is not installed");
    }

    #[test]
    fn a_kernel_that_has_it_off_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let host = host(&directory, None, None);
        assert!(host.is_on());
        std::fs::write(directory.path().join("enabled"), "N\n").unwrap();
        assert!(!host.is_on());
        std::fs::remove_file(directory.path().join("enabled")).unwrap();
        assert!(!host.is_on());
    }

    #[test]
    fn names_with_spaces_and_parentheses_are_found_in_the_list() {
        let list = "docker-default (complain)\nwith (odd) name (enforce)\n";
        assert!(is_listed(list, "docker-default"));
        assert!(is_listed(list, "with (odd) name"));
        assert!(!is_listed(list, "with"));
        assert!(!is_listed("docker-default-2 (enforce)\n", "docker-default"));
    }
}
