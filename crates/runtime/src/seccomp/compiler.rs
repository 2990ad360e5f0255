//! Profiles to classic BPF: for each architecture a binary search over ranges of system calls that
//! share their rules (kernel `Documentation/userspace-api/seccomp_filter.rst`).

use std::collections::BTreeMap;

use libc::sock_filter;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall};

use crate::error::{Result, RuntimeError};
use crate::seccomp::comparison::comparison;
use crate::seccomp::instruction::{
    JUMP, JUMP_GREATER_EQUAL, LOAD, RETURN, branch, skip_unless_equal, statement,
};
use crate::seccomp::table::Convention;

/// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;

const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const RETURN_KILL_THREAD: u32 = 0;
const RETURN_TRAP: u32 = 0x0003_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_TRACE: u32 = 0x7ff0_0000;
const RETURN_LOG: u32 = 0x7ffc_0000;
const RETURN_ALLOW: u32 = 0x7fff_0000;

/// System calls have six arguments.
const MAX_ARGUMENTS: usize = 6;

/// The most rules of one profile.
const MAX_RULES: usize = 65_536;

/// What is looked at for one system call, in order; the last entry has no conditions.
type Chain = Vec<(Vec<LinuxSeccompArg>, u32)>;

/// Compiles a profile.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<sock_filter>> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let calls = profile.syscalls().as_deref().unwrap_or_default();
    let rules: usize = calls.iter().map(|call| call.names().len()).sum();
    if rules > MAX_RULES {
        let reason = format!("{rules} rules, at most {MAX_RULES}");
        return Err(RuntimeError::invalid("seccomp profile", reason));
    }
    let mut by_audit: BTreeMap<u32, BTreeMap<u32, Chain>> = BTreeMap::new();
    for convention in conventions(profile) {
        let chains = by_audit.entry(convention.audit()).or_default();
        collect(chains, convention, calls, default)?;
    }
    // The native architecture is asked about first: nearly every call is of it.
    let native = Convention::native().audit();
    let mut blocks: Vec<(u32, BTreeMap<u32, Chain>)> = by_audit.into_iter().collect();
    blocks.sort_by_key(|(audit, _)| *audit != native);
    let mut program = vec![statement(LOAD, OFFSET_ARCHITECTURE)];
    for (audit, chains) in blocks {
        let mut block = vec![statement(LOAD, OFFSET_NUMBER)];
        block.extend(search(&segments(chains, default)));
        skip_unless_equal(&mut program, audit, block.len());
        program.extend(block);
    }
    program.push(statement(RETURN, RETURN_KILL_THREAD));
    Ok(program)
}

fn conventions(profile: &LinuxSeccomp) -> Vec<Convention> {
    let mut conventions = vec![Convention::native()];
    for architecture in profile.architectures().iter().flatten() {
        // Calls of a machine this one cannot run never reach the filter.
        if let Some(convention) = Convention::from_oci(*architecture)
            && !conventions.contains(&convention)
        {
            conventions.push(convention);
        }
    }
    conventions
}

fn collect(
    chains: &mut BTreeMap<u32, Chain>,
    convention: Convention,
    calls: &[LinuxSyscall],
    default: u32,
) -> Result<()> {
    for call in calls {
        let result = action(call.action(), call.errno_ret())?;
        let arguments = call.args().as_deref().unwrap_or_default();
        if arguments
            .iter()
            .any(|argument| argument.index() >= MAX_ARGUMENTS)
        {
            let reason = format!("{:?}: an argument above 5", call.names());
            return Err(RuntimeError::invalid("seccomp profile", reason));
        }
        // A name this architecture does not have is no call of it.
        for number in call
            .names()
            .iter()
            .filter_map(|name| convention.number(name))
        {
            chains
                .entry(number)
                .or_default()
                .push((arguments.to_vec(), result));
        }
    }
    for chain in chains.values_mut() {
        // A rule without conditions decides for what the conditional ones leave over.
        let rest = chain.iter().find(|(arguments, _)| arguments.is_empty());
        let rest = rest.map_or(default, |(_, result)| *result);
        chain.retain(|(arguments, result)| !arguments.is_empty() && *result != rest);
        chain.push((Vec::new(), rest));
    }
    Ok(())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32> {
    let errno = errno.unwrap_or(libc::EPERM as u32).min(0xffff);
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            RETURN_KILL_THREAD
        }
        LinuxSeccompAction::ScmpActKillProcess => RETURN_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => RETURN_TRAP,
        LinuxSeccompAction::ScmpActErrno => RETURN_ERRNO | errno,
        LinuxSeccompAction::ScmpActTrace => RETURN_TRACE | errno,
        LinuxSeccompAction::ScmpActAllow => RETURN_ALLOW,
        LinuxSeccompAction::ScmpActLog => RETURN_LOG,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(RuntimeError::Unsupported {
                what: "seccomp action SCMP_ACT_NOTIFY".to_owned(),
            });
        }
    })
}

