//! Devices: bridges and veth pairs.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BridgePortState, InfoBridgePort, InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoPortData,
    InfoPortKind, InfoVeth, InfoVlan, IpVlanFlags, IpVlanMode, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, MacVlanMode,
};

use super::socket::Netlink;
use crate::options::SubMode;

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
    /// What its maker noted on it, such as which daemon made it.
    pub(crate) alias: String,
    /// Largest packet in bytes.
    pub(crate) mtu_bytes: u32,
}

/// Where the far end of a veth pair goes.
pub(crate) struct PeerLocation<'a> {
    /// The namespace.
    pub(crate) namespace: BorrowedFd<'a>,
    /// The device's name there.
    pub(crate) name: &'a str,
    /// The device's hardware address; `None` leaves the choice to the kernel.
    pub(crate) mac: Option<[u8; 6]>,
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

/// A macvlan or ipvlan device to be made.
pub(crate) struct SubInterface<'a> {
    /// Number of the device it lies on.
    pub(crate) parent_index: u32,
    /// How it lies there.
    pub(crate) mode: SubMode,
    /// Largest packet in bytes.
    pub(crate) mtu_bytes: u32,
    /// Where it goes.
    pub(crate) place: PeerLocation<'a>,
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
        peer.attributes = attributes_inside(&pair.peer, pair.mtu_bytes);
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

    /// Makes a macvlan or ipvlan device inside a namespace.
    pub(crate) fn create_sub_interface(&mut self, device: &SubInterface<'_>) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = attributes_inside(&device.place, device.mtu_bytes);
        message
            .attributes
            .push(LinkAttribute::Link(device.parent_index));
        message
            .attributes
            .push(LinkAttribute::LinkInfo(match device.mode {
                SubMode::Macvlan(mode) => vec![
                    LinkInfo::Kind(InfoKind::MacVlan),
                    LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(
                        MacVlanMode::from(mode),
                    )])),
                ],
                SubMode::Ipvlan(mode, flags) => vec![
                    LinkInfo::Kind(InfoKind::IpVlan),
                    LinkInfo::Data(InfoData::IpVlan(vec![
                        InfoIpVlan::Mode(IpVlanMode::from(mode)),
                        InfoIpVlan::Flags(IpVlanFlags::from_bits_retain(flags)),
                    ])),
                ],
            }));
        self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Makes a VLAN device on another one and sets it up.
    pub(crate) fn create_vlan(
        &mut self,
        name: &str,
        parent_index: u32,
        vlan: u16,
    ) -> io::Result<()> {
        let mut message = up_link();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(parent_index),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(vlan)])),
            ]),
        ];
        self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Makes a device that leads nowhere and sets it up.
    pub(crate) fn create_dummy(&mut self, name: &str) -> io::Result<()> {
        let mut message = up_link();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]),
        ];
        self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Notes on a device who made it.
    pub(crate) fn set_alias(&mut self, index: u32, alias: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![LinkAttribute::IfAlias(alias.to_owned())];
        self.request(RouteNetlinkMessage::SetLink(message), 0)
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

    /// Sets a bridge port up: `hairpin` lets it send packets back to where they came from,
    /// `isolated` keeps it from all other isolated ports.
    ///
    /// A container that reaches its own published port needs the first where bridged packets go
    /// through the firewall (`br_netfilter`): there they turn around inside the bridge.
    pub(crate) fn set_port(&mut self, name: &str, hairpin: bool, isolated: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![
                    InfoBridgePort::HairpinMode(hairpin),
                    InfoBridgePort::Isolated(isolated),
                ])),
            ]),
        ];
        self.request(RouteNetlinkMessage::NewLink(message), 0)
    }

    /// Takes a bridge port out of service: nothing passes it any more in either direction, and the bridge forgets which
    /// hardware addresses were behind it. Cheap, unlike removing the device.
    pub(crate) fn silence_port(&mut self, name: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![
                    InfoBridgePort::State(BridgePortState::Disabled),
                    InfoBridgePort::Flush,
                ])),
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

fn attributes_inside(place: &PeerLocation<'_>, mtu_bytes: u32) -> Vec<LinkAttribute> {
    let mut attributes = vec![
        LinkAttribute::IfName(place.name.to_owned()),
        LinkAttribute::Mtu(mtu_bytes),
        LinkAttribute::NetNsFd(place.namespace.as_raw_fd()),
    ];
    if let Some(mac) = place.mac {
        attributes.push(LinkAttribute::Address(mac.to_vec()));
    }
    attributes
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
        alias: String::new(),
        mtu_bytes: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
            LinkAttribute::Mtu(mtu_bytes) => link.mtu_bytes = *mtu_bytes,
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
