//! Every namespace on the machine, and what keeps it alive.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::NamespaceId;
use super::netnsid::NetnsIds;
use super::nsfs::Relations;
use super::procfs::{self, c_path};
use super::walk::Walk;
use crate::namespace::{NAMESPACES, NamespaceSet};
use crate::sys;

/// What keeps a namespace alive: bits.
pub mod held {
    /// A process is in it, or its children will be.
    pub const PROCESS: u8 = 1;
    /// A thread is in it whose process is not.
    pub const THREAD: u8 = 2;
    /// An open descriptor.
    pub const FD: u8 = 4;
    /// It is bound to a file.
    pub const MOUNT: u8 = 8;
    /// Another namespace belongs to it or was made in it.
    pub const CHILD: u8 = 16;
}

/// The process with the lowest pid.
pub struct Leader {
    /// Its pid in the pid namespace of `/proc`.
    pub pid: i32,
    /// Its parent's.
    pub ppid: Option<i32>,
    /// Its effective user.
    pub uid: Option<u32>,
    /// Its command line, or the short name if it has none.
    pub command: Vec<u8>,
}

/// A namespace.
pub struct Found {
    /// The row of the table.
    pub kind: usize,
    /// Its numbers.
    pub id: NamespaceId,
    /// How many processes are in it.
    pub processes: usize,
    /// The first of them.
    pub leader: Option<Arc<Leader>>,
    /// A file by which it can be opened.
    pub path: Option<Vec<u8>>,
    /// Where it is bound to a file.
    pub bound: Vec<Vec<u8>>,
    /// The number that the caller's network namespace has for it.
    pub netnsid: Option<i32>,
    /// Parent, owner, owner's maker.
    pub relations: Relations,
    /// What keeps it alive.
    pub held: u8,
}

/// What a walk found.
pub struct Scan {
    /// By type, then by 64-bit number or inode.
    pub namespaces: Vec<Found>,
    /// The processes that may not be looked into.
    pub unreadable: Vec<i32>,
}

/// Looks for namespaces of these types. `proceed` is called with the number of processes done and of all; its error
/// ends the walk.
///
/// # Errors
///
/// That of `proceed`, or why `/proc` cannot be read.
pub fn scan<E: From<Errno>>(
    types: NamespaceSet,
    mut proceed: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<Scan, E> {
    let mut walk = Walk::new(types)?;
    let mut unreadable = Vec::new();
    let pids = walk.pids()?;
    for (done, pid) in pids.iter().enumerate() {
        proceed(done, pids.len())?;
        match walk.process(*pid) {
            Err(Errno::EACCES | Errno::EPERM) => unreadable.push(*pid),
            other => _ = procfs::unless_gone(other)?,
        }
    }
    proceed(pids.len(), pids.len())?;
    let mut namespaces: Vec<_> = walk.known.found.into_values().collect();
    // Owners are known whatever was asked for.
    namespaces.retain(|found| types.bits() & NAMESPACES[found.kind].flag != 0);
    namespaces.sort_by_key(|found| (found.kind, found.id.id.unwrap_or(found.id.inode)));
    Ok(Scan { namespaces, unreadable })
}

/// A namespace by its row and inode.
pub(super) type Key = (usize, u64);

/// The namespaces found so far.
pub(super) struct Known {
    pub found: HashMap<Key, Found>,
    /// Those that could not be opened so far: only their inode is known.
    unopened: HashSet<Key>,
    /// The device that all namespace files are on.
    device: u64,
    netns_ids: Option<NetnsIds>,
}

impl Known {
    pub fn new(types: NamespaceSet, device: u64) -> Self {
        let netns_ids = if types.contains(NamespaceSet::NET) { NetnsIds::of_caller().ok() } else { None };
        Self { found: HashMap::new(), unopened: HashSet::new(), device, netns_ids }
    }

    /// Whether the kernel has been asked about it.
    pub fn has_opened(&self, key: Key) -> bool {
        self.found.contains_key(&key) && !self.unopened.contains(&key)
    }

    /// Asks the kernel about an open namespace, and about those it belongs to.
    pub fn learn(&mut self, kind: usize, file: &OwnedFd) -> Result<Key, Errno> {
        let raw = file.as_raw_fd();
        let id = NamespaceId::of_file(raw)?;
        let key = (kind, id.inode);
        if self.has_opened(key) {
            return Ok(key);
        }
        let netnsid = match &mut self.netns_ids {
            Some(ids) if kind == row(NamespaceSet::NET) => ids.of(raw).ok().flatten(),
            _ => None,
        };
        let parent = self.learn_holder(kind, sys::namespace_parent(raw))?.map(|found| found.id);
        let user = self.learn_holder(row(NamespaceSet::USER), sys::namespace_owner(raw))?;
        let (owner, maker) = (user.map(|found| found.id), user.and_then(|found| found.relations.owner_uid));
        let owner_uid = sys::namespace_owner_uid(raw).ok().or(maker);
        let relations = Relations { parent, owner, owner_uid };
        self.unopened.remove(&key);
        let found = self.found.remove(&key).unwrap_or_else(|| Found::new(kind, id));
        self.found.insert(key, Found { id, netnsid, relations, ..found });
        Ok(key)
    }

    /// A namespace that another one keeps alive, if the kernel shows it.
    fn learn_holder(&mut self, kind: usize, file: Result<OwnedFd, Errno>) -> Result<Option<&Found>, Errno> {
        let Some(file) = procfs::unless_gone(file)? else { return Ok(None) };
        let key = self.learn(kind, &file)?;
        let Some(found) = self.found.get_mut(&key) else { return Ok(None) };
        found.held |= held::CHILD;
        Ok(Some(found))
    }

    /// One that is bound to this file. What is there may be covered by something else, or not be ours to open.
    pub fn learn_bound(&mut self, (kind, inode): Key, path: &[u8]) -> Result<(), Errno> {
        let open = || {
            let file = sys::open_at(libc::AT_FDCWD, &c_path(path)?, libc::O_PATH)?;
            if sys::identity(file.as_raw_fd())? != (self.device, inode) {
                return Err(Errno::ESTALE);
            }
            let reopened = format!("/proc/self/fd/{}", file.as_raw_fd());
            sys::open_at(libc::AT_FDCWD, &c_path(reopened)?, libc::O_RDONLY)
        };
        let known = open().and_then(|file| self.learn(kind, &file));
        if procfs::unless_gone(known)?.is_none() {
            let id = NamespaceId { device: self.device, inode, id: None };
            self.found.insert((kind, inode), Found::new(kind, id));
            self.unopened.insert((kind, inode));
        }
        Ok(())
    }
}

impl Found {
    fn new(kind: usize, id: NamespaceId) -> Self {
        let relations = Relations::default();
        let (leader, path, bound, netnsid) = (None, None, Vec::new(), None);
        Self { kind, id, processes: 0, leader, path, bound, netnsid, relations, held: 0 }
    }
}

/// The row of a single type.
pub(super) fn row(one: NamespaceSet) -> usize {
    one.rows().next().map_or(0, |(index, _)| index)
}
