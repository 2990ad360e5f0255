//! Conditions on the arguments of a system call.

use libc::sock_filter;
use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator};

use crate::seccomp::instruction::{
    AND, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, LOAD, branch,
};

/// Offset of the arguments in `struct seccomp_data`.
const OFFSET_ARGUMENTS: u32 = 16;

/// Compares a 64-bit argument, half by half; on failure `behind` more instructions are skipped.
pub(super) fn comparison(argument: &LinuxSeccompArg, behind: usize) -> Vec<sock_filter> {
    use LinuxSeccompOperator as Op;
    let low = OFFSET_ARGUMENTS + 8 * argument.index() as u32;
    let (low, high) = if cfg!(target_endian = "little") {
        (low, low + 4)
    } else {
        (low + 4, low)
    };
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (value_high, value_low) = halves(argument.value());
    let equal = |value: u32, pass: To, fail: To| (JUMP_EQUAL, value, pass, fail);
    let greater = |value: u32, pass: To, fail: To| (JUMP_GREATER, value, pass, fail);
    let least = |value: u32, pass: To, fail: To| (JUMP_GREATER_EQUAL, value, pass, fail);
    let load = |offset: u32| (LOAD, offset, To::Next, To::Next);
    let mask = |value: u32| (AND, value, To::Next, To::Next);
    let steps = match argument.op() {
        Op::ScmpCmpEq => vec![
            load(high),
            equal(value_high, To::Next, To::Fail),
            load(low),
            equal(value_low, To::Pass, To::Fail),
        ],
        Op::ScmpCmpNe => vec![
            load(high),
            equal(value_high, To::Next, To::Pass),
            load(low),
            equal(value_low, To::Fail, To::Pass),
        ],
        Op::ScmpCmpGt | Op::ScmpCmpGe => vec![
            load(high),
            greater(value_high, To::Pass, To::Next),
            equal(value_high, To::Next, To::Fail),
            load(low),
            if argument.op() == Op::ScmpCmpGt {
                greater(value_low, To::Pass, To::Fail)
            } else {
                least(value_low, To::Pass, To::Fail)
            },
        ],
        Op::ScmpCmpLt | Op::ScmpCmpLe => vec![
            load(high),
            greater(value_high, To::Fail, To::Next),
            equal(value_high, To::Next, To::Pass),
            load(low),
            if argument.op() == Op::ScmpCmpLt {
                least(value_low, To::Fail, To::Pass)
            } else {
                greater(value_low, To::Fail, To::Pass)
            },
        ],
        Op::ScmpCmpMaskedEq => {
            let (mask_high, mask_low) = (value_high, value_low);
            let (wanted_high, wanted_low) = halves(argument.value_two().unwrap_or(0));
            vec![
                load(high),
                mask(mask_high),
                equal(wanted_high, To::Next, To::Fail),
                load(low),
                mask(mask_low),
                equal(wanted_low, To::Pass, To::Fail),
            ]
        }
    };
    let count = steps.len();
    let place = |(index, (code, k, pass, fail)): (usize, (u16, u32, To, To))| {
        let after = count - 1 - index;
        let distance = |to: To| match to {
            To::Next => 0,
            To::Pass => after,
            To::Fail => after + behind,
        };
        // Six comparisons of six instructions are far below a jump's reach of 255.
        branch(code, k, distance(pass) as u8, distance(fail) as u8)
    };
    steps.into_iter().enumerate().map(place).collect()
}

/// Where a jump of a comparison goes.
#[derive(Clone, Copy)]
enum To {
    Next,
    Pass,
    Fail,
}
