//! Docker's default profile as data, resolved for a container's capabilities (spec runtime §2.5).

use std::sync::OnceLock;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};
use serde::Deserialize;

const PROFILE: &str = include_str!("default_profile.json");

#[derive(Deserialize)]
struct Profile {
    default_errno: u32,
    groups: Vec<Group>,
}

/// Calls that are allowed (or fail with `errno`) where all conditions hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    names: Vec<String>,
    errno: Option<u32>,
    #[serde(default)]
    arguments: Vec<Argument>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    without_capabilities: Vec<String>,
    min_kernel: Option<(u32, u32)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Argument {
    index: usize,
    value: u64,
    value_two: u64,
    op: LinuxSeccompOperator,
}

fn profile() -> &'static Profile {
    static PARSED: OnceLock<Profile> = OnceLock::new();
    PARSED.get_or_init(|| {
        // The text is part of the program and a test parses it.
        serde_json::from_str(PROFILE).unwrap_or(Profile {
            default_errno: libc::EPERM as u32,
            groups: Vec::new(),
        })
    })
}

/// Returns the default profile for a container with these capabilities (its bounding set).
pub fn default_profile(capabilities: &[String]) -> LinuxSeccomp {
    let profile = profile();
    let kernel = crate::host::kernel_version();
    let (native, architectures) = if cfg!(target_arch = "aarch64") {
        ("aarch64", vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm])
    } else {
        let all = vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];
        ("x86_64", all)
    };
    let has = |name: &String| capabilities.contains(name);
    let applies = |group: &&Group| {
        (group.architectures.is_empty() || group.architectures.iter().any(|name| name == native))
            && group.capabilities.iter().all(has)
            && !group.without_capabilities.iter().any(has)
            && group.min_kernel.is_none_or(|least| kernel >= least)
    };
    let syscalls = profile.groups.iter().filter(applies).map(Group::to_oci);
    let mut resolved = LinuxSeccomp::default();
    resolved
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(profile.default_errno))
        .set_architectures(Some(architectures))
        .set_syscalls(Some(syscalls.collect()));
    resolved
}

impl Group {
    fn to_oci(&self) -> LinuxSyscall {
        let mut call = LinuxSyscall::default();
        call.set_names(self.names.clone())
            .set_action(match self.errno {
                Some(_) => LinuxSeccompAction::ScmpActErrno,
                None => LinuxSeccompAction::ScmpActAllow,
            })
            .set_errno_ret(self.errno);
        if !self.arguments.is_empty() {
            call.set_args(Some(self.arguments.iter().map(Argument::to_oci).collect()));
        }
        call
    }
}

impl Argument {
    fn to_oci(&self) -> LinuxSeccompArg {
        LinuxSeccompArgBuilder::default()
            .index(self.index)
            .value(self.value)
            .value_two(self.value_two)
            .op(self.op)
            .build()
            // Every field has a default, so the builder has nothing to refuse.
            .unwrap_or_default()
    }
}
