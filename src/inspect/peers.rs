//! Which namespaces the numbers stand for that a network namespace has for others, see ip-netns(8).

use std::os::fd::{AsRawFd, OwnedFd};

use super::{NamespaceId, all_pids, open_entry};
use crate::netlink::{Attributes, Socket};

/// A namespace that another one has a number for.
pub struct Peer {
    /// The number.
    pub netnsid: i32,
    /// The namespace.
    pub namespace: NamespaceId,
    /// A process that is in it.
    pub pid: i32,
}

/// Finds the namespaces behind these numbers among those of the visible processes: the kernel does not tell what a
/// number stands for, but which number a namespace has.
pub fn peers(socket: &mut Socket, wanted: &[i32]) -> Vec<Peer> {
    let (mut found, mut seen): (Vec<Peer>, Vec<NamespaceId>) = (Vec::new(), Vec::new());
    for pid in all_pids() {
        if wanted.iter().all(|number| found.iter().any(|peer| peer.netnsid == *number)) {
            break;
        }
        let Ok(file) = open_entry(&pid.to_string(), "net") else { continue };
        let Ok(namespace) = NamespaceId::of_file(file.as_raw_fd()) else { continue };
        if seen.contains(&namespace) {
            continue;
        }
        seen.push(namespace);
        match number_of(socket, &file) {
            Some(netnsid) if wanted.contains(&netnsid) => found.push(Peer { netnsid, namespace, pid }),
            _ => {}
        }
    }
    found.sort_by_key(|peer| peer.netnsid);
    found
}

const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// `struct rtgenmsg` (padded) and one attribute.
fn number_of(socket: &mut Socket, namespace: &OwnedFd) -> Option<i32> {
    let mut request = vec![0; 4];
    request.extend(8u16.to_ne_bytes());
    request.extend(NETNSA_FD.to_ne_bytes());
    request.extend(namespace.as_raw_fd().to_ne_bytes());
    let answer = socket.one(RTM_GETNSID, &request).ok()?;
    let number = Attributes::behind(&answer, 4).number(NETNSA_NSID)?;
    Some(number.cast_signed()).filter(|number| *number >= 0)
}
