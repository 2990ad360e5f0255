//! What older API versions expect of a create call, and what newer ones refuse (spec engine-api §14).

use crate::respond::Failure;
use crate::version::ApiVersion;
use http::StatusCode;
use std::collections::BTreeMap;
use wharf_engine::model::host_config::{HostConfig, MountRequest};
use wharf_engine::model::request::{CreateContainer, EndpointRequest};

/// Told to clients that still set the MAC address of a whole container.
const MAC_ADDRESS_WARNING: &str = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.";
/// Option of an endpoint that holds kernel parameters of its interface.
const ENDPOINT_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Turns a request of an older version into one of the newest; returns warnings.
///
/// # Errors
/// 400 with docker's texts for what the version does not know; 500 for parameters of one interface.
pub(crate) fn adapt(
    request: &mut CreateContainer,
    version: &ApiVersion,
) -> Result<Vec<String>, Failure> {
    let is_before = |other: &str| version.is_before(other);
    name_default_network(request);
    let host = &mut request.host_config;
    if !matches!(host.network_mode.as_str(), "bridge" | "host" | "none")
        && !host.network_mode.starts_with("container:")
    {
        // Names on networks of users come from the endpoints' links.
        host.links.clear();
    }
    if is_before("1.40") {
        host.mounts
            .iter_mut()
            .filter_map(|m| m.bind.as_mut())
            .for_each(|options| {
                options.non_recursive = false;
            });
        if host.ipc_mode.is_empty() {
            "shareable".clone_into(&mut host.ipc_mode);
        }
    }
    if is_before("1.41") {
        request.platform = None;
    }
    if is_before("1.42") {
        host.mounts.iter_mut().for_each(forget_foreign_options);
        host.console_size = None;
    } else {
        host.mounts.iter().try_for_each(refuse_foreign_options)?;
    }
    if is_before("1.43") {
        host.annotations.clear();
    }
    if is_before("1.44") {
        before_1_44(request)?;
    }
    if is_before("1.48") {
        let endpoints = request.networks.values_mut();
        endpoints.for_each(|endpoint| endpoint.gateway_priority = 0);
    }
    let host = &request.host_config;
    if is_before("1.45") && host.mounts.iter().any(has_subpath) {
        return Err(Failure::bad_request(
            "VolumeOptions.Subpath needs API v1.45 or newer",
        ));
    }
    if is_before("1.48") && host.mounts.iter().any(|mount| mount.kind == "image") {
        return Err(Failure::bad_request(
            "Mount type \"Image\" needs API v1.48 or newer",
        ));
    }
    let mut warnings = Vec::new();
    if !is_before("1.48") {
        warnings.extend(driver_warning(host));
        refuse_interface_sysctls(host)?;
    }
    warnings.extend(mac_address(request, is_before("1.44"))?);
    Ok(warnings)
}

/// Gives the default network its own name: clients may call it `default` without knowing it.
fn name_default_network(request: &mut CreateContainer) {
    let mode = &mut request.host_config.network_mode;
    if matches!(mode.as_str(), "" | "default") {
        "bridge".clone_into(mode);
        if let Some(settings) = request.networks.remove("default") {
            request.networks.insert("bridge".to_owned(), settings);
        }
    }
}

