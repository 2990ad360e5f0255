//! Which platforms' programs run on this machine.

use std::path::Path;
use wharf_image::Platform;
use wharf_safefs::trusted;

const REGISTRATIONS: &str = "/proc/sys/fs/binfmt_misc";
const MAX_REGISTRATION_BYTES: u64 = 4096;

/// Says whether programs of a platform can be run: this machine's own, and those that the kernel hands to an
/// emulator (kernel, `admin-guide/binfmt-misc.rst`).
pub(super) fn can_run(platform: &Platform) -> bool {
    let host = Platform::host();
    if platform.os != host.os {
        return false;
    }
    let is_native = platform.architecture == host.architecture
        || (host.architecture == "amd64" && platform.architecture == "386");
    is_native || has_emulator(&platform.architecture)
}

fn has_emulator(architecture: &str) -> bool {
    let name = match architecture {
        "arm64" => "aarch64",
        "amd64" => "x86_64",
        "386" => "i386",
        "mips64le" => "mips64el",
        other => other,
    };
    let registration = Path::new(REGISTRATIONS).join(format!("qemu-{name}"));
    let text = trusted::read_limited(registration, MAX_REGISTRATION_BYTES).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    // Without the flag F the emulator would be looked for inside the step's own files.
    let is_fixed = text.lines().any(|line| {
        line.strip_prefix("flags:")
            .is_some_and(|flags| flags.contains('F'))
    });
    text.starts_with("enabled") && is_fixed
}

#[cfg(test)]
mod tests {
    use super::can_run;
    use wharf_image::Platform;

    #[test]
    fn own_programs_run_and_other_systems_do_not() {
        let own = Platform::host();
        assert!(can_run(&own));
        let other = Platform {
            os: "windows".to_owned(),
            ..own.clone()
        };
        assert!(!can_run(&other));
        let unknown = Platform {
            architecture: "pdp11".to_owned(),
            ..own
        };
        assert!(!can_run(&unknown));
    }
}
