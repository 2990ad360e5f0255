//! Package managers: apt as it should be called, and which commands install what a project depends on.

use super::shell::SimpleCommand;

const APT_PROGRAMS: [&str; 3] = ["apt-get", "apt", "aptitude"];
/// Subcommands of apt that ask before they go on.
const ASKING: [&str; 12] = [
    "install",
    "reinstall",
    "upgrade",
    "dist-upgrade",
    "full-upgrade",
    "safe-upgrade",
    "remove",
    "purge",
    "autoremove",
    "autopurge",
    "build-dep",
    "satisfy",
];
/// Options of apt that take the next word.
const APT_WITH_VALUE: [&str; 8] = [
    "-o",
    "--option",
    "-c",
    "--config-file",
    "-t",
    "--target-release",
    "-a",
    "--host-architecture",
];
/// Options that keep apt from asking, or from doing anything.
const NOT_ASKING: [&str; 11] = [
    "--yes",
    "--assume-yes",
    "--assume-no",
    "--force-yes",
    "--quiet=2",
    "-q=2",
    "--simulate",
    "--dry-run",
    "--just-print",
    "--print-uris",
    "--help",
];

/// A call of apt.
pub(super) struct AptCall<'a> {
    /// The program.
    pub program: &'a str,
    /// `install`, `update` and so on.
    pub action: &'a str,
    /// Its options.
    options: Vec<&'a str>,
}

impl<'a> AptCall<'a> {
    /// Returns the call that a command is, if it is one.
    pub fn of(command: &'a SimpleCommand) -> Option<Self> {
        let (program, arguments) = command.program()?;
        if !APT_PROGRAMS.contains(&program) {
            return None;
        }
        let mut options = Vec::new();
        let mut action = None;
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            if word.starts_with(['-', '$', '<']) {
                options.push(word);
                if APT_WITH_VALUE.contains(&word) {
                    options.extend(words.next());
                }
            } else if action.is_none() {
                action = Some(word);
            }
        }
        Some(Self {
            program,
            action: action?,
            options,
        })
    }

    /// Returns whether it waits for an answer that nobody gives.
    pub fn asks(&self) -> bool {
        ASKING.contains(&self.action) && !self.options.iter().any(|option| is_answer(option))
    }
}

/// Returns whether an option answers for the user; what a variable holds is not known and taken for an answer.
fn is_answer(option: &str) -> bool {
    let short = option
        .strip_prefix('-')
        .filter(|rest| !rest.starts_with('-'));
    NOT_ASKING.contains(&option)
        || option.starts_with(['$', '<'])
        || option.to_lowercase().contains("assume-yes")
        || short.is_some_and(|letters| {
            letters.bytes().all(|letter| letter.is_ascii_alphabetic())
                && (letters.contains(['y', 's']) || letters.matches('q').count() > 1)
        })
}

/// Returns what a command installs dependencies with, such as `npm ci`; nothing for other commands.
pub(super) fn dependency_install(command: &SimpleCommand) -> Option<String> {
    let (program, arguments) = command.program()?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let names: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !word.starts_with(['-', '>', '<', '$']))
        .collect();
    let has = |option: &str| words.contains(&option);
    let action = names.first().copied().unwrap_or_default();
    let shown = |action: &str| Some(format!("{program} {action}").trim_end().to_owned());
    match (program, action) {
        ("npm", "install" | "i" | "ci") | ("pnpm" | "bun", "install" | "i")
            if names.len() == 1 && !has("-g") && !has("--global") =>
        {
            shown(action)
        }
        ("yarn", "" | "install") if names.len() <= 1 => shown(action),
        ("pip" | "pip3", "install") if has("-r") || has("--requirement") => shown("install -r"),
        ("python" | "python3", _) if has("-m") && has("pip") && has("install") && has("-r") => {
            Some("pip install -r".to_owned())
        }
        ("pipenv", "install" | "sync")
        | ("bundle" | "composer", "install")
        | ("dotnet", "restore")
        | ("cargo", "fetch")
        | ("mix", "deps.get") => shown(action),
        ("go", "mod") if has("download") => shown("mod download"),
        ("mvn" | "mvnw", _) => {
            let goal = names.iter().find(|name| name.starts_with("dependency:"))?;
            shown(goal)
        }
        ("apt-get" | "apt", "install")
        | ("apk", "add")
        | ("dnf" | "yum" | "microdnf", "install") => {
            // Packages of the context itself can only be installed after they were copied.
            let is_local = names.iter().any(|name| name.contains('/'));
            (!is_local && names.len() > 1).then(|| format!("{program} {action}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::shell::commands;
    use super::{AptCall, dependency_install};

    #[test]
    fn apt_that_asks() {
        for (script, asks) in [
            ("apt-get install curl", true),
            ("apt-get install -y curl", false),
            ("apt-get -qqy install curl", false),
            ("apt-get -qq install curl", false),
            ("apt-get -q install curl", true),
            ("DEBIAN_FRONTEND=noninteractive apt install curl", true),
            ("apt-get -o Dpkg::Options::=--force-confold install x", true),
            ("apt-get -o APT::Get::Assume-Yes=true install x", false),
            ("apt-get $OPTS install x", false),
            ("apt-get update", false),
            ("apt-get --no-install-recommends upgrade", true),
            ("apt-get -t stable -y install x", false),
            ("apt-cache search x", false),
        ] {
            let commands = commands(script);
            let found = AptCall::of(&commands[0]).is_some_and(|call| call.asks());
            assert_eq!(found, asks, "{script}");
        }
    }

    #[test]
    fn installs_of_dependencies() {
        for (script, expected) in [
            ("npm ci --omit=dev", Some("npm ci")),
            ("npm install express", None),
            ("yarn", Some("yarn")),
            ("yarn build", None),
            (
                "pip install --no-cache-dir -r requirements.txt",
                Some("pip install -r"),
            ),
            ("pip install .", None),
            ("python3 -m pip install -r r.txt", Some("pip install -r")),
            ("go mod download -x", Some("go mod download")),
            ("go build ./...", None),
            ("apt-get install -y curl", Some("apt-get install")),
            ("apt-get install -y ./x.deb", None),
            (
                "mvn -B dependency:go-offline",
                Some("mvn dependency:go-offline"),
            ),
        ] {
            let commands = commands(script);
            let found = dependency_install(&commands[0]);
            assert_eq!(found.as_deref(), expected, "{script}");
        }
    }
}
