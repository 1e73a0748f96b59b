//! The words that ip(8) prints for the numbers of rtnetlink(7).

/// `struct ifinfomsg`'s type, the `ARPHRD_*` numbers.
#[must_use]
pub fn link_type(number: u16) -> String {
    named(&LINK_TYPES, number).map_or_else(|| format!("[{number}]"), str::to_owned)
}

/// The `IFF_*` bits, in the order of ip(8); first of all, that a device is switched on but has no carrier.
#[must_use]
pub fn link_flags(bits: u32) -> Vec<String> {
    let no_carrier = bits & IFF_UP != 0 && bits & IFF_RUNNING == 0;
    let mut words: Vec<String> = no_carrier.then(|| "NO-CARRIER".to_owned()).into_iter().collect();
    let mut rest = bits & !IFF_RUNNING;
    for (bit, word) in LINK_FLAGS {
        if rest & bit != 0 {
            words.push(word.to_owned());
            rest &= !bit;
        }
    }
    if rest != 0 {
        words.push(format!("{rest:x}"));
    }
    words
}

/// `IFLA_OPERSTATE`, see RFC 2863.
#[must_use]
pub fn operstate(number: u8) -> String {
    let word = OPERSTATES.get(usize::from(number));
    word.map_or_else(|| format!("{number:#x}"), |word| (*word).to_owned())
}

/// How far an address or a route reaches.
#[must_use]
pub fn scope(number: u8) -> String {
    named(&SCOPES, number.into()).map_or_else(|| number.to_string(), str::to_owned)
}

/// Who made a route.
#[must_use]
pub fn protocol(number: u8) -> String {
    named(&PROTOCOLS, number.into()).map_or_else(|| number.to_string(), str::to_owned)
}

/// What a route does with packets.
#[must_use]
pub fn route_type(number: u8) -> String {
    ROUTE_TYPES.get(usize::from(number)).map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

fn named(table: &[(u16, &'static str)], number: u16) -> Option<&'static str> {
    table.iter().find_map(|(known, word)| (*known == number).then_some(*word))
}

/// Switched on, see netdevice(7).
pub const IFF_UP: u32 = 1;
const IFF_RUNNING: u32 = 0x40;

const OPERSTATES: [&str; 7] = ["UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP"];

const SCOPES: [(u16, &str); 5] = [(0, "global"), (200, "site"), (253, "link"), (254, "host"), (255, "nowhere")];

const ROUTE_TYPES: [&str; 12] = [
    "none",
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "nat",
    "xresolve",
];

#[rustfmt::skip]
const LINK_FLAGS: [(u32, &str); 18] = [
    (0x8, "LOOPBACK"), (0x2, "BROADCAST"), (0x10, "POINTOPOINT"), (0x1000, "MULTICAST"), (0x80, "NOARP"),
    (0x200, "ALLMULTI"), (0x100, "PROMISC"), (0x400, "MASTER"), (0x800, "SLAVE"), (0x4, "DEBUG"), (0x8000, "DYNAMIC"),
    (0x4000, "AUTOMEDIA"), (0x2000, "PORTSEL"), (0x20, "NOTRAILERS"), (IFF_UP, "UP"), (0x1_0000, "LOWER_UP"),
    (0x2_0000, "DORMANT"), (0x4_0000, "ECHO"),
];

#[rustfmt::skip]
const PROTOCOLS: [(u16, &str); 22] = [
    (0, "unspec"), (1, "redirect"), (2, "kernel"), (3, "boot"), (4, "static"), (8, "gated"), (9, "ra"), (10, "mrt"),
    (11, "zebra"), (12, "bird"), (13, "dnrouted"), (14, "xorp"), (15, "ntk"), (16, "dhcp"), (18, "keepalived"),
    (42, "babel"), (99, "openr"), (186, "bgp"), (187, "isis"), (188, "ospf"), (189, "rip"), (192, "eigrp"),
];

#[rustfmt::skip]
const LINK_TYPES: [(u16, &str); 75] = [
    (0, "generic"), (1, "ether"), (2, "eether"), (3, "ax25"), (4, "pronet"), (5, "chaos"), (6, "ieee802"),
    (7, "arcnet"), (8, "atalk"), (15, "dlci"), (19, "atm"), (23, "metricom"), (24, "ieee1394"), (32, "infiniband"),
    (256, "slip"), (257, "cslip"), (258, "slip6"), (259, "cslip6"), (260, "rsrvd"), (264, "adapt"), (270, "rose"),
    (271, "x25"), (272, "hwx25"), (280, "can"), (512, "ppp"), (513, "hdlc"), (516, "lapb"), (517, "ddcmp"),
    (518, "rawhdlc"), (768, "ipip"), (769, "tunnel6"), (770, "frad"), (771, "skip"), (772, "loopback"), (773, "ltalk"),
    (774, "fddi"), (775, "bif"), (776, "sit"), (777, "ip/ddp"), (778, "gre"), (779, "pimreg"), (780, "hippi"),
    (781, "ash"), (782, "econet"), (783, "irda"), (784, "fcpp"), (785, "fcal"), (786, "fcpl"), (787, "fcfb0"),
    (788, "fcfb1"), (789, "fcfb2"), (790, "fcfb3"), (791, "fcfb4"), (792, "fcfb5"), (793, "fcfb6"), (794, "fcfb7"),
    (795, "fcfb8"), (796, "fcfb9"), (797, "fcfb10"), (798, "fcfb11"), (799, "fcfb12"), (800, "tr"),
    (801, "ieee802.11"), (802, "ieee802.11/prism"), (803, "ieee802.11/radiotap"), (804, "ieee802.15.4"),
    (805, "ieee802.15.4/monitor"), (820, "phonet"), (821, "phonet_pipe"), (822, "caif"), (823, "gre6"),
    (824, "netlink"), (825, "6lowpan"), (0xfffe, "none"), (0xffff, "void"),
];
