//! Words with variables: flags in the first byte, then the word, a NUL, and `NAME=VALUE` lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_dockerfile::expand::Expander;

fuzz_target!(|data: (u8, &str)| {
    let (flags, text) = data;
    let (word, env) = text
        .split_once('\0')
        .unwrap_or((text, "A=1\nB=a b\nEMPTY="));
    let env: Vec<(String, String)> = env
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let expander = Expander {
        escape: if flags & 1 == 0 { '\\' } else { '`' },
        raw_quotes: flags & 2 != 0,
        raw_escapes: flags & 4 != 0,
        skip_unset_env: flags & 8 != 0,
        skip_process_quotes: flags & 16 != 0,
    };
    let whole = expander.expand(word, &env);
    assert_eq!(whole.is_ok(), expander.expand_words(word, &env).is_ok());
});
