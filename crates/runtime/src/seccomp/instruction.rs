//! Instructions of classic BPF (`linux/bpf_common.h`, `linux/filter.h`).

use libc::sock_filter;

pub(super) const LOAD: u16 = 0x20;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
pub(super) const AND: u16 = 0x54;
pub(super) const RETURN: u16 = 0x06;

/// Returns an instruction that is no jump.
pub(super) fn statement(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

/// Returns a conditional jump: over `jt` instructions where it holds, else over `jf`.
pub(super) fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Adds a jump over `distance` instructions that is taken unless the accumulator is `value`.
pub(super) fn skip_unless_equal(program: &mut Vec<sock_filter>, value: u32, distance: usize) {
    match u8::try_from(distance) {
        Ok(distance) => program.push(branch(JUMP_EQUAL, value, 0, distance)),
        Err(_) => {
            program.push(branch(JUMP_EQUAL, value, 1, 0));
            program.push(statement(JUMP, distance as u32));
        }
    }
}