/// A range of numbers from here to the next segment, and what is returned for it.
struct Segment {
    start: u32,
    code: Vec<sock_filter>,
}

fn segments(chains: BTreeMap<u32, Chain>, default: u32) -> Vec<Segment> {
    let otherwise = vec![statement(RETURN, default)];
    let mut segments = vec![Segment {
        start: 0,
        code: otherwise.clone(),
    }];
    let mut add = |start: u32, code: Vec<sock_filter>| match segments.last_mut() {
        Some(last) if same(&last.code, &code) => {}
        Some(last) if last.start == start => last.code = code,
        _ => segments.push(Segment { start, code }),
    };
    let mut next = 0;
    for (number, chain) in chains {
        if number > next {
            add(next, otherwise.clone());
        }
        add(number, chain_code(&chain));
        next = number.saturating_add(1);
    }
    add(next, otherwise.clone());
    segments
}

fn same(left: &[sock_filter], right: &[sock_filter]) -> bool {
    let key = |step: &sock_filter| (step.code, step.jt, step.jf, step.k);
    left.iter().map(key).eq(right.iter().map(key))
}

/// Finds the segment a number (in the accumulator) lies in.
fn search(segments: &[Segment]) -> Vec<sock_filter> {
    let (left, right) = segments.split_at(segments.len() / 2);
    let (Some(middle), false) = (right.first(), left.is_empty()) else {
        return segments
            .iter()
            .flat_map(|segment| segment.code.clone())
            .collect();
    };
    let left = search(left);
    let mut code = Vec::with_capacity(left.len() * 2 + 2);
    match u8::try_from(left.len()) {
        Ok(distance) => code.push(branch(JUMP_GREATER_EQUAL, middle.start, distance, 0)),
        Err(_) => {
            code.push(branch(JUMP_GREATER_EQUAL, middle.start, 0, 1));
            code.push(statement(JUMP, left.len() as u32));
        }
    }
    code.extend(left);
    code.extend(search(right));
    code
}

