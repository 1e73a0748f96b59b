//! A walk over `/proc` that notes every namespace it meets.
//!
//! It costs some twenty system calls a process, whatever that is in: links are read, not opened. A file is opened only
//! for a namespace that has not been met before, to ask the kernel about it. What vanishes on the way is left out.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::procfs::{self, Status, c_path, unless_gone};
use super::scan::{Found, Key, Known, Leader, held, row};
use super::{NamespaceId, mountinfo, nsfs};
use crate::namespace::{NAMESPACES, NamespaceSet};
use crate::sys;

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// A link in `/proc/PID/ns`.
struct Link {
    kind: usize,
    name: &'static str,
    path: CString,
    /// Whether a thread can be elsewhere than its process: the kernel lets only a process of one thread change its
    /// user or time namespace, and nobody his pid namespace.
    of_thread: bool,
}

/// Whose files are looked at: a process, or a thread of it.
struct Place {
    pid: i32,
    /// That of the process.
    directory: OwnedFd,
    /// From there to that of the thread.
    below: String,
}

/// Where the walk is, and what it has met.
pub struct Walk {
    types: NamespaceSet,
    links: Vec<Link>,
    /// `/proc`.
    proc: OwnedFd,
    pub known: Known,
    /// The mount namespaces whose mounts have been read.
    mounts_read: HashSet<u64>,
}

impl Walk {
    /// # Errors
    ///
    /// `ENOENT` without `/proc`.
    pub fn new(types: NamespaceSet) -> Result<Self, Errno> {
        let proc = sys::open_at(libc::AT_FDCWD, c"/proc", libc::O_RDONLY | libc::O_DIRECTORY)?;
        let own = sys::open_at(proc.as_raw_fd(), c"self/ns/mnt", libc::O_RDONLY)?;
        let own = NamespaceId::of_file(own.as_raw_fd())?;
        let directory = sys::open_at(proc.as_raw_fd(), c"self", DIRECTORY)?;
        let known = Known::new(types, own.device);
        let mut walk = Self { types, links: links(types)?, proc, known, mounts_read: HashSet::new() };
        // The caller's own first: there, paths need nothing in front.
        walk.mounts(&Place { pid: sys::getpid(), directory, below: String::new() }, own.inode, b"")?;
        Ok(walk)
    }

    /// All processes, in ascending order.
    pub fn pids(&self) -> Result<Vec<i32>, Errno> {
        procfs::numbers(self.proc.as_raw_fd())
    }

    /// Notes all that a process is in or holds.
    ///
    /// # Errors
    ///
    /// `EACCES` when it may not be looked into, `ENOENT` or `ESRCH` when it is gone.
    pub fn process(&mut self, pid: i32) -> Result<(), Errno> {
        let directory = sys::open_at(self.proc.as_raw_fd(), &c_path(pid.to_string())?, DIRECTORY)?;
        let place = Place { pid, directory, below: String::new() };
        let inodes = self.read_links(&place)?;
        self.count(&place, &inodes)?;
        self.mounts_of(&place, &inodes)?;
        // A directory has two links more than subdirectories: its name, and its own dot.
        let threads = unless_gone(sys::link_count(place.directory.as_raw_fd(), c"task"))?;
        // These may be another user's although the links are ours to read.
        unless_gone(self.descriptors(&place))?;
        if threads.is_some_and(|links| links > 3) {
            unless_gone(self.threads(place, &inodes))?;
        }
        Ok(())
    }

    /// The inodes that the links are to; 0 for one that is not there (a zombie has hardly any) or not of interest.
    fn read_links(&self, place: &Place) -> Result<Vec<u64>, Errno> {
        let namespaces = place.open("ns", DIRECTORY)?;
        let is_thread = !place.below.is_empty();
        let read = |link: &Link| match sys::read_link(namespaces.as_raw_fd(), &link.path, &mut [0; 64]) {
            Ok(text) => Ok(nsfs::read_link(text).map_or(0, |(_, inode)| inode)),
            Err(Errno::ENOENT) => Ok(0),
            Err(errno) => Err(errno),
        };
        self.links.iter().map(|link| if is_thread && !link.of_thread { Ok(0) } else { read(link) }).collect()
    }

