//! Links the released program at a fixed address.
//!
//! A program that may lie anywhere writes into every page of its tables of addresses as it starts, and keeps a copy of
//! them: with each container's shim that is about a megabyte, beside what the shim itself needs. Stack, heap and
//! libraries still lie anywhere.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && is("CARGO_CFG_TARGET_OS", "linux")
    {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
