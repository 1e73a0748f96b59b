//! The links, addresses and routes of a network namespace, see rtnetlink(7).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

use nix::errno::Errno;

use super::words;
use crate::netlink::{Attributes, Message, Socket, long, number, short};
use crate::visit::{Action, visit};

/// What is in one network namespace.
pub struct Network {
    /// Its devices, by index.
    pub links: Vec<Link>,
    /// The routes of all tables.
    pub routes: Vec<Route>,
    /// Asks it more.
    pub socket: Socket,
}

/// A network device.
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: Vec<u8>,
    /// What made it: `veth`, `bridge`, …
    pub kind: Option<String>,
    /// `ether`, `loopback`, …
    pub kind_of_address: String,
    /// `UP`, `LOWER_UP`, …
    pub flags: Vec<String>,
    /// `UP`, `DOWN`, …
    pub operstate: String,
    /// The largest packet.
    pub mtu: u32,
    /// The hardware address.
    pub mac: Option<String>,
    /// The index of the other end, or of the device below.
    pub peer: Option<u32>,
    /// The number of the namespace that the other end is in, where that is not this one.
    pub peer_netnsid: Option<i32>,
    /// The index of the bridge or bond it belongs to.
    pub master: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

/// An address of a link.
pub struct Address {
    /// `inet` or `inet6`.
    pub family: &'static str,
    /// The address.
    pub local: String,
    /// The length of its prefix.
    pub prefixlen: u8,
    /// `global`, `link`, …
    pub scope: String,
}

/// A route.
pub struct Route {
    /// `inet` or `inet6`.
    pub family: &'static str,
    /// `unicast`, `local`, …
    pub kind: String,
    /// Whereto: `default`, an address, or one with the length of its prefix.
    pub destination: String,
    /// The ways; several for a multipath route, none for one that leads nowhere.
    pub hops: Vec<Hop>,
    /// The address that packets get as their source.
    pub source: Option<String>,
    /// The less, the better.
    pub metric: Option<u32>,
    /// The number of its table.
    pub table: u32,
    /// Who made it.
    pub protocol: String,
    /// How far it reaches.
    pub scope: String,
}

/// One way of a route.
pub struct Hop {
    /// The next host.
    pub gateway: Option<String>,
    /// The name of the link.
    pub device: Option<Vec<u8>>,
    /// Its share among several.
    pub weight: u16,
}

const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_STATS: u16 = 7;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_STATS64: u16 = 23;
const IFLA_LINK_NETNSID: u16 = 37;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTM_F_CLONED: u32 = 0x200;

/// Reads what is in it, through a child that enters it.
///
/// # Errors
///
/// What [`visit`] and the kernel's answers say.
pub fn network(namespace: RawFd) -> Result<Network, Errno> {
    let mut answers = visit(namespace, &[Action::RouteSocket])?.answers;
    let fd = answers.pop().unwrap_or(Err(Errno::ECANCELED))?.fd()?;
    let mut socket = Socket::new(fd);
    // Of all families at once: a kernel without IPv6 would take a question about it for one about all.
    let links = socket.list(RTM_GETLINK, &[0; 16])?;
    let addresses = socket.list(RTM_GETADDR, &[0; 8])?;
    let routes = socket.list(RTM_GETROUTE, &[0; 12])?;
    let mut links: Vec<Link> = links.iter().filter_map(link).collect();
    mark_what_is_down_below(&mut links);
    for (index, address) in addresses.iter().filter_map(address) {
        if let Some(link) = links.iter_mut().find(|link| link.index == index) {
            link.addresses.push(address);
        }
    }
    let names = links.iter().map(|link| (link.index, link.name.as_slice())).collect();
    let routes = routes.iter().filter_map(|message| route(message, &names)).collect();
    Ok(Network { links, routes, socket })
}

/// `struct ifinfomsg`: family, padding, type (2), index (4), flags (4), change (4).
pub(crate) fn link(message: &Message) -> Option<Link> {
    let (hardware, index, bits) = (short(message, 2)?, number(message, 4)?, number(message, 8)?);
    let attributes = Attributes::behind(message, 16);
    let mac = attributes.get(IFLA_ADDRESS).filter(|bytes| !bytes.is_empty());
    let info = attributes.nested(IFLA_LINKINFO);
    let stats = attributes.get(IFLA_STATS64);
    let counted = |place: usize| match stats {
        Some(stats) => long(stats, 8 * place),
        None => number(attributes.get(IFLA_STATS)?, 4 * place).map(u64::from),
    };
    Some(Link {
        index,
        name: attributes.string(IFLA_IFNAME)?.to_vec(),
        kind: info.string(IFLA_INFO_KIND).map(text),
        kind_of_address: words::link_type(hardware),
        flags: words::link_flags(bits),
        operstate: words::operstate(*attributes.get(IFLA_OPERSTATE)?.first()?),
        mtu: attributes.number(IFLA_MTU)?,
        mac: mac.map(|bytes| hardware_address(hardware, bytes)),
        // 0 is what a tunnel says that is bound to no device.
        peer: attributes.number(IFLA_LINK).filter(|index| *index != 0),
        peer_netnsid: attributes.number(IFLA_LINK_NETNSID).map(u32::cast_signed),
        master: attributes.number(IFLA_MASTER),
        addresses: Vec::new(),
        received: counted(2).unwrap_or(0),
        sent: counted(3).unwrap_or(0),
    })
}

