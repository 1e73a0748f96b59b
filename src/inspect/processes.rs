//! All processes, or one and its descendants.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

use super::procfs::{self, Status};
use super::{NamespaceId, Namespaces};
use crate::namespace::NAMESPACES;
use crate::sys;

/// A process, numbered as `/proc` does it.
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Its parent's; 0 when that is outside of this pid namespace.
    pub ppid: i32,
    /// Its pid on every level, from that of `/proc` to its own.
    pub pids: Vec<i32>,
    /// The short name.
    pub name: Vec<u8>,
    /// The command line; `None` for a kernel thread or a zombie.
    pub command: Option<Vec<u8>>,
    /// `S`, `R`, `Z`, ….
    pub state: char,
    /// The effective user.
    pub uid: u32,
    /// What it is in; `None` where that may not be looked at.
    pub namespaces: Option<Namespaces>,
}

/// Those below `root`, itself included, in any order.
fn family(directory: &OwnedFd, root: i32, pids: &[i32]) -> Result<Vec<i32>, Errno> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in pids {
        let stat = open(directory, *pid).and_then(|process| sys::read_file(process.as_raw_fd(), c"stat"));
        let parent = procfs::unless_gone(stat)?
            .and_then(|stat| procfs::number(procfs::words(procfs::after_name(&stat)).nth(1)?));
        children.entry(parent.unwrap_or(0)).or_default().push(*pid);
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        family.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(family)
}

fn open(directory: &OwnedFd, pid: i32) -> Result<OwnedFd, Errno> {
    let name = procfs::c_path(pid.to_string())?;
    sys::open_at(directory.as_raw_fd(), &name, libc::O_PATH | libc::O_DIRECTORY)
}

impl Process {
    /// All of them or, below `root`, it and its descendants; and those of which nothing can be read. `proceed` is called
    /// before each; its error ends the walk.
    ///
    /// # Errors
    ///
    /// That of `proceed`, or why `/proc` cannot be read.
    pub fn all<E: From<Errno>>(
        root: Option<i32>,
        mut proceed: impl FnMut(usize, usize) -> Result<(), E>,
    ) -> Result<(Vec<Self>, Vec<i32>), E> {
        let directory = sys::open_at(libc::AT_FDCWD, c"/proc", libc::O_RDONLY | libc::O_DIRECTORY)?;
        let device = sys::identity(sys::open_at(directory.as_raw_fd(), c"self/ns/mnt", libc::O_RDONLY)?.as_raw_fd())?.0;
        let mut pids = procfs::numbers(directory.as_raw_fd())?;
        if let Some(root) = root {
            pids = family(&directory, root, &pids)?;
        }
        let (mut found, mut refused) = (Vec::with_capacity(pids.len()), Vec::new());
        for (done, pid) in pids.iter().enumerate() {
            proceed(done, pids.len())?;
            match open(&directory, *pid).and_then(|process| Self::read(*pid, &process, device)) {
                Err(Errno::EACCES | Errno::EPERM) => refused.push(*pid),
                process => found.extend(procfs::unless_gone(process)?),
            }
        }
        Ok((found, refused))
    }

    fn read(pid: i32, process: &OwnedFd, device: u64) -> Result<Self, Errno> {
        let status = Status(sys::read_file(process.as_raw_fd(), c"status")?);
        let command = procfs::command(process.as_raw_fd(), &status)?;
        let namespaces = match namespaces(process, device) {
            Err(Errno::EACCES | Errno::EPERM) => None,
            other => Some(other?),
        };
        let read = || {
            Some(Self {
                pid,
                ppid: status.number("PPid")?,
                pids: procfs::words(status.value("NSpid")?).map(procfs::number).collect::<Option<_>>()?,
                name: status.name(),
                command,
                state: char::from(*status.value("State")?.first()?),
                uid: status.euid()?,
                namespaces,
            })
        };
        read().ok_or(Errno::EBADMSG)
    }
}

/// By reference only: nothing is opened. A zombie has hardly any.
fn namespaces(process: &OwnedFd, device: u64) -> Result<Namespaces, Errno> {
    let mut found = Namespaces::default();
    for (slot, row) in found.iter_mut().zip(&NAMESPACES) {
        let path = procfs::c_path(format!("ns/{}", row.name))?;
        *slot = match sys::namespace_numbers(process.as_raw_fd(), &path) {
            Ok((id, inode)) => Some(NamespaceId { device, inode, id: (id != 0).then_some(id) }),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
    }
    Ok(found)
}
