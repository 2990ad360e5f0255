//! Ignore files: the file, a NUL, and a path. A directory that may be skipped holds nothing that is let in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_dockerfile::IgnoreFile;

fuzz_target!(|text: &str| {
    let (content, path) = text.split_once('\0').unwrap_or((text, "a/b/c"));
    let Ok(file) = IgnoreFile::parse(content) else {
        return;
    };
    let _ = file.decide(path);
    let path = path.trim_matches('/');
    if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return;
    }
    if file.can_skip_directory(path).unwrap_or(false) {
        for inner in ["a", "b/c", ".hidden"] {
            let inner = format!("{path}/{inner}");
            // A pattern is looked at when it is first needed: one that cannot be read may come to light only there.
            if let Ok(decision) = file.decide(&inner) {
                assert!(decision.is_ignored, "{inner}");
            }
        }
    }
});