fn chain_code(chain: &Chain) -> Vec<sock_filter> {
    let mut code = Vec::new();
    for (arguments, result) in chain {
        let mut rule = vec![statement(RETURN, *result)];
        for argument in arguments.iter().rev() {
            let mut test = comparison(argument, rule.len());
            test.append(&mut rule);
            rule = test;
        }
        code.append(&mut rule);
    }
    code
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::seccomp::instruction::{AND, JUMP_EQUAL, JUMP_GREATER};
    use crate::seccomp::{default_profile, table::X32_BIT};

    /// Runs a filter as the kernel would.
    fn simulate(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend_from_slice(&number.to_ne_bytes());
        data.extend_from_slice(&arch.to_ne_bytes());
        data.extend_from_slice(&0_u64.to_ne_bytes());
        for argument in arguments {
            data.extend_from_slice(&argument.to_ne_bytes());
        }
        let (mut at, mut accumulator) = (0, 0_u32);
        loop {
            let step = program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
            match step.code {
                LOAD => {
                    let offset = step.k as usize;
                    accumulator = u32::from_ne_bytes(data[offset..offset + 4].try_into().unwrap());
                }
                AND => accumulator &= step.k,
                JUMP => at += step.k as usize,
                JUMP_EQUAL => at += jump(accumulator == step.k),
                JUMP_GREATER => at += jump(accumulator > step.k),
                JUMP_GREATER_EQUAL => at += jump(accumulator >= step.k),
                RETURN => return step.k,
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    fn vectors() -> Vec<serde_json::Value> {
        let text = include_str!("../../../../tests/vectors/own/seccomp.json");
        let file: serde_json::Value = serde_json::from_str(text).unwrap();
        file["vectors"].as_array().unwrap().clone()
    }

    /// What a recorded rule says about arguments.
    fn expected(rules: &[serde_json::Value], arguments: [u64; 6]) -> u32 {
        for rule in rules {
            let matches = rule["args"].as_array().is_none_or(|tests| {
                tests.iter().all(|test| {
                    let argument = arguments[test["index"].as_u64().unwrap() as usize];
                    let value = test["value"].as_u64().unwrap();
                    match test["op"].as_str().unwrap() {
                        "SCMP_CMP_EQ" => argument == value,
                        "SCMP_CMP_LT" => argument < value,
                        "SCMP_CMP_GT" => argument > value,
                        "SCMP_CMP_MASKED_EQ" => argument & value == 0,
                        op => panic!("{op}"),
                    }
                })
            });
            if matches {
                return match rule["action"].as_str().unwrap() {
                    "SCMP_ACT_ALLOW" => RETURN_ALLOW,
                    _ => RETURN_ERRNO | rule["errno"].as_u64().unwrap() as u32,
                };
            }
        }
        RETURN_ERRNO | 1
    }

    const PROBES: [u64; 14] = [
        0,
        1,
        8,
        37,
        38,
        39,
        40,
        41,
        0x20000,
        0x20008,
        0xffff_ffff,
        0x1_0000_0000,
        0x7E02_0000,
        0x0200_0000,
    ];

    #[test]
    fn the_default_profile_is_dockers_for_every_call() {
        if !cfg!(target_arch = "x86_64") {
            eprintln!("SKIP: the recorded profiles are of x86_64");
            return;
        }
        for vector in vectors() {
            let capabilities: Vec<String> = vector["input"]["caps"]
                .as_array()
                .unwrap()
                .iter()
                .map(|name| name.as_str().unwrap().to_owned())
                .collect();
            let program = compile(&default_profile(&capabilities)).unwrap();
            let recorded = vector["expected"]["syscalls"].as_object().unwrap();
            for convention in [Convention::X86_64, Convention::X86, Convention::X32] {
                let mut rules: BTreeMap<u32, &[serde_json::Value]> = BTreeMap::new();
                for (name, list) in recorded {
                    if let Some(number) = convention.number(name) {
                        rules.insert(number, list.as_array().unwrap());
                    }
                }
                let bit = if convention == Convention::X32 {
                    X32_BIT
                } else {
                    0
                };
                for number in (0..1024).map(|number| number | bit) {
                    let rules = rules.get(&number).copied().unwrap_or_default();
                    for probe in PROBES {
                        let arguments = [probe, 0, 0, 0, 0, 0];
                        let found = simulate(&program, convention.audit(), number, arguments);
                        let expected = expected(rules, arguments);
                        let id = &vector["id"];
                        assert_eq!(found, expected, "{id} {convention:?} {number} {probe:#x}");
                    }
                }
            }
            assert!(program.len() < 2000, "{} instructions", program.len());
        }
    }

    #[test]
    fn a_foreign_architecture_is_killed() {
        let program = compile(&default_profile(&[])).unwrap();
        assert_eq!(simulate(&program, 0x16, 0, [0; 6]), RETURN_KILL_THREAD);
    }

    #[test]
    fn every_comparison_is_over_64_bits() {
        let values = [
            0_u64,
            1,
            5,
            0xffff_ffff,
            0x1_0000_0000,
            0x1_0000_0005,
            u64::MAX,
        ];
        let operators = [
            ("NE", |a: u64, b: u64| a != b),
            ("LT", |a, b| a < b),
            ("LE", |a, b| a <= b),
            ("EQ", |a, b| a == b),
            ("GE", |a, b| a >= b),
            ("GT", |a, b| a > b),
            ("MASKED_EQ", |a, b| a & b == 0x1_0000_0000),
        ] as [(&str, fn(u64, u64) -> bool); 7];
        for (name, holds) in operators {
            for value in values {
                let json = format!(
                    r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["read"],
                    "action": "SCMP_ACT_ALLOW", "args": [{{"index": 5, "value": {value},
                    "valueTwo": 4294967296, "op": "SCMP_CMP_{name}"}}]}}]}}"#
                );
                let program = compile(&serde_json::from_str(&json).unwrap()).unwrap();
                let number = Convention::native().number("read").unwrap();
                for argument in values {
                    let arguments = [0, 0, 0, 0, 0, argument];
                    let audit = Convention::native().audit();
                    let allowed = simulate(&program, audit, number, arguments) == RETURN_ALLOW;
                    assert_eq!(
                        allowed,
                        holds(argument, value),
                        "{argument:#x} {name} {value:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for json in [
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"],
                "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0,
                "op": "SCMP_CMP_EQ"}]}]}"#,
        ] {
            assert!(
                compile(&serde_json::from_str(json).unwrap()).is_err(),
                "{json}"
            );
        }
    }
}
