//! Records docker's commands and flags by walking its client's help.
//!
//! The form is made to be read and compared: a command a line, with its other names behind it, and its flags below.
//!
//! ```text
//! container ls = container list, container ps, ps
//!   -a --all
//!   --format string
//! ```

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Deepest nesting of commands that is followed.
const MAX_DEPTH: usize = 4;

/// Returns the record of a docker client.
///
/// # Errors
/// Says what could not be run.
pub fn record(docker: &Path) -> Result<String, String> {
    let mut text = String::from("# Commands and flags of docker's client 28.5, from its help.\n");
    walk(docker, &[], &mut text)?;
    Ok(text)
}

/// Returns the record of buildx's `build`, by the plugin's own help.
///
/// # Errors
/// Says what could not be run.
pub fn record_buildx(plugin: &Path) -> Result<String, String> {
    let output = Command::new(plugin)
        .args(["build", "--help"])
        .env("HOME", "/nonexistent")
        .output()
        .map_err(|error| format!("cannot run {}: {error}", plugin.display()))?;
    let help = Help::parse(&String::from_utf8_lossy(&output.stdout));
    let mut text = String::from(
        "# Flags of `build` of docker's buildx 0.29, from its help; those that it hides are of docker's own `build`.\nbuildx build\n",
    );
    // Docker's own help does not list it either.
    let flags = help.flags.iter().filter(|flag| *flag != "-h --help");
    for flag in flags {
        // A string takes everything.
        let _ = writeln!(text, "  {flag}");
    }
    Ok(text)
}

fn walk(docker: &Path, path: &[String], text: &mut String) -> Result<(), String> {
    let output = Command::new(docker)
        .args(path)
        .arg("--help")
        // Nothing of this machine's own configuration or plugins is wanted.
        .env("DOCKER_CONFIG", "/nonexistent")
        .env("DOCKER_HOST", "unix:///nonexistent")
        .env("HOME", "/nonexistent")
        .output()
        .map_err(|error| format!("cannot run {}: {error}", docker.display()))?;
    let help = String::from_utf8_lossy(&output.stdout);
    let help = Help::parse(&help);
    let name = path.join(" ");
    // A command that is shown under several names is recorded once, under its first one.
    let is_first_name = help.names.first().is_none_or(|first| *first == name);
    if is_first_name {
        let others: Vec<&str> = help
            .names
            .iter()
            .map(String::as_str)
            .filter(|other| *other != name)
            .collect();
        let title = if name.is_empty() { "docker" } else { &name };
        let equals = if others.is_empty() { "" } else { " = " };
        // A string takes everything.
        let _ = writeln!(text, "{title}{equals}{}", others.join(", "));
        for flag in &help.flags {
            let _ = writeln!(text, "  {flag}");
        }
    }
    if path.len() < MAX_DEPTH {
        for command in help.commands {
            walk(docker, &[path, &[command]].concat(), text)?;
        }
    }
    Ok(())
}

/// What a help text tells.
#[derive(Debug, Default)]
struct Help {
    names: Vec<String>,
    commands: Vec<String>,
    flags: Vec<String>,
}

impl Help {
    fn parse(text: &str) -> Self {
        let mut help = Self::default();
        let mut section = "";
        for line in text.lines() {
            if !line.starts_with(' ') {
                section = line;
            } else if section == "Aliases:" {
                let names = line.split(',').map(str::trim);
                let names = names.filter_map(|name| name.strip_prefix("docker "));
                help.names.extend(names.map(str::to_owned));
            } else if section.ends_with("Commands:") {
                let name = line.split_whitespace().next().unwrap_or_default();
                // A star marks plugins, which are not docker's own.
                if line.starts_with("  ") && !line.starts_with("   ") && !name.ends_with('*') {
                    help.commands.push(name.to_owned());
                }
            } else if section.ends_with("Options:") || section.ends_with("Flags:") {
                help.flags.extend(flag(line));
            }
        }
        help
    }
}

/// Returns `-a --all TYPE` of a line of options; None for a line that goes on with a description.
fn flag(line: &str) -> Option<String> {
    let is_flag = line.starts_with("  -") || line.starts_with("      --");
    let head = line.trim().split("  ").next().filter(|_| is_flag)?;
    Some(head.replace("-, ", "- ").replace(", --", " --"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_help_text() {
        let help = Help::parse(
            "Usage:  docker image ls [OPTIONS]\n\nList images\n\nAliases:\n  docker image ls, docker images\n\n\
             Commands:\n  ca          Display\n  buildx*     Plugin\n\nOptions:\n  -a, --all             Show all\n      \
             --format string   Format\n                        'table':            Print\n",
        );
        assert_eq!(help.names, ["image ls", "images"]);
        assert_eq!(help.commands, ["ca"]);
        assert_eq!(help.flags, ["-a --all", "--format string"]);
    }
}
