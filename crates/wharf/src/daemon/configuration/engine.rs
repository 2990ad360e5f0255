//! The settings of the engine and of its networks.

use crate::daemon::defaults;
use crate::daemon::file::{Addresses, Layer, Size};
use tracing::level_filters::LevelFilter;
use wharf_engine::model::host_config::{LogConfig, Ulimit};
use wharf_engine::model::network::Prefix;
use wharf_engine::{DefaultBridge, ExternalRuntime, NetworkSettings, Settings};

/// Returns the settings of the engine.
///
/// # Errors
/// One line that names the setting and what is wrong with it.
pub(super) fn engine_settings(layer: &Layer, log_level: LevelFilter) -> Result<Settings, String> {
    let list = |values: &Option<Vec<String>>| values.clone().unwrap_or_default();
    let shm_size_bytes = match &layer.default_shm_size {
        None => None,
        Some(Size::Bytes(bytes)) => Some(*bytes),
        Some(Size::Text(text)) => {
            let bytes = wharf_cli::ram_in_bytes(text)
                .map_err(|error| format!("default-shm-size: {error}"))?;
            Some(bytes)
        }
    };
    let limits = layer.default_ulimits.iter().flatten();
    let ulimits = limits.map(|(key, limit)| Ulimit {
        name: if limit.name.is_empty() {
            key
        } else {
            &limit.name
        }
        .clone(),
        hard: limit.hard,
        soft: limit.soft,
    });
    let publish_address = layer.ip.clone().unwrap_or_default();
    if !publish_address.is_empty() && publish_address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("ip: {publish_address:?} is not an address"));
    }
    let runtimes = layer.runtimes.iter().flatten();
    let runtimes = runtimes.map(|(name, table)| {
        let runtime = ExternalRuntime {
            program: table.path.clone(),
            arguments: table.arguments.clone(),
        };
        (name.clone(), runtime)
    });
    Ok(Settings {
        runtimes: runtimes.collect(),
        default_runtime: layer.default_runtime.clone().unwrap_or_default(),
        ipc_mode: layer.default_ipc_mode.clone().unwrap_or_default(),
        network: network_settings(layer)?,
        labels: list(&layer.labels),
        debug: log_level >= LevelFilter::DEBUG,
        log: LogConfig {
            driver: layer.log_driver.clone().unwrap_or_default(),
            options: layer.log_opts.clone().unwrap_or_default(),
        },
        insecure_registries: list(&layer.insecure_registries),
        registry_mirrors: list(&layer.registry_mirrors),
        dns: list(&layer.dns),
        dns_options: list(&layer.dns_opts),
        dns_search: list(&layer.dns_search),
        ulimits: ulimits.collect(),
        shm_size_bytes,
        init: layer.init.unwrap_or(false),
        init_program: layer.init_path.clone().unwrap_or_default(),
        cgroupns_mode: layer.default_cgroupns_mode.clone().unwrap_or_default(),
        cgroup_parent: layer.cgroup_parent.clone().unwrap_or_default(),
        no_new_privileges: layer.no_new_privileges.unwrap_or(false),
        publish_address,
        proxies: defaults::proxies(layer),
        seccomp: defaults::seccomp(layer)?,
        layers_down: defaults::count("max-concurrent-downloads", layer.max_concurrent_downloads)?,
        layers_up: defaults::count("max-concurrent-uploads", layer.max_concurrent_uploads)?,
        download_attempts: defaults::attempts(layer)?,
    })
}

/// Returns the settings of the networks.
fn network_settings(layer: &Layer) -> Result<NetworkSettings, String> {
    let prefix = |name: &str, text: &str| {
        Prefix::parse(text).ok_or_else(|| {
            format!("{name}: {text:?} is not an address with a prefix length such as 10.9.0.1/16")
        })
    };
    let optional = |name: &str, text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.map(|text| prefix(name, text)).transpose()
    };
    let gateway = |name: &str, text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        let not_one = |text: &str| format!("{name}: {text:?} is not an address");
        text.map(|text| text.parse().map_err(|_| not_one(text)))
            .transpose()
    };
    let pools = layer.default_address_pools.iter().flatten();
    let pools = pools.map(|pool| Ok((prefix("default-address-pools", &pool.base)?, pool.size)));
    let gateways = match &layer.host_gateway_ips {
        None => Vec::new(),
        Some(Addresses::One(address)) => vec![address.clone()],
        Some(Addresses::Several(addresses)) => addresses.clone(),
    };
    let gateways = gateways.iter().filter(|text| !text.is_empty());
    let gateways = gateways.map(|text| {
        let not_one = |_| format!("host-gateway-ips: {text:?} is not an address");
        text.parse::<std::net::IpAddr>().map_err(not_one)
    });
    Ok(NetworkSettings {
        address_pools: pools.collect::<Result<_, String>>()?,
        bridge: DefaultBridge::from_name(layer.bridge.as_deref().unwrap_or_default()),
        bip: optional("bip", &layer.bip)?,
        bip6: optional("bip6", &layer.bip6)?,
        fixed_cidr: optional("fixed-cidr", &layer.fixed_cidr)?,
        fixed_cidr_v6: optional("fixed-cidr-v6", &layer.fixed_cidr_v6)?,
        gateway: gateway("default-gateway", &layer.default_gateway)?,
        gateway_v6: gateway("default-gateway-v6", &layer.default_gateway_v6)?,
        ipv6: layer.ipv6.unwrap_or(false),
        mtu: layer.mtu.filter(|mtu| *mtu > 0),
        icc: layer.icc,
        masquerade: layer.ip_masq,
        default_options: layer.default_network_opts.clone().unwrap_or_default(),
        host_gateways: gateways.collect::<Result<_, String>>()?,
    })
}
