//! Recipes: what is read back is the same, and making a tar of a lie ends with an error.
#![no_main]

use std::io::{self, Write};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wharf_layer::Recipe;
use wharf_safefs::Root;

const MAX_OUTPUT_BYTES: usize = 1 << 20;

static EMPTY: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir_in("/dev/shm").expect("a directory in memory"));

/// A disk that is soon full.
struct SmallDisk(usize);

impl Write for SmallDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(recipe) = Recipe::from_bytes(bytes) else {
        return;
    };
    let again = Recipe::from_bytes(&recipe.to_bytes()).expect("its own form");
    assert_eq!(again.diff_id(), recipe.diff_id());
    let root = Root::open(EMPTY.path()).expect("the directory");
    let _ = recipe.rebuild(&root, &mut SmallDisk(MAX_OUTPUT_BYTES));
});