/// ip(8)'s own flag: the device on the other end or below, in the same namespace, is switched off.
fn mark_what_is_down_below(links: &mut [Link]) {
    let is_up = |link: &Link| link.flags.iter().any(|flag| flag == "UP");
    let up: HashMap<u32, bool> = links.iter().map(|link| (link.index, is_up(link))).collect();
    for link in links {
        let below = link.peer.filter(|_| link.peer_netnsid.is_none());
        if below.is_some_and(|index| up.get(&index) == Some(&false)) {
            link.flags.push("M-DOWN".to_owned());
        }
    }
}

fn hardware_address(hardware: u16, bytes: &[u8]) -> String {
    // The ends of a tunnel are addresses of the protocol it is in.
    if let (768 | 776 | 778, Ok(ip)) = (hardware, <[u8; 4]>::try_from(bytes)) {
        return Ipv4Addr::from(ip).to_string();
    }
    if let (769 | 823, Ok(ip)) = (hardware, <[u8; 16]>::try_from(bytes)) {
        return Ipv6Addr::from(ip).to_string();
    }
    bytes.iter().enumerate().fold(String::new(), |mut text, (place, byte)| {
        let _ = write!(text, "{}{byte:02x}", if place == 0 { "" } else { ":" });
        text
    })
}

/// `struct ifaddrmsg`: family, length of the prefix, flags, scope, index (4).
pub(crate) fn address(message: &Message) -> Option<(u32, Address)> {
    let [family, prefixlen, _, scope, ..] = *message.as_slice() else { return None };
    let attributes = Attributes::behind(message, 8);
    let local = attributes.get(IFA_LOCAL).or_else(|| attributes.get(IFA_ADDRESS))?;
    let (family, local) = (family_name(family)?, ip(local)?);
    Some((number(message, 4)?, Address { family, local, prefixlen, scope: words::scope(scope) }))
}

/// `struct rtmsg`: family, lengths of both prefixes, tos, table, protocol, scope, type, flags (4).
pub(crate) fn route(message: &Message, names: &HashMap<u32, &[u8]>) -> Option<Route> {
    let [family, length, _, _, table, protocol, scope, kind, ..] = *message.as_slice() else { return None };
    if number(message, 8)? & RTM_F_CLONED != 0 {
        // Not a route, but what the kernel has learnt about one destination of it.
        return None;
    }
    let attributes = Attributes::behind(message, 12);
    let hops = match attributes.get(RTA_MULTIPATH) {
        Some(hops) => several(hops, names),
        None => vec![hop(attributes, attributes.number(RTA_OIF), 1, names)],
    };
    Some(Route {
        family: family_name(family)?,
        kind: words::route_type(kind),
        destination: destination(attributes.get(RTA_DST), length),
        hops,
        source: attributes.get(RTA_PREFSRC).and_then(ip),
        metric: attributes.number(RTA_PRIORITY),
        table: attributes.number(RTA_TABLE).unwrap_or(table.into()),
        protocol: words::protocol(protocol),
        scope: words::scope(scope),
    })
}

fn hop(attributes: Attributes<'_>, link: Option<u32>, weight: u16, names: &HashMap<u32, &[u8]>) -> Hop {
    // Of another family than the route: the family (2) and the address.
    let via = || attributes.get(RTA_VIA)?.get(2..);
    let gateway = attributes.get(RTA_GATEWAY).or_else(via).and_then(ip);
    let device = link.map(|index| match names.get(&index) {
        Some(name) => name.to_vec(),
        None => format!("if{index}").into_bytes(),
    });
    Hop { gateway, device, weight }
}

/// `struct rtnexthop`: length (2), flags, weight - 1, index (4), attributes.
fn several(mut rest: &[u8], names: &HashMap<u32, &[u8]>) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let (Some(length), Some(weight), Some(index)) = (short(rest, 0), rest.get(3), number(rest, 4)) {
        let length = usize::from(length).max(8);
        let own = rest.get(..length).unwrap_or(rest);
        hops.push(hop(Attributes::behind(own, 8), Some(index), u16::from(*weight) + 1, names));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

fn destination(address: Option<&[u8]>, length: u8) -> String {
    match address.and_then(|bytes| Some((ip(bytes)?, 8 * bytes.len()))) {
        Some((address, whole)) if usize::from(length) == whole => address,
        Some((address, _)) => format!("{address}/{length}"),
        None if length == 0 => "default".to_owned(),
        None => format!("0/{length}"),
    }
}

fn ip(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| Ipv6Addr::from(sixteen).to_string())
}

/// Others (multicast routing, MPLS) are not what ip(8) lists by default.
fn family_name(number: u8) -> Option<&'static str> {
    match i32::from(number) {
        libc::AF_INET => Some("inet"),
        libc::AF_INET6 => Some("inet6"),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
