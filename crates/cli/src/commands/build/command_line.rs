//! The words `build context`, which may also mean a directory of that name.

use std::ffi::OsString;

/// Global flags that take the next word.
const GLOBAL_WITH_VALUE: [&str; 10] = [
    "-H",
    "--host",
    "-c",
    "--context",
    "--config",
    "-l",
    "--log-level",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
];

/// Returns the command line with `build context …` as `builder context …`.
///
/// A directory of that name is built, as docker would, unless more is said that only the listing takes.
pub fn rewritten(mut arguments: Vec<OsString>, is_directory: bool) -> Vec<OsString> {
    let words: Vec<&str> = arguments
        .iter()
        .map(|argument| argument.to_str().unwrap_or_default())
        .collect();
    let mut place = 1;
    while let Some(word) = words.get(place).filter(|word| word.starts_with('-')) {
        place += 1 + usize::from(GLOBAL_WITH_VALUE.contains(word));
    }
    let Some(["build", "context", rest @ ..]) = words.get(place..) else {
        return arguments;
    };
    if (!is_directory || is_listing(rest))
        && let Some(command) = arguments.get_mut(place)
    {
        *command = "builder".into();
    }
    arguments
}

fn is_listing(words: &[&str]) -> bool {
    let mut is_meant = false;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--json" | "-h" | "--help" => is_meant = true,
            "--explain" => {
                is_meant = true;
                words.next();
            }
            "-f" | "--file" => drop(words.next()),
            word if word.starts_with("--explain=") => is_meant = true,
            word if word.starts_with("--file=") => {}
            word if word.starts_with('-') => return false,
            _ => is_meant = true,
        }
    }
    is_meant
}

#[cfg(test)]
mod tests {
    use super::rewritten;
    use std::ffi::OsString;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_directory_named_context_is_built_as_docker_does() {
        for (text, is_directory, is_listing) in [
            ("wharf build context", false, true),
            ("wharf build context", true, false),
            ("wharf build context .", true, true),
            ("wharf build context --explain a", true, true),
            ("wharf build context -f x --json", true, true),
            ("wharf build context -f x", true, false),
            ("wharf build context -t x", true, false),
            ("wharf build -t x context", false, false),
            ("wharf build .", false, false),
            ("wharf --debug -H unix:///x build context .", true, true),
            ("wharf -H build run context", false, false),
        ] {
            let rewritten = rewritten(words(text), is_directory);
            let found = rewritten.iter().any(|word| word == "builder");
            assert_eq!(found, is_listing, "{text} {is_directory}");
        }
    }
}
