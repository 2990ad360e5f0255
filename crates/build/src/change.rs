//! `commit --change` and `import --change`: instructions on a config outside of a build.

use wharf_dockerfile::expand::Expander;
use wharf_dockerfile::{Diagnostic, InstructionKind, parse_commands};
use wharf_image::ContainerConfig;

use crate::BuildError;
use crate::config;

/// Applies one or more instructions to a config, as `commit --change` does (spec image-store §11).
///
/// Values are expanded with the config's own environment. Takes CMD, ENTRYPOINT, ENV, EXPOSE,
/// HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR.
///
/// # Errors
/// [`BuildError::InvalidChange`] for other instructions, [`BuildError::Dockerfile`] and
/// [`BuildError::Instruction`] for malformed ones; the config is then left as it was.
pub fn apply_change(config: &mut ContainerConfig, text: &str) -> Result<(), BuildError> {
    let instructions = parse_commands(text).map_err(|diagnostics| malformed(text, diagnostics))?;
    let mut changed = config.clone();
    for instruction in &instructions {
        let name = instruction.keyword.to_uppercase();
        apply(&mut changed, &name, &instruction.kind)?;
    }
    *config = changed;
    Ok(())
}

/// Says what is wrong with a text; an instruction that does not exist is refused like those that are not taken here.
fn malformed(text: &str, diagnostics: Vec<Diagnostic>) -> BuildError {
    let keywords = text
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    for keyword in keywords {
        let message = format!("unknown instruction: {keyword}");
        if diagnostics.iter().any(|found| found.message == message) {
            return BuildError::InvalidChange {
                instruction: keyword.to_owned(),
            };
        }
    }
    let headlines: Vec<String> = diagnostics.iter().map(Diagnostic::headline).collect();
    BuildError::Dockerfile {
        rendered: headlines.join("\n"),
        diagnostics,
    }
}

fn apply(
    config: &mut ContainerConfig,
    name: &str,
    kind: &InstructionKind,
) -> Result<(), BuildError> {
    let invalid = |message: String| BuildError::instruction(message);
    let env: Vec<(String, String)> = config
        .env
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let expander = Expander::new('\\');
    let expand = |word: &str| {
        expander
            .expand_word(word, &env)
            .map_err(|error| BuildError::instruction(error.to_string()))
    };
    match kind {
        InstructionKind::Cmd(command) => {
            config::set_cmd(config, command);
            // Only BuildKit's frontend says so of every CMD; `import` and `commit` never do.
            config.args_escaped = false;
        }
        InstructionKind::Entrypoint(command) => {
            // A change never takes away the Cmd that an earlier change or the container set.
            config::set_entrypoint(config, command, true);
        }
        InstructionKind::Env(pairs) => {
            for pair in pairs {
                config::set_env(&mut config.env, &expand(&pair.key)?, &expand(&pair.value)?);
            }
        }
        InstructionKind::Expose(words) => {
            let mut expanded = Vec::new();
            for word in words {
                let words = expander.expand_words(word, &env);
                expanded.extend(words.map_err(|error| invalid(error.to_string()))?);
            }
            for port in &expanded {
                config::expose(config, port).map_err(invalid)?;
            }
        }
        InstructionKind::Healthcheck(check) => config::set_healthcheck(config, check),
        InstructionKind::Label(pairs) => {
            for pair in pairs {
                config
                    .labels
                    .insert(expand(&pair.key)?, expand(&pair.value)?);
            }
        }
        InstructionKind::Onbuild(trigger) => config.on_build.push(trigger.clone()),
        InstructionKind::Stopsignal(signal) => {
            config::set_stop_signal(config, &expand(signal)?).map_err(invalid)?;
        }
        InstructionKind::User(user) => config.user = expand(user)?,
        InstructionKind::Volume(volumes) => {
            let volumes = volumes
                .iter()
                .map(|volume| expand(volume))
                .collect::<Result<Vec<_>, _>>()?;
            config::add_volumes(config, &volumes).map_err(invalid)?;
        }
        InstructionKind::Workdir(path) => {
            config.working_dir = config::join_workdir(&config.working_dir, &expand(path)?);
        }
        _ => {
            return Err(BuildError::InvalidChange {
                instruction: name.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::apply_change;
    use wharf_image::ContainerConfig;

    #[test]
    fn changes_are_applied_in_order() {
        let mut config = ContainerConfig {
            env: vec!["A=1".to_owned()],
            working_dir: "/w".to_owned(),
            cmd: Some(vec!["old".to_owned()]),
            ..ContainerConfig::default()
        };
        for change in [
            "ENV B=$A C=x\\ y",
            "CMD echo $B",
            "ENTRYPOINT [\"/e\"]",
            "EXPOSE 80 53/udp",
            "LABEL a=\"b c\"",
            "ONBUILD RUN x",
            "STOPSIGNAL SIGINT",
            "USER u:g",
            "VOLUME /v /w",
            "WORKDIR sub",
            "HEALTHCHECK NONE",
        ] {
            apply_change(&mut config, change).unwrap();
        }
        assert_eq!(config.env, ["A=1", "B=1", "C=x y"]);
        assert_eq!(config.cmd.as_deref().unwrap(), ["/bin/sh", "-c", "echo $B"]);
        assert_eq!(config.entrypoint.as_deref().unwrap(), ["/e"]);
        assert_eq!(
            config.exposed_ports.keys().collect::<Vec<_>>(),
            ["53/udp", "80/tcp"]
        );
        assert_eq!(config.labels["a"], "b c");
        assert_eq!(config.on_build, ["RUN x"]);
        assert_eq!(config.stop_signal, "SIGINT");
        assert_eq!(config.user, "u:g");
        assert_eq!(config.volumes.len(), 2);
        assert_eq!(config.working_dir, "/w/sub");
        assert_eq!(config.healthcheck.unwrap().test, ["NONE"]);
    }

    #[test]
    fn other_instructions_are_refused_and_change_nothing() {
        for (change, text) in [
            ("RUN x", "RUN is not a valid change command"),
            ("copy a b", "COPY is not a valid change command"),
            ("MAINTAINER me", "MAINTAINER is not a valid change command"),
            ("ENV A=1\nRUN x", "RUN is not a valid change command"),
            ("FOO x", "FOO is not a valid change command"),
            ("STOPSIGNAL nope", "invalid signal: nope"),
        ] {
            let mut config = ContainerConfig::default();
            let error = apply_change(&mut config, change).unwrap_err().to_string();
            assert!(error.starts_with(text), "{change}: {error}");
            assert_eq!(config, ContainerConfig::default());
        }
    }
}
