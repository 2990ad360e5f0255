//! Devices: bridges and veth pairs.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};

use super::socket::Netlink;

/// A device as the kernel lists it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// The kernel's number of the device.
    pub(crate) index: u32,
    /// The device's name.
    pub(crate) name: String,
    /// The device's kind, such as `bridge`; empty for hardware.
    pub(crate) kind: String,
    /// Number of the bridge the device is a port of.
    pub(crate) controller: Option<u32>,
}

/// Where the far end of a veth pair goes.
pub(crate) struct PeerLocation<'a> {
    /// The namespace.
    pub(crate) namespace: BorrowedFd<'a>,
    /// The device's name there.
    pub(crate) name: &'a str,
    /// The device's hardware address.
    pub(crate) mac: [u8; 6],
}

/// A veth pair to be made.
pub(crate) struct VethPair<'a> {
    /// Name of the host's end.
    pub(crate) name: &'a str,
    /// Number of the bridge the host's end becomes a port of.
    pub(crate) bridge_index: u32,
    /// Largest packet in bytes, both ends.
    pub(crate) mtu_bytes: u32,
    /// The other end.
    pub(crate) peer: PeerLocation<'a>,
}

impl Netlink {
    /// Makes a bridge that is up and has a hardware address of its own, so that the address does
    /// not change with its ports.
    pub(crate) fn create_bridge(
        &mut self,
        name: &str,
        mac: [u8; 6],
        mtu_bytes: u32,
    ) -> io::Result<()> {
        let mut message = up_link();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::Mtu(mtu_bytes),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Makes a veth pair in one request: the host's end up and already a port of the bridge, the
    /// other end already inside its namespace. Either all of it exists or nothing.
    pub(crate) fn create_veth(&mut self, pair: &VethPair<'_>) -> io::Result<()> {
        // Setting this end up too is refused: while it is configured it does not know its pair yet.
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(pair.peer.name.to_owned()),
            LinkAttribute::Address(pair.peer.mac.to_vec()),
            LinkAttribute::Mtu(pair.mtu_bytes),
            LinkAttribute::NetNsFd(pair.peer.namespace.as_raw_fd()),
        ];
        let mut message = up_link();
        message.attributes = vec![
            LinkAttribute::IfName(pair.name.to_owned()),
            LinkAttribute::Mtu(pair.mtu_bytes),
            LinkAttribute::Controller(pair.bridge_index),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Sets a device up.
    pub(crate) fn set_up(&mut self, index: u32) -> io::Result<()> {
        let mut message = up_link();
        message.header.index = index;
        self.request(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Makes a device a port of a bridge.
    pub(crate) fn set_controller(&mut self, index: u32, bridge_index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![LinkAttribute::Controller(bridge_index)];
        self.request(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Lets a bridge port send packets back to where they came from.
    ///
    /// A container that reaches its own published port needs it where bridged packets go through
    /// the firewall (`br_netfilter`): there they turn around inside the bridge.
    pub(crate) fn set_hairpin(&mut self, name: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(
                    true,
                )])),
            ]),
        ];
        self.request(RouteNetlinkMessage::NewLink(message), 0)
    }

    /// Removes a device by name; a device that is gone is no failure.
    pub(crate) fn delete_link(&mut self, name: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        match self.request(RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if is_no_device(&error) => Ok(()),
            other => other,
        }
    }

    /// Returns the device with this name, if there is one.
    pub(crate) fn link_by_name(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        match self.get(RouteNetlinkMessage::GetLink(message)) {
            Ok(RouteNetlinkMessage::NewLink(message)) => Ok(Some(link_of(&message))),
            Ok(_) => Ok(None),
            Err(error) if is_no_device(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns all devices of the namespace.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let messages = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(messages
            .iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewLink(message) => Some(link_of(message)),
                _ => None,
            })
            .collect())
    }
}

fn up_link() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: String::new(),
        controller: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
}
