//! What tests of several areas do with containers and images.

use crate::harness::{Client, Daemon};

/// Starts a container that sleeps.
pub fn sleeper(d: &Daemon, client: Client, name: &str, options: &[&str]) {
    let mut arguments = vec!["run", "-d", "--name", name];
    arguments.extend(options);
    arguments.extend(["busybox", "sleep", "1000"]);
    d.ok(client, &arguments);
}

/// Starts a web server that says its container's name.
pub fn web(d: &Daemon, client: Client, name: &str, options: &[&str]) {
    let mut arguments = vec!["run", "-d", "--name", name];
    arguments.extend(options);
    let serve = "mkdir -p /www; hostname > /www/index.html; exec httpd -f -h /www -p 80";
    arguments.extend(["-h", name, "busybox", "sh", "-c", serve]);
    d.ok(client, &arguments);
}

/// Runs a script in a container and returns what it says.
pub fn exec(d: &Daemon, container: &str, script: &str) -> String {
    d.ok(Client::Wharf, &["exec", container, "sh", "-c", script])
}

/// Returns the address of a container on a network.
pub fn address(d: &Daemon, container: &str, network: &str) -> String {
    let template = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    d.ok(
        Client::Wharf,
        &["inspect", "--format", &template, container],
    )
}

/// Returns the ID of a container or an image.
pub fn id_of(d: &Daemon, client: Client, name: &str) -> String {
    d.ok(client, &["inspect", "--format", "{{.Id}}", name])
}
