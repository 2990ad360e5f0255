//! The text of the profile that containers run under (`apparmor.d(5)`): the rules of docker's own, so that what
//! runs there runs here.

use super::{DEFAULT_APPARMOR_PROFILE, UNCONFINED};

/// Which of the distribution's files there are to build on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Includes {
    /// `abi/3.0`: newer ones take unix sockets out of `network`.
    pub abi: bool,
    /// `tunables/global`, which names procfs.
    pub tunables: bool,
    /// `abstractions/base`, what every program needs.
    pub base: bool,
}

/// Rules that do not depend on the host. Denials count before all that is allowed.
const RULES: &str = r"
  # Capabilities, control groups, seccomp and namespaces say more precisely what of this a container may do.
  capability,
  file,
  network,
  umount,
  deny mount,
  # The kernel's cryptography for user space has been a way to root.
  deny network alg,

  # procfs: a process's own files may be written, and the sysctls of the container's own IPC namespace.
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9s],s[^y],sy[^s],sys?}*/** w,
  deny @{PROC}/sys/{[^k],k[^e],ke[^r]}** w,
  deny @{PROC}/sys/kernel/{[^s],s[^eh],se[^m],sh[^m]}** w,
  deny @{PROC}/{sysrq-trigger,kcore} rwklx,

  # sysfs: control groups may be written, where they are mounted so.
  deny /sys/{[^f],f[^s],fs/[^c],fs/c[^g],fs/cg[^r]}*/** wklx,
  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,
";

/// Returns the default profile; `daemon` is the label of who sends signals to containers.
pub fn profile_text(includes: &Includes, daemon: Option<&str>) -> String {
    let mut text = String::from("# Loaded by wharf, for containers.\n");
    if includes.abi {
        text.push_str("abi <abi/3.0>,\n");
    }
    text.push_str(if includes.tunables {
        "#include <tunables/global>\n"
    } else {
        "@{PROC}=/proc/\n"
    });
    text.push_str(&format!(
        "profile {DEFAULT_APPARMOR_PROFILE} flags=(attach_disconnected, mediate_deleted) {{\n"
    ));
    if includes.base {
        text.push_str("  #include <abstractions/base>\n");
    }
    text.push_str(RULES);
    text.push_str(
        "\n  # Signals and ptrace: among containers under this profile, and from the host.\n",
    );
    text.push_str(&format!(
        "  signal (send, receive) peer={DEFAULT_APPARMOR_PROFILE},\n"
    ));
    // OCI runtimes may have profiles of their own on the host.
    let senders = [UNCONFINED, "runc", "crun"].map(Some).into_iter();
    for sender in senders
        .chain([daemon.filter(|label| is_plain(label))])
        .flatten()
    {
        text.push_str(&format!("  signal (receive) peer=\"{sender}\",\n"));
    }
    text.push_str(&format!(
        "  ptrace (trace, tracedby, read, readby) peer={DEFAULT_APPARMOR_PROFILE},\n}}\n"
    ));
    text
}

/// Tells whether a label has no characters that mean something in a rule; no rule is written for others.
fn is_plain(label: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+: ".contains(&byte);
    label != UNCONFINED && !label.is_empty() && label.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_builds_on_what_the_distribution_has() {
        let all = Includes {
            abi: true,
            tunables: true,
            base: true,
        };
        let text = profile_text(&all, Some("unconfined"));
        let (head, _) = text.split_once("\n  # Cap").unwrap();
        insta::assert_snapshot!(head, @r"
        # Loaded by wharf, for containers.
        abi <abi/3.0>,
        #include <tunables/global>
        profile docker-default flags=(attach_disconnected, mediate_deleted) {
          #include <abstractions/base>
        ");
        let none = Includes {
            abi: false,
            tunables: false,
            base: false,
        };
        let text = profile_text(&none, None);
        let (head, _) = text.split_once("\n  # Cap").unwrap();
        insta::assert_snapshot!(head, @r"
        # Loaded by wharf, for containers.
        @{PROC}=/proc/
        profile docker-default flags=(attach_disconnected, mediate_deleted) {
        ");
        let (_, end) = text.split_once("from the host.\n").unwrap();
        insta::assert_snapshot!(end, @r#"
          signal (send, receive) peer=docker-default,
          signal (receive) peer="unconfined",
          signal (receive) peer="runc",
          signal (receive) peer="crun",
          ptrace (trace, tracedby, read, readby) peer=docker-default,
        }
        "#);
    }

    #[test]
    fn only_plain_labels_of_the_daemon_get_a_rule() {
        let includes = Includes {
            abi: false,
            tunables: false,
            base: false,
        };
        let has = |label: &str| {
            let rule = format!("signal (receive) peer=\"{label}\",");
            profile_text(&includes, Some(label)).contains(&rule)
        };
        assert!(has("/usr/bin/wharf") && has("my engine") && has("wharf//helper"));
        for label in ["", "a\"b", "any*", "@{PROC}", "a{b,c}", "x\ny", "a//&b"] {
            assert!(!has(label), "{label}");
        }
    }
}
