//! System call numbers by architecture.

use std::collections::HashMap;
use std::sync::OnceLock;

use oci_spec::runtime::Arch;

const TABLE: &str = include_str!("syscalls.txt");

/// Set in every x32 system call number (`__X32_SYSCALL_BIT`).
pub const X32_BIT: u32 = 0x4000_0000;

/// A calling convention a filter knows; the order is that of the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convention {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 64-bit x86 with 32-bit pointers.
    X32,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm.
    Arm,
}

impl Convention {
    /// Returns this machine's.
    pub const fn native() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else {
            Self::X86_64
        }
    }

    /// Returns the convention of an OCI architecture; none for machines we do not run on.
    pub fn from_oci(architecture: Arch) -> Option<Self> {
        match architecture {
            Arch::ScmpArchNative => Some(Self::native()),
            Arch::ScmpArchX86_64 => Some(Self::X86_64),
            Arch::ScmpArchX86 => Some(Self::X86),
            Arch::ScmpArchX32 => Some(Self::X32),
            Arch::ScmpArchAarch64 => Some(Self::Aarch64),
            Arch::ScmpArchArm => Some(Self::Arm),
            _ => None,
        }
    }

    /// Returns the kernel's name for it in `seccomp_data.arch` (`linux/audit.h`).
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Returns a system call's number as the filter sees it.
    pub fn number(self, name: &str) -> Option<u32> {
        let number = numbers().get(name)?.get(self as usize).copied().flatten()?;
        Some(if self == Self::X32 {
            number | X32_BIT
        } else {
            number
        })
    }
}

type Numbers = HashMap<&'static str, [Option<u32>; 5]>;

fn numbers() -> &'static Numbers {
    static NUMBERS: OnceLock<Numbers> = OnceLock::new();
    NUMBERS.get_or_init(|| {
        let mut numbers = Numbers::new();
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let Some(name) = words.next() else {
                continue;
            };
            let mut row = [None; 5];
            for (slot, word) in row.iter_mut().zip(words) {
                *slot = word.parse().ok();
            }
            numbers.insert(name, row);
        }
        numbers
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (convention, name, number) in [
            (Convention::X86_64, "read", 0),
            (Convention::X86_64, "clone3", 435),
            (Convention::X86, "read", 3),
            (Convention::X32, "execve", X32_BIT | 520),
            (Convention::X32, "read", X32_BIT),
            (Convention::Aarch64, "read", 63),
            (Convention::Arm, "set_tls", 0xf_0005),
        ] {
            assert_eq!(
                convention.number(name),
                Some(number),
                "{convention:?} {name}"
            );
        }
        assert_eq!(Convention::Aarch64.number("open"), None);
        assert_eq!(Convention::X86_64.number("nothing"), None);
    }
}
