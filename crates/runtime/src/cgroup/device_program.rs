//! The device program of a version 2 group: `BPF_PROG_TYPE_CGROUP_DEVICE` (`bpf(2)`,
//! kernel `Documentation/bpf/`), made from rules, last matching rule first.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use wharf_safefs::trusted;

use crate::cgroup::devices::Rule;
use crate::error::{Result, RuntimeError};
use crate::sys;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const PROGRAM_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ATTACH_ALLOW_MULTI: u32 = 2;

const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const KIND_BLOCK: i32 = 1;
const KIND_CHARACTER: i32 = 2;

/// One instruction of the kernel's machine (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const AND_IMMEDIATE_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Registers: r1 the context, r2 kind, r3 access, r4 major, r5 minor, r6 scratch.
const fn instruction(code: u8, target: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: target | source << 4,
        offset,
        immediate,
    }
}

/// Makes the program for rules, of which the last matching one decides.
pub fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND_IMMEDIATE_32, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_32, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        if rule.kind == 'a' {
            program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, i32::from(rule.allow)));
            program.push(instruction(EXIT, 0, 0, 0, 0));
            return program;
        }
        add_rule(&mut program, rule);
    }
    // Nothing said about it: denied, as after a rule that denies all.
    program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

fn add_rule(program: &mut Vec<Instruction>, rule: &Rule) {
    let mut access = 0;
    for letter in rule.access.chars() {
        access |= match letter {
            'r' => ACCESS_READ,
            'w' => ACCESS_WRITE,
            _ => ACCESS_MKNOD,
        };
    }
    let kind = if rule.kind == 'b' {
        KIND_BLOCK
    } else {
        KIND_CHARACTER
    };
    let mut tests = vec![(2, kind)];
    tests.extend(rule.major.map(|major| (4, major as i32)));
    tests.extend(rule.minor.map(|minor| (5, minor as i32)));
    // Each test jumps past the rest of the rule: what is left of the tests, access, verdict.
    let mut left = tests.len() as i16 + 5 - 1;
    for (register, value) in tests {
        program.push(instruction(JUMP_IF_NOT_EQUAL, register, 0, left, value));
        left -= 1;
    }
    // An allow rule must cover all that is asked for; a deny rule needs to touch any of it.
    program.push(instruction(MOVE_REGISTER, 6, 3, 0, 0));
    if rule.allow {
        program.push(instruction(AND_IMMEDIATE_32, 6, 0, 0, !access & 7));
        program.push(instruction(JUMP_IF_NOT_EQUAL, 6, 0, 2, 0));
    } else {
        const JUMP_IF_EQUAL: u8 = 0x15;
        program.push(instruction(AND_IMMEDIATE_32, 6, 0, 0, access));
        program.push(instruction(JUMP_IF_EQUAL, 6, 0, 2, 0));
    }
    program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, i32::from(rule.allow)));
    program.push(instruction(EXIT, 0, 0, 0, 0));
}

#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Loads the program for rules and attaches it to a group's directory.
pub fn attach(rules: &[Rule], directory: &Path) -> Result<()> {
    let program = load(&compile(rules))?;
    let group = trusted::open(directory)?;
    let attributes = AttachAttributes {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ATTACH_ALLOW_MULTI,
    };
    // SAFETY: the attributes outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attributes,
            size_of::<AttachAttributes>(),
        )
    };
    sys::check(result)
        .map(drop)
        .map_err(|errno| failed("attach a device program", errno))
}

fn load(program: &[Instruction]) -> Result<OwnedFd> {
    let attributes = LoadAttributes {
        program_type: PROGRAM_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    // SAFETY: attributes and program outlive the call; a descriptor returned is ours.
    unsafe {
        let result = libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of::<LoadAttributes>(),
        );
        let fd = sys::check(result).map_err(|errno| failed("load a device program", errno))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

fn failed(action: &str, errno: i32) -> RuntimeError {
    RuntimeError::io(action, std::io::Error::from_raw_os_error(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program on a made-up request; the machine is small enough to simulate.
    fn decide(program: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> bool {
        let context = [kind | access << 16, major, minor];
        let mut registers = [0_i64; 11];
        let mut at = 0_usize;
        loop {
            let step = program[at];
            let target = usize::from(step.registers & 15);
            let source = usize::from(step.registers >> 4);
            at += 1;
            match step.code {
                LOAD_WORD => {
                    registers[target] =
                        i64::from(context[usize::try_from(step.offset).unwrap() / 4]);
                }
                MOVE_REGISTER => registers[target] = registers[source],
                MOVE_IMMEDIATE => registers[target] = i64::from(step.immediate),
                AND_IMMEDIATE_32 => registers[target] &= i64::from(step.immediate),
                SHIFT_RIGHT_32 => registers[target] >>= step.immediate,
                JUMP_IF_NOT_EQUAL if registers[target] != i64::from(step.immediate) => {
                    at += usize::try_from(step.offset).unwrap();
                }
                0x15 if registers[target] == i64::from(step.immediate) => {
                    at += usize::try_from(step.offset).unwrap();
                }
                JUMP_IF_NOT_EQUAL | 0x15 => {}
                EXIT => return registers[0] != 0,
                code => panic!("unknown code {code:#x}"),
            }
        }
    }

    fn rule(allow: bool, kind: char, major: Option<u32>, minor: Option<u32>, access: &str) -> Rule {
        Rule {
            allow,
            kind,
            major,
            minor,
            access: access.to_owned(),
        }
    }

    #[test]
    fn the_last_matching_rule_decides() {
        let program = compile(&[
            rule(false, 'a', None, None, "rwm"),
            rule(true, 'c', Some(1), Some(3), "rwm"),
            rule(true, 'c', Some(136), None, "rw"),
            rule(false, 'c', Some(10), Some(229), "rwm"),
            rule(true, 'b', None, None, "m"),
        ]);
        let (read, write, mknod) = (ACCESS_READ, ACCESS_WRITE, ACCESS_MKNOD);
        for (kind, access, major, minor, expected) in [
            (KIND_CHARACTER, read | write, 1, 3, true),
            (KIND_CHARACTER, read, 1, 4, false),
            (KIND_CHARACTER, read | write, 136, 7, true),
            (KIND_CHARACTER, mknod, 136, 7, false),
            (KIND_CHARACTER, read, 10, 229, false),
            (KIND_BLOCK, mknod, 8, 0, true),
            (KIND_BLOCK, mknod | read, 8, 0, false),
            (KIND_BLOCK, read, 1, 3, false),
        ] {
            let decided = decide(&program, kind, access, major, minor);
            assert_eq!(decided, expected, "{kind} {access} {major}:{minor}");
        }
    }

    #[test]
    fn the_kernel_accepts_the_program() {
        let program = compile(&[
            rule(false, 'a', None, None, "rwm"),
            rule(true, 'c', Some(1), Some(3), "rwm"),
            rule(false, 'c', Some(10), None, "w"),
        ]);
        match load(&program) {
            Ok(_) => {}
            Err(error) if error.to_string().contains("not permitted") => {
                eprintln!("SKIP: may not load programs here");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