fn before_1_44(request: &mut CreateContainer) -> Result<(), Failure> {
    if let Some(check) = &mut request.config.healthcheck {
        check.start_interval = 0;
    }
    request.read_only_top_only = true;
    let mounts = &request.host_config.mounts;
    let mut options = mounts.iter().filter_map(|mount| mount.bind.as_ref());
    if options.any(|options| options.read_only_force_recursive) {
        return Err(Failure::bad_request(
            "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
        ));
    }
    if request.networks.len() > 1 {
        let names: Vec<&str> = request.networks.keys().map(String::as_str).collect();
        return Err(Failure::bad_request(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    Ok(())
}

fn has_subpath(mount: &MountRequest) -> bool {
    let options = mount.volume.as_ref();
    options.is_some_and(|options| !options.subpath.is_empty())
}

fn forget_foreign_options(mount: &mut MountRequest) {
    if let Some(options) = &mut mount.bind {
        options.create_mountpoint = false;
    }
    mount.volume.take_if(|_| mount.kind != "volume");
    mount.tmpfs.take_if(|_| mount.kind != "tmpfs");
}

fn refuse_foreign_options(mount: &MountRequest) -> Result<(), Failure> {
    let given = [
        ("VolumeOptions", "volume", mount.volume.is_some()),
        ("BindOptions", "bind", mount.bind.is_some()),
        ("TmpfsOptions", "tmpfs", mount.tmpfs.is_some()),
    ];
    let foreign = given
        .iter()
        .find(|(_, kind, given)| *given && mount.kind != *kind);
    match foreign {
        Some((field, ..)) => Err(Failure::bad_request(format!(
            "{field} must not be specified on mount type {:?}",
            mount.kind
        ))),
        None => Ok(()),
    }
}

fn driver_warning(host: &HostConfig) -> Option<String> {
    let is_ambiguous = |mount: &MountRequest| {
        let driver = mount.volume.as_ref().map_or("", |options| &options.driver);
        mount.kind == "volume" && driver.is_empty()
    };
    let warns = !host.volume_driver.is_empty() && host.mounts.iter().any(is_ambiguous);
    warns.then(|| "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead".to_owned())
}

/// Refuses parameters such as `net.ipv4.conf.eth0.forwarding`: which interface is meant is not known.
fn refuse_interface_sysctls(host: &HostConfig) -> Result<(), Failure> {
    if host.network_mode == "host" || host.network_mode.starts_with("container:") {
        return Ok(());
    }
    for (name, value) in &host.sysctls {
        let parts: Vec<&str> = name.splitn(5, '.').collect();
        if let ["net", family, kind, interface, rest] = parts.as_slice()
            && interface.starts_with("eth")
        {
            return Err(Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!(
                    "interface specific sysctl setting \"net.{family}.{kind}.{interface}.{rest}\" must be supplied using driver option '{ENDPOINT_SYSCTLS}' (IFNAME stands for the interface: net.{family}.{kind}.IFNAME.{rest}={value})"
                ),
            ));
        }
    }
    Ok(())
}

/// Moves the MAC address of a whole container to its endpoint.
fn mac_address(request: &mut CreateContainer, is_old: bool) -> Result<Option<String>, Failure> {
    let address = request.config.mac_address.clone();
    if address.is_empty() {
        if is_old {
            let endpoints = request.networks.values_mut();
            endpoints.for_each(|endpoint| endpoint.mac_address.clear());
        }
        return Ok(None);
    }
    let mode = request.host_config.network_mode.as_str();
    let has_interface = !matches!(mode, "host" | "none") && !mode.starts_with("container:");
    if !has_interface && is_old {
        return Err(Failure::bad_request(
            "conflicting options: mac-address and the network mode",
        ));
    }
    if has_interface {
        let endpoint = endpoint_of(&mut request.networks, mode, is_old)?;
        if !endpoint.mac_address.is_empty() && endpoint.mac_address != address && !is_old {
            return Err(Failure::bad_request(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
            ));
        }
        endpoint.mac_address = address;
    }
    if !is_old {
        request.config.mac_address.clear();
        request.mac_address.clear();
    }
    Ok((!is_old).then(|| MAC_ADDRESS_WARNING.to_owned()))
}

/// Returns the endpoint that settings of a whole container are meant for.
fn endpoint_of<'a>(
    networks: &'a mut BTreeMap<String, EndpointRequest>,
    mode: &str,
    is_old: bool,
) -> Result<&'a mut EndpointRequest, Failure> {
    if networks.is_empty() {
        networks.insert(mode.to_owned(), EndpointRequest::default());
    }
    let endpoint = match is_old {
        // Old clients name one network at most.
        true => networks.values_mut().next(),
        false => networks.get_mut(mode),
    };
    // One network may be named in several ways: another endpoint could be the same once more.
    endpoint.ok_or_else(|| {
        Failure::bad_request(
            "unable to migrate container-wide MAC address to a specific network: HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_engine::model::host_config::{ImageOptions, VolumeOptions};

    fn version(text: &str) -> ApiVersion {
        ApiVersion::from_path(text).expect("a version")
    }

    #[test]
    fn old_clients_get_what_they_expect() {
        let mut request = CreateContainer::default();
        request.config.mac_address = "02:42:ac:11:00:99".into();
        assert_eq!(adapt(&mut request, &version("1.30")), Ok(Vec::new()));
        assert_eq!(request.host_config.ipc_mode, "shareable");
        assert!(request.read_only_top_only);
        assert_eq!(request.networks["bridge"].mac_address, "02:42:ac:11:00:99");
        let warnings = adapt(&mut request, &version("1.51")).expect("warnings");
        assert_eq!(warnings, [MAC_ADDRESS_WARNING]);
    }

    #[test]
    fn priorities_came_with_1_48_and_addresses_of_interfaces_with_1_44() {
        let asked = || {
            let mut request = CreateContainer::default();
            let mut endpoint = EndpointRequest {
                gateway_priority: 3,
                ..EndpointRequest::default()
            };
            endpoint.given.aliases = true;
            request.networks.insert("default".to_owned(), endpoint);
            request.host_config.network_mode = "default".to_owned();
            request.config.mac_address = "02:42:ac:11:00:99".into();
            request
        };
        for (text, priority, left) in [
            ("1.43", 0, "02:42:ac:11:00:99"),
            ("1.47", 0, ""),
            ("1.48", 3, ""),
        ] {
            let mut request = asked();
            adapt(&mut request, &version(text)).expect("adapted");
            assert_eq!(request.host_config.network_mode, "bridge");
            let endpoint = &request.networks["bridge"];
            assert_eq!(endpoint.gateway_priority, priority, "{text}");
            assert_eq!(endpoint.mac_address, "02:42:ac:11:00:99");
            assert!(endpoint.given.aliases);
            assert_eq!(request.config.mac_address, left, "{text}");
        }
    }

    #[test]
    fn an_address_needs_an_endpoint_of_its_network() {
        let mut request = CreateContainer::default();
        request.config.mac_address = "02:42:ac:11:00:99".into();
        request.host_config.network_mode = "mine".to_owned();
        request
            .networks
            .insert("other".to_owned(), EndpointRequest::default());
        let failure = adapt(&mut request, &version("1.51")).expect_err("which network?");
        assert!(failure.message().contains("must match the identity"));
        adapt(&mut request, &version("1.43")).expect("the only one");
        assert_eq!(request.networks["other"].mac_address, "02:42:ac:11:00:99");
    }

    #[test]
    fn links_mean_nothing_on_networks_of_users() {
        for (mode, kept) in [("", 1), ("bridge", 1), ("mine", 0)] {
            let mut request = CreateContainer::default();
            request.host_config.network_mode = mode.to_owned();
            request.host_config.links = vec!["a:b".to_owned()];
            adapt(&mut request, &version("1.51")).expect("adapted");
            assert_eq!(request.host_config.links.len(), kept, "{mode}");
        }
    }

    #[test]
    fn what_a_version_does_not_know_is_refused() {
        let mount = |kind: &str| MountRequest {
            kind: kind.into(),
            ..MountRequest::default()
        };
        let refused = |mount: MountRequest, text: &str| {
            let mut request = CreateContainer::default();
            request.host_config.mounts.push(mount);
            let failure = adapt(&mut request, &version(text)).expect_err("refused");
            failure.message().to_owned()
        };
        let image = MountRequest {
            image: Some(ImageOptions::default()),
            ..mount("image")
        };
        assert!(refused(image, "1.47").contains("needs API v1.48"));
        let foreign = MountRequest {
            volume: Some(VolumeOptions::default()),
            ..mount("bind")
        };
        assert_eq!(
            refused(foreign, "1.51"),
            "VolumeOptions must not be specified on mount type \"bind\""
        );
    }
}
