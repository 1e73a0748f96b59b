//! Which namespaces the numbers stand for that a network namespace has for others, see ip-netns(8).
//!
//! The kernel does not tell what a number stands for, but which number a namespace has.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

use super::netnsid::NetnsIds;
use super::procfs::c_path;
use super::{NamespaceId, all_pids, open_entry, open_path, scan};
use crate::namespace::NamespaceSet;
use crate::netlink::Socket;

/// A namespace that another one has a number for.
pub struct Peer {
    /// The number.
    pub netnsid: i32,
    /// The namespace.
    pub namespace: NamespaceId,
    /// A process that is in it, unless something else holds it.
    pub pid: Option<i32>,
}

/// Finds the namespaces behind these numbers: among those that visible processes are in, and if that does not do, among
/// those that descriptors and mounts hold.
#[must_use]
pub fn peers(socket: Socket, wanted: &[i32]) -> Vec<Peer> {
    let mut search = Search { numbers: NetnsIds(socket), wanted, seen: Vec::new(), found: Vec::new() };
    for pid in all_pids() {
        if search.is_over() {
            break;
        }
        if let Ok(file) = open_entry(&pid.to_string(), "net") {
            search.look_at(&file, Some(pid));
        }
    }
    if !search.is_over() {
        let held = scan::scan::<Errno>(NamespaceSet::NET, |_, _| Ok(())).map(|scan| scan.namespaces);
        for path in held.unwrap_or_default().into_iter().filter_map(|held| held.path) {
            if let Ok(file) = c_path(path).and_then(|path| open_path(&path)) {
                search.look_at(&file, None);
            }
        }
    }
    search.found.sort_by_key(|peer| peer.netnsid);
    search.found
}

struct Search<'a> {
    numbers: NetnsIds,
    wanted: &'a [i32],
    seen: Vec<NamespaceId>,
    found: Vec<Peer>,
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        self.wanted.iter().all(|number| self.found.iter().any(|peer| peer.netnsid == *number))
    }

    fn look_at(&mut self, file: &OwnedFd, pid: Option<i32>) {
        let Ok(namespace) = NamespaceId::of_file(file.as_raw_fd()) else { return };
        if self.seen.contains(&namespace) {
            return;
        }
        self.seen.push(namespace);
        if let Ok(Some(netnsid)) = self.numbers.of(file.as_raw_fd())
            && self.wanted.contains(&netnsid)
        {
            self.found.push(Peer { netnsid, namespace, pid });
        }
    }
}
