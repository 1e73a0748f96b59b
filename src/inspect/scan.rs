//! Every namespace on the machine, and what keeps it alive: a walk over `/proc`.
//!
//! The walk costs a process some twenty system calls, whatever it is in: links are read, not opened. A file is opened
//! only for a namespace that has not been seen before, to ask the kernel for its number, owner and parent; those are
//! then namespaces too. What vanishes on the way is left out.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::netnsid::NetnsIds;
use super::nsfs::{self, Relations};
use super::procfs::{self, Status};
use super::{NamespaceId, mountinfo};
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
#[derive(Default)]
pub struct Scan {
    /// By type, then by age (the 64-bit number) or inode.
    pub namespaces: Vec<Found>,
    /// The processes that may not be looked into.
    pub unreadable: Vec<i32>,
}

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// As much of a command line as lsns(8) shows.
const COMMAND: usize = 8192;

/// How many processes lie between two calls of `proceed`: a few milliseconds.
const STRIDE: usize = 64;

/// Looks for namespaces of these types. `proceed` is called now and then with the number of processes done and of all;
/// its error ends the walk.
///
/// # Errors
///
/// That of `proceed`, or why `/proc` cannot be read.
pub fn scan<E: From<Errno>>(
    types: NamespaceSet,
    mut proceed: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<Scan, E> {
    let mut walk = Walk::new(types)?;
    let pids = procfs::numbers(sys::open_at(walk.proc.as_raw_fd(), c".", libc::O_RDONLY)?.as_raw_fd())?;
    for (done, pid) in pids.iter().enumerate() {
        if done % STRIDE == 0 {
            proceed(done, pids.len())?;
        }
        match walk.process(*pid) {
            Err(Errno::EACCES | Errno::EPERM) => walk.unreadable.push(*pid),
            // What is missing now is gone.
            Ok(()) | Err(_) => {}
        }
    }
    proceed(pids.len(), pids.len())?;
    Ok(walk.finish())
}

/// A namespace by its row and inode.
type Key = (usize, u64);

/// A link in `/proc/PID/ns`.
struct Link {
    kind: usize,
    name: &'static str,
    path: CString,
}

impl Link {
    /// Whether the process is in it, and not only its children will be.
    fn is_own(&self) -> bool {
        self.name == NAMESPACES[self.kind].name
    }
}

/// Whose files are looked at: a process, or a thread of it.
struct Place {
    pid: i32,
    directory: OwnedFd,
    /// From the directory of the process to its own.
    below: String,
}

impl Place {
    fn open(&self, path: &str, flags: i32) -> Result<OwnedFd, Errno> {
        sys::open_at(self.directory.as_raw_fd(), &c_path(path.into())?, flags)
    }

    fn path(&self, file: &str) -> Vec<u8> {
        format!("/proc/{}/{}{file}", self.pid, self.below).into_bytes()
    }
}

struct Walk {
    types: NamespaceSet,
    links: Vec<Link>,
    /// `/proc`.
    proc: OwnedFd,
    /// The device that all namespace files are on.
    device: u64,
    netns_ids: Option<NetnsIds>,
    found: HashMap<Key, Found>,
    unreadable: Vec<i32>,
    /// The mount namespaces whose mounts have been read.
    mounts_read: HashSet<u64>,
}

impl Walk {
    fn new(types: NamespaceSet) -> Result<Self, Errno> {
        let proc = sys::open_at(libc::AT_FDCWD, c"/proc", DIRECTORY)?;
        let own = sys::open_at(proc.as_raw_fd(), c"self/ns/mnt", libc::O_RDONLY)?;
        let own = NamespaceId::of_file(own.as_raw_fd())?;
        let netns_ids = if types.contains(NamespaceSet::NET) { NetnsIds::new().ok() } else { None };
        let (links, found, mounts_read) = (links(types)?, HashMap::new(), HashSet::new());
        let unreadable = Vec::new();
        let mut walk = Self { types, links, proc, device: own.device, netns_ids, found, unreadable, mounts_read };
        // The caller's own first: there, paths need nothing in front.
        let directory = sys::open_at(walk.proc.as_raw_fd(), c"self", DIRECTORY)?;
        walk.mounts(&Place { pid: sys::getpid(), directory, below: String::new() }, own.inode, b"");
        Ok(walk)
    }

    fn process(&mut self, pid: i32) -> Result<(), Errno> {
        let directory = sys::open_at(self.proc.as_raw_fd(), &c_path(pid.to_string().into())?, DIRECTORY)?;
        let place = Place { pid, directory, below: String::new() };
        let links = self.read_links(&place)?;
        self.count(&place, &links)?;
        self.mounts_of(&place, &links);
        // The directory may be another user's although the links are ours to read.
        let _ = self.descriptors(&place);
        // A directory has two links more than subdirectories: its name, and its own dot.
        if sys::link_count(place.directory.as_raw_fd(), c"task")? > 3 {
            self.threads(place, &links)?;
        }
        Ok(())
    }

    /// The inodes that the links are to; 0 for one that is not there: a zombie has hardly any.
    fn read_links(&self, place: &Place) -> Result<Vec<u64>, Errno> {
        let namespaces = place.open(&format!("{}ns", place.below), DIRECTORY)?;
        let read = |link: &Link| match sys::read_link(namespaces.as_raw_fd(), &link.path, &mut [0; 64]) {
            Ok(text) => Ok(nsfs::read_link(text).map_or(0, |(_, inode)| inode)),
            Err(Errno::ENOENT) => Ok(0),
            Err(errno) => Err(errno),
        };
        self.links.iter().map(read).collect()
    }

    /// Counts a process where it is.
    fn count(&mut self, place: &Place, inodes: &[u64]) -> Result<(), Errno> {
        let mut leader = None;
        for index in 0..inodes.len() {
            let (link, key) = (&self.links[index], (self.links[index].kind, inodes[index]));
            let (name, is_own) = (link.name, link.is_own());
            if key.1 == 0 || !self.look(key, held::PROCESS, place, &format!("ns/{name}")) || !is_own {
                continue;
            }
            let Some(found) = self.found.get_mut(&key) else { continue };
            if found.leader.is_none() {
                let leads = match leader.take() {
                    None => Arc::new(Leader::read(place)?),
                    Some(leader) => leader,
                };
                found.leader = Some(Arc::clone(&leads));
                found.path = Some(place.path(&format!("ns/{name}")));
                leader = Some(leads);
            }
            found.processes += 1;
        }
        Ok(())
    }

    /// The threads that are elsewhere than their process.
    fn threads(&mut self, mut place: Place, of_process: &[u64]) -> Result<(), Errno> {
        let task = place.open("task", libc::O_RDONLY | libc::O_DIRECTORY)?;
        for tid in procfs::numbers(task.as_raw_fd())?.into_iter().filter(|tid| *tid != place.pid) {
            place.below = format!("task/{tid}/");
            let Ok(inodes) = self.read_links(&place) else { continue };
            for (index, inode) in inodes.iter().enumerate().filter(|(index, inode)| of_process[*index] != **inode) {
                let (kind, name) = (self.links[index].kind, self.links[index].name);
                self.look((kind, *inode), held::THREAD, &place, &format!("ns/{name}"));
            }
            self.mounts_of(&place, &inodes);
        }
        Ok(())
    }

    /// The namespace files that it has open.
    fn descriptors(&mut self, place: &Place) -> Result<(), Errno> {
        let directory = place.open("fd", libc::O_RDONLY | libc::O_DIRECTORY)?;
        for number in procfs::numbers(directory.as_raw_fd())? {
            let Ok(path) = c_path(number.to_string().into()) else { continue };
            let mut buffer = [0; 64];
            let Ok(text) = sys::read_link(directory.as_raw_fd(), &path, &mut buffer) else { continue };
            if let Some(key) = nsfs::read_link(text).filter(|(kind, _)| self.wants(*kind)) {
                self.look(key, held::FD, place, &format!("fd/{number}"));
            }
        }
        Ok(())
    }

    fn mounts_of(&mut self, place: &Place, inodes: &[u64]) {
        let mnt = self.links.iter().position(|link| NAMESPACES[link.kind].flag == NamespaceSet::MNT.bits());
        if let Some(inode) = mnt.map(|index| inodes[index]).filter(|inode| *inode != 0) {
            self.mounts(place, inode, &place.path("root"));
        }
    }

    /// The namespaces bound to files in its mount namespace, unless that has been looked at.
    fn mounts(&mut self, place: &Place, inode: u64, root: &[u8]) {
        if !self.mounts_read.insert(inode) {
            return;
        }
        let path = c_path(format!("{}mountinfo", place.below).into());
        let text = path.and_then(|path| sys::read_file(place.directory.as_raw_fd(), &path)).unwrap_or_default();
        for (link, target) in mountinfo::nsfs(&text) {
            let Some(key) = nsfs::read_link(&link).filter(|(kind, _)| self.wants(*kind)) else { continue };
            let path = [root, &target].concat();
            if !self.found.contains_key(&key) {
                self.learn_bound(key, &path);
            }
            let Some(found) = self.found.get_mut(&key) else { continue };
            found.held |= held::MOUNT;
            found.path.get_or_insert(path);
            if !found.bound.contains(&target) {
                found.bound.push(target);
            }
        }
    }

    fn wants(&self, kind: usize) -> bool {
        self.types.bits() & NAMESPACES[kind].flag != 0
    }

    /// Notes what holds a namespace, and asks the kernel about it the first time; false if it is gone already.
    fn look(&mut self, key: Key, holds: u8, place: &Place, file: &str) -> bool {
        if !self.found.contains_key(&key) {
            let Ok(file) = place.open(&format!("{}{file}", place.below), libc::O_RDONLY) else { return false };
            let _ = self.learn(key.0, &file);
        }
        // Not there if the process has moved meanwhile.
        let Some(found) = self.found.get_mut(&key) else { return false };
        found.held |= holds;
        if found.path.is_none() {
            found.path = Some(place.path(file));
        }
        true
    }

    /// Asks the kernel about an open namespace, and about those it belongs to.
    fn learn(&mut self, kind: usize, file: &OwnedFd) -> Result<Key, Errno> {
        let raw = file.as_raw_fd();
        let id = NamespaceId::of_file(raw)?;
        let key = (kind, id.inode);
        if self.found.contains_key(&key) {
            return Ok(key);
        }
        let netnsid = match &self.netns_ids {
            Some(ids) if NAMESPACES[kind].flag == NamespaceSet::NET.bits() => ids.of(raw).ok().flatten(),
            _ => None,
        };
        let parent = self.learn_holder(kind, sys::namespace_parent(raw)).map(|found| found.id);
        let user = self.learn_holder(row(NamespaceSet::USER), sys::namespace_owner(raw));
        let (owner, maker) = (user.map(|found| found.id), user.and_then(|found| found.relations.owner_uid));
        let owner_uid = sys::namespace_owner_uid(raw).ok().or(maker);
        let relations = Relations { parent, owner, owner_uid };
        self.found.insert(key, Found { netnsid, relations, ..Found::new(kind, id) });
        Ok(key)
    }

    /// A namespace that another one keeps alive, if the kernel shows it.
    fn learn_holder(&mut self, kind: usize, file: Result<OwnedFd, Errno>) -> Option<&Found> {
        let key = self.learn(kind, &file.ok()?).ok()?;
        let found = self.found.get_mut(&key)?;
        found.held |= held::CHILD;
        Some(found)
    }

    /// One that is known by a mount. What is there may be covered by something else, or not be ours to open.
    fn learn_bound(&mut self, (kind, inode): Key, path: &[u8]) {
        let open = || {
            let file = sys::open_at(libc::AT_FDCWD, &c_path(path.to_vec())?, libc::O_PATH)?;
            if sys::identity(file.as_raw_fd())? != (self.device, inode) {
                return Err(Errno::ESTALE);
            }
            let reopened = c_path(format!("/proc/self/fd/{}", file.as_raw_fd()).into())?;
            sys::open_at(libc::AT_FDCWD, &reopened, libc::O_RDONLY)
        };
        if open().and_then(|file| self.learn(kind, &file)).is_err() {
            let id = NamespaceId { device: self.device, inode, id: None };
            self.found.insert((kind, inode), Found::new(kind, id));
        }
    }

    fn finish(self) -> Scan {
        let wanted = |found: &Found| self.types.bits() & NAMESPACES[found.kind].flag != 0;
        let mut namespaces: Vec<_> = self.found.into_values().filter(wanted).collect();
        namespaces.sort_by_key(|found| (found.kind, found.id.id.unwrap_or(found.id.inode)));
        Scan { namespaces, unreadable: self.unreadable }
    }
}

impl Leader {
    fn read(place: &Place) -> Result<Self, Errno> {
        let status = Status(sys::read_file(place.directory.as_raw_fd(), c"status")?);
        let cmdline = sys::read_start(place.directory.as_raw_fd(), c"cmdline", COMMAND)?;
        let command = procfs::command(cmdline).unwrap_or_else(|| status.name());
        Ok(Self { pid: place.pid, ppid: status.number("PPid"), uid: status.euid(), command })
    }
}

impl Found {
    fn new(kind: usize, id: NamespaceId) -> Self {
        let relations = Relations::default();
        let (leader, path, bound, netnsid) = (None, None, Vec::new(), None);
        Self { kind, id, processes: 0, leader, path, bound, netnsid, relations, held: 0 }
    }
}

/// The links to read for these types, and for mount namespaces: they lead to what is bound to files.
fn links(types: NamespaceSet) -> Result<Vec<Link>, Errno> {
    let mut links = Vec::new();
    for (kind, row) in types.union(NamespaceSet::MNT).rows() {
        links.push(Link { kind, name: row.name, path: c_path(row.name.into())? });
        if row.for_children != row.name {
            links.push(Link { kind, name: row.for_children, path: c_path(row.for_children.into())? });
        }
    }
    Ok(links)
}

fn row(one: NamespaceSet) -> usize {
    one.rows().next().map_or(0, |(index, _)| index)
}

fn c_path(path: Vec<u8>) -> Result<CString, Errno> {
    CString::new(path).map_err(|_| Errno::EINVAL)
}
