//! What the daemon's flags say.

use crate::daemon::file::{Layer, Limit, Size};
use std::collections::BTreeMap;
use wharf_cli::DaemonArgs;

/// Returns the settings that the flags give.
pub(super) fn from_flags(args: &DaemonArgs) -> Result<Layer, String> {
    let list = |values: &[String]| (!values.is_empty()).then(|| values.to_vec());
    let unix = args
        .sockets
        .iter()
        .map(|path| format!("unix://{}", path.display()));
    let hosts: Vec<String> = unix.chain(args.hosts.iter().cloned()).collect();
    let mut log_opts = BTreeMap::new();
    for option in &args.log_options {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| format!("--log-opt: {option:?} is not of the form key=value"))?;
        log_opts.insert(key.to_owned(), value.to_owned());
    }
    let mut limits = BTreeMap::new();
    for text in &args.ulimits {
        let parsed =
            wharf_cli::parse_ulimit(text).map_err(|error| format!("--default-ulimit: {error}"))?;
        let limit = Limit {
            name: parsed.name.clone(),
            hard: parsed.hard,
            soft: parsed.soft,
        };
        limits.insert(parsed.name, limit);
    }
    Ok(Layer {
        root: args.root.clone(),
        run_dir: args.run_dir.clone(),
        pidfile: args.pidfile.clone(),
        hosts: list(&hosts),
        listen: None,
        docker_socket: args.docker_socket.then_some(true),
        policy: None,
        group: args.group.clone(),
        debug: args.debug.then_some(true),
        log_level: args.log_level.clone(),
        log_format: args.log_format.clone(),
        metrics_addr: args.metrics_address.clone(),
        tls: args.tls,
        tlsverify: args.tls_verify.then_some(true),
        tlscacert: args.tls_ca.clone(),
        tlscert: args.tls_certificate.clone(),
        tlskey: args.tls_key.clone(),
        labels: list(&args.labels),
        log_driver: args.log_driver.clone(),
        log_opts: (!log_opts.is_empty()).then_some(log_opts),
        insecure_registries: list(&args.insecure_registries),
        registry_mirrors: list(&args.registry_mirrors),
        dns: list(&args.dns),
        dns_opts: list(&args.dns_options),
        dns_search: list(&args.dns_search),
        default_ulimits: (!limits.is_empty()).then_some(limits),
        default_shm_size: args.shm_size.clone().map(Size::Text),
        default_cgroupns_mode: args.cgroupns_mode.clone(),
        cgroup_parent: args.cgroup_parent.clone(),
        init: args.init.then_some(true),
        no_new_privileges: args.no_new_privileges.then_some(true),
        ip: args.publish_address.clone(),
        ..Layer::default()
    })
}
