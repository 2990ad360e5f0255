//! The binary; its rooms are not furnished yet.
fn main() {}