    /// Counts a process where it is.
    fn count(&mut self, place: &Place, inodes: &[u64]) -> Result<(), Errno> {
        let mut leader = None;
        for (index, inode) in inodes.iter().enumerate().filter(|(_, inode)| **inode != 0) {
            let Link { kind, name, .. } = self.links[index];
            let file = format!("ns/{name}");
            let found = self.look((kind, *inode), held::PROCESS, place, &file)?;
            // Where only its children will be, it is not counted.
            let Some(found) = found.filter(|_| name == NAMESPACES[kind].name) else { continue };
            if found.leader.is_none() {
                let first = leader.take().map_or_else(|| Leader::read(place).map(Arc::new), Ok)?;
                found.leader = Some(Arc::clone(&first));
                found.path = Some(place.path(&file));
                leader = Some(first);
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
            let inodes = unless_gone(self.read_links(&place))?.unwrap_or_default();
            for (index, inode) in inodes.iter().enumerate().filter(|(_, inode)| **inode != 0) {
                let Link { kind, name, .. } = self.links[index];
                if of_process[index] == *inode {
                    continue;
                }
                self.look((kind, *inode), held::THREAD, &place, &format!("ns/{name}"))?;
            }
            self.mounts_of(&place, &inodes)?;
        }
        Ok(())
    }

    /// The namespace files that it has open.
    fn descriptors(&mut self, place: &Place) -> Result<(), Errno> {
        let directory = place.open("fd", libc::O_RDONLY | libc::O_DIRECTORY)?;
        for number in procfs::numbers(directory.as_raw_fd())? {
            let mut buffer = [0; 64];
            let link = sys::read_link(directory.as_raw_fd(), &c_path(number.to_string())?, &mut buffer);
            if let Some(key) = unless_gone(link)?.and_then(|link| self.wanted(link)) {
                self.look(key, held::FD, place, &format!("fd/{number}"))?;
            }
        }
        Ok(())
    }

    fn mounts_of(&mut self, place: &Place, inodes: &[u64]) -> Result<(), Errno> {
        let mnt = row(NamespaceSet::MNT);
        match self.links.iter().zip(inodes).find(|(link, inode)| link.kind == mnt && **inode != 0) {
            Some((_, inode)) => self.mounts(place, *inode, &place.path("root")),
            None => Ok(()),
        }
    }

    /// The namespaces bound to files in its mount namespace, unless that has been looked at.
    fn mounts(&mut self, place: &Place, inode: u64, root: &[u8]) -> Result<(), Errno> {
        if !self.mounts_read.insert(inode) {
            return Ok(());
        }
        let text = place.open("mountinfo", libc::O_RDONLY).and_then(|file| sys::read_open(&file, usize::MAX));
        for (link, target) in mountinfo::nsfs(&unless_gone(text)?.unwrap_or_default()) {
            let Some(key) = self.wanted(&link) else { continue };
            let path = [root, &target].concat();
            if !self.known.found.contains_key(&key) {
                self.known.learn_bound(key, &path)?;
            }
            let Some(found) = self.known.found.get_mut(&key) else { continue };
            found.held |= held::MOUNT;
            found.path.get_or_insert(path);
            if !found.bound.contains(&target) {
                found.bound.push(target);
            }
        }
        Ok(())
    }

    /// What a link or a mount is of, if it is a namespace of a type that was asked for.
    fn wanted(&self, link: &[u8]) -> Option<Key> {
        nsfs::read_link(link).filter(|(kind, _)| self.types.bits() & NAMESPACES[*kind].flag != 0)
    }

    /// Notes what holds a namespace, and asks the kernel about it the first time; `None` if it is gone already.
    fn look(&mut self, key: Key, holds: u8, place: &Place, file: &str) -> Result<Option<&mut Found>, Errno> {
        if !self.known.has_opened(key) {
            let known = place.open(file, libc::O_RDONLY).and_then(|file| self.known.learn(key.0, &file));
            unless_gone(known)?;
        }
        // Not there if the process has moved meanwhile.
        let Some(found) = self.known.found.get_mut(&key) else { return Ok(None) };
        found.held |= holds;
        found.path.get_or_insert_with(|| place.path(file));
        Ok(Some(found))
    }
}

impl Place {
    fn open(&self, file: &str, flags: i32) -> Result<OwnedFd, Errno> {
        sys::open_at(self.directory.as_raw_fd(), &c_path(format!("{}{file}", self.below))?, flags)
    }

    fn path(&self, file: &str) -> Vec<u8> {
        format!("/proc/{}/{}{file}", self.pid, self.below).into_bytes()
    }
}

impl Leader {
    fn read(place: &Place) -> Result<Self, Errno> {
        let directory = place.directory.as_raw_fd();
        let status = Status(sys::read_file(directory, c"status")?);
        let command = procfs::command(directory, &status)?.unwrap_or_else(|| status.name());
        Ok(Self { pid: place.pid, ppid: status.number("PPid"), uid: status.euid(), command })
    }
}

/// The links to read for these types, and for mount namespaces: they lead to what is bound to files.
fn links(types: NamespaceSet) -> Result<Vec<Link>, Errno> {
    let mut links = Vec::new();
    for (kind, row) in types.union(NamespaceSet::MNT).rows() {
        let fixed = NamespaceSet::USER.union(NamespaceSet::PID).union(NamespaceSet::TIME);
        let of_thread = fixed.bits() & row.flag == 0;
        links.push(Link { kind, name: row.name, path: c_path(row.name)?, of_thread });
        if row.for_children != row.name {
            links.push(Link { kind, name: row.for_children, path: c_path(row.for_children)?, of_thread: true });
        }
    }
    Ok(links)
}
