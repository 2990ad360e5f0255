//! A shim and nothing else, for this crate's tests.

fn main() {
    std::process::exit(wharf_runtime::shim_main(std::env::args().skip(1)));
}
