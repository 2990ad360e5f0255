//! Making a container's interface: a veth pair on a bridge, or a device on another one.

use std::io;
use std::os::fd::BorrowedFd;

use super::random_hexadecimal;
use crate::bridge::VETH_PREFIX;
use crate::endpoint::{Endpoint, EndpointRequest};
use crate::error::NetworkError;
use crate::netlink::{Netlink, PeerLocation, SubInterface, VethPair};
use crate::networks::state::Kind;
use crate::networks::{Inner, open_netlink};
use crate::options::SubMode;

/// Tries to find a host interface name that is not taken; one in 268 million is.
const MAX_NAME_TRIES: usize = 4;

/// What the kernel has to know of the network an endpoint joins.
enum Join {
    Bridge {
        index: u32,
        mtu_bytes: u32,
        isolated: bool,
        is_foreign: bool,
    },
    Sub {
        index: u32,
        mtu_bytes: u32,
        mode: SubMode,
    },
}

impl Inner {
    /// Makes the interface and sets the container's end up.
    pub(super) fn connect(
        &self,
        namespace: BorrowedFd<'_>,
        endpoint: &mut Endpoint,
        mac: Option<[u8; 6]>,
        request: &EndpointRequest,
    ) -> Result<(), NetworkError> {
        let join = self.join_of(&endpoint.network_id)?;
        let mut netlink = open_netlink()?;
        match join {
            Join::Bridge {
                index,
                mtu_bytes,
                isolated,
                is_foreign,
            } => {
                endpoint.host_interface = host_interface_name()?;
                self.create_veth(&mut netlink, namespace, endpoint, (index, mtu_bytes, mac))?;
                if is_foreign {
                    self.mark(&mut netlink, &endpoint.host_interface)?;
                }
                if isolated {
                    let name = &endpoint.host_interface;
                    netlink
                        .set_port(name, false, true)
                        .map_err(NetworkError::netlink(format!("isolate {name}")))?;
                }
                if let Some(mac) = mac {
                    self.announce(&mut netlink, index, endpoint, mac);
                }
            }
            Join::Sub {
                index,
                mtu_bytes,
                mode,
            } => {
                netlink
                    .create_sub_interface(&SubInterface {
                        parent_index: index,
                        mode,
                        mtu_bytes,
                        place: PeerLocation {
                            namespace,
                            name: &endpoint.interface,
                            mac,
                        },
                    })
                    .map_err(NetworkError::netlink(format!(
                        "create {} in the container",
                        endpoint.interface
                    )))?;
            }
        }
        self.configure(namespace, endpoint, request)
    }

    /// Notes on a host end whose it is: others have ports on the same bridge.
    fn mark(&self, netlink: &mut Netlink, name: &str) -> Result<(), NetworkError> {
        netlink
            .link_by_name(name)
            .and_then(|link| link.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
            .and_then(|link| netlink.set_alias(link.index, &self.alias()))
            .map_err(NetworkError::netlink(format!("mark device {name}")))
    }

    fn join_of(&self, network_id: &str) -> Result<Join, NetworkError> {
        let state = self.lock();
        let network =
            state
                .networks
                .get(network_id)
                .ok_or_else(|| NetworkError::UnknownNetwork {
                    id: network_id.to_owned(),
                })?;
        Ok(match &network.kind {
            Kind::Bridge {
                index,
                options,
                own,
                ..
            } => Join::Bridge {
                index: *index,
                mtu_bytes: options.mtu_bytes,
                isolated: !options.icc,
                is_foreign: !own,
            },
            Kind::Sub {
                index,
                mtu_bytes,
                options,
                ..
            } => Join::Sub {
                index: *index,
                mtu_bytes: *mtu_bytes,
                mode: options.mode,
            },
        })
    }

    fn create_veth(
        &self,
        netlink: &mut Netlink,
        namespace: BorrowedFd<'_>,
        endpoint: &mut Endpoint,
        (bridge_index, mtu_bytes, mac): (u32, u32, Option<[u8; 6]>),
    ) -> Result<(), NetworkError> {
        let mut last_error = io::Error::from(io::ErrorKind::AlreadyExists);
        let mut waiting_removed = false;
        for _ in 0..MAX_NAME_TRIES {
            let pair = VethPair {
                name: &endpoint.host_interface,
                bridge_index,
                mtu_bytes,
                peer: PeerLocation {
                    namespace,
                    name: &endpoint.interface,
                    mac,
                },
            };
            let Err(error) = netlink.create_veth(&pair) else {
                return Ok(());
            };
            last_error = error;
            // The same errno comes for a taken name out here and for the interface in there.
            let name_taken = last_error.kind() == io::ErrorKind::AlreadyExists
                && matches!(netlink.link_by_name(&endpoint.host_interface), Ok(Some(_)));
            if name_taken {
                endpoint.host_interface = host_interface_name()?;
            } else if !waiting_removed && last_error.kind() == io::ErrorKind::AlreadyExists {
                // The namespace may have been detached a moment ago.
                self.reaper.flush();
                waiting_removed = true;
            } else {
                break;
            }
        }
        let action = format!(
            "create veth pair {} with {} in the container",
            endpoint.host_interface, endpoint.interface
        );
        Err(NetworkError::Netlink {
            action,
            source: last_error,
        })
    }
}

fn host_interface_name() -> Result<String, NetworkError> {
    Ok(format!("{VETH_PREFIX}{}", random_hexadecimal(7)?))
}
