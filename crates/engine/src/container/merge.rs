//! Merging a create request with the image's config (spec runtime §1.1, engine-api §7.2).

use crate::error::{EngineError, Result};
use wharf_image::{ContainerConfig, Healthcheck};

/// Fills in from the image, if there is one, what a create request leaves open.
///
/// A user's entrypoint drops the image's command; `[""]` means no entrypoint at all, an empty list none of
/// the image's.
///
/// # Errors
/// Docker's `no command specified` when neither names a program.
pub(crate) fn complete_config(
    user: &mut ContainerConfig,
    image: Option<&wharf_image::ImageConfig>,
) -> Result<()> {
    if let Some(base) = image.and_then(|image| image.config.as_ref()) {
        merge_image_config(user, base);
    }
    if user
        .entrypoint
        .as_ref()
        .is_some_and(|entrypoint| entrypoint.len() == 1 && entrypoint[0].is_empty())
    {
        user.entrypoint = None;
    }
    let has_program =
        |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if !has_program(&user.entrypoint) && !has_program(&user.cmd) {
        return Err(EngineError::invalid("no command specified"));
    }
    Ok(())
}

fn merge_image_config(user: &mut ContainerConfig, image: &ContainerConfig) {
    fill_common(user, image);
    if user.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if user.cmd.as_ref().is_none_or(Vec::is_empty) {
            user.cmd.clone_from(&image.cmd);
        }
        if user.entrypoint.is_none() {
            user.entrypoint.clone_from(&image.entrypoint);
        }
    }
}

/// Fills a commit's config from the container's (spec image-store §11 step 3).
pub(crate) fn merge_commit_config(new: &mut ContainerConfig, container: &ContainerConfig) {
    fill_common(new, container);
    if new.entrypoint.as_ref().is_none_or(Vec::is_empty)
        && new.cmd.as_ref().is_none_or(Vec::is_empty)
    {
        new.cmd.clone_from(&container.cmd);
    }
    if new.entrypoint.is_none() {
        new.entrypoint.clone_from(&container.entrypoint);
    }
}

fn fill_common(user: &mut ContainerConfig, base: &ContainerConfig) {
    fill_text(&mut user.user, &base.user);
    fill_text(&mut user.working_dir, &base.working_dir);
    fill_text(&mut user.stop_signal, &base.stop_signal);
    if user.shell.is_empty() {
        user.shell.clone_from(&base.shell);
    }
    for (port, empty) in &base.exposed_ports {
        user.exposed_ports.entry(port.clone()).or_insert(*empty);
    }
    for (path, empty) in &base.volumes {
        user.volumes.entry(path.clone()).or_insert(*empty);
    }
    for (key, value) in &base.labels {
        user.labels
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
    for variable in &base.env {
        if !user.env.iter().any(|own| env_key(own) == env_key(variable)) {
            user.env.push(variable.clone());
        }
    }
    merge_healthcheck(&mut user.healthcheck, base.healthcheck.as_ref());
}

fn merge_healthcheck(user: &mut Option<Healthcheck>, base: Option<&Healthcheck>) {
    let Some(base) = base else { return };
    let Some(own) = user else {
        *user = Some(base.clone());
        return;
    };
    if own.test.is_empty() {
        own.test.clone_from(&base.test);
    }
    for (mine, theirs) in [
        (&mut own.interval, base.interval),
        (&mut own.timeout, base.timeout),
        (&mut own.start_period, base.start_period),
        (&mut own.start_interval, base.start_interval),
        (&mut own.retries, base.retries),
    ] {
        if *mine == 0 {
            *mine = theirs;
        }
    }
}

fn fill_text(own: &mut String, base: &str) {
    if own.is_empty() {
        base.clone_into(own);
    }
}

/// Returns the part of an environment entry before `=`.
pub(crate) fn env_key(variable: &str) -> &str {
    variable.split('=').next().unwrap_or_default()
}

/// Returns the environment of a container's process: defaults, then the config's entries over them;
/// an entry without `=` removes the key (spec runtime §2.8).
pub(crate) fn process_env(
    config: &ContainerConfig,
    hostname: &str,
    extra: &[String],
) -> Vec<String> {
    let mut env = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOSTNAME={hostname}"),
    ];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    for entry in config.env.iter().chain(extra) {
        let key = env_key(entry);
        match (
            env.iter().position(|known| env_key(known) == key),
            entry.contains('='),
        ) {
            (Some(at), true) => env[at].clone_from(entry),
            (Some(at), false) => {
                env.remove(at);
            }
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn commands() {
        type Pair = (Option<Vec<String>>, Option<Vec<String>>);
        let image: Pair = (list(&["/entry"]), list(&["arg"]));
        let cases: [(Pair, Pair); 5] = [
            ((None, None), (list(&["/entry"]), list(&["arg"]))),
            ((None, list(&["x"])), (list(&["/entry"]), list(&["x"]))),
            ((list(&["/mine"]), None), (list(&["/mine"]), None)),
            ((list(&[""]), list(&["x"])), (None, list(&["x"]))),
            ((list(&[]), None), (list(&[]), list(&["arg"]))),
        ];
        for (user, expected) in cases {
            let mut config = ContainerConfig {
                entrypoint: user.0,
                cmd: user.1,
                ..Default::default()
            };
            let base = wharf_image::ImageConfig {
                config: Some(ContainerConfig {
                    entrypoint: image.0.clone(),
                    cmd: image.1.clone(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            complete_config(&mut config, Some(&base)).unwrap();
            assert_eq!((config.entrypoint, config.cmd), expected);
        }
        let none = complete_config(&mut ContainerConfig::default(), None);
        assert_eq!(none.unwrap_err().message(), "no command specified");
    }

    #[test]
    fn environment() {
        let config = ContainerConfig {
            env: vec!["A=1".into(), "PATH=/x".into(), "HOSTNAME".into()],
            tty: true,
            ..Default::default()
        };
        assert_eq!(
            process_env(&config, "h", &["A=2".into()]),
            ["PATH=/x", "TERM=xterm", "A=2"]
        );
    }
}
