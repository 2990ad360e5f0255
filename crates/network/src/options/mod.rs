//! The drivers' options by docker's names (spec runtime §8.1). Unknown ones belong to others.

mod bridge;
mod sub_interface;

use std::collections::BTreeMap;

pub(crate) use bridge::{BridgeOptions, GatewayMode};
pub(crate) use sub_interface::{SubInterfaceOptions, SubMode};

use crate::error::NetworkError;

const MTU: &str = "com.docker.network.driver.mtu";
const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
/// Smallest and largest packet size the kernel takes for a bridge (`ETH_MIN_MTU`, `ETH_MAX_MTU`).
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65_535;

/// Docker's words for a text that is no address.
const NO_ADDRESS: &str = "nil ip";

/// Name of a container's interfaces, before the number.
pub const DEFAULT_INTERFACE_PREFIX: &str = "eth";

/// Parses a Go boolean.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn mtu(options: &BTreeMap<String, String>) -> Result<Option<u32>, NetworkError> {
    let Some(text) = options.get(MTU).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.parse::<i64>().map(|mtu| (mtu, u32::try_from(mtu))) {
        Ok((0, _)) => Ok(None),
        Ok((_, Ok(mtu))) if MTU_RANGE.contains(&mtu) => Ok(Some(mtu)),
        Ok((mtu, _)) => Err(NetworkError::InvalidNetwork {
            reason: format!("invalid MTU number: {mtu}"),
        }),
        Err(_) => Err(invalid(
            MTU,
            text,
            format!("strconv.Atoi: parsing {text:?}: invalid syntax"),
        )),
    }
}

fn interface_prefix(options: &BTreeMap<String, String>) -> Result<String, NetworkError> {
    let prefix = options
        .get(INTERFACE_PREFIX)
        .filter(|prefix| !prefix.is_empty())
        .map_or(DEFAULT_INTERFACE_PREFIX, String::as_str);
    // A number of up to three digits follows.
    if prefix.len() > 12 || !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(invalid(
            INTERFACE_PREFIX,
            prefix,
            "expected 1 to 12 letters and digits",
        ));
    }
    Ok(prefix.to_owned())
}

fn invalid(key: &str, value: &str, reason: impl Into<String>) -> NetworkError {
    NetworkError::InvalidOption {
        key: key.to_owned(),
        value: value.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    pub(super) fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }
}
