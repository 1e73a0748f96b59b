//! Which namespaces a process is in, see namespaces(7) and ioctl_nsfs(2).

pub mod cgroup;
pub mod clocks;
pub mod credentials;
pub mod ipc;
pub mod mountinfo;
mod netnsid;
pub mod network;
pub(crate) mod nsfs;
pub(crate) mod outside;
pub mod peers;
pub mod processes;
pub(crate) mod procfs;
pub mod scan;
mod target;
pub mod uts;
mod walk;
pub(crate) mod words;

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use nix::errno::Errno;

use crate::namespace::{NAMESPACES, NamespaceSet};
use crate::sys;

pub use nsfs::Relations;
pub use target::Target;

/// One namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceId {
    /// The device of the nsfs file.
    pub device: u64,
    /// Its inode: unique among the namespaces alive, used again later.
    pub inode: u64,
    /// The number that is never used again (Linux 6.18).
    pub id: Option<u64>,
}

impl NamespaceId {
    fn of_file(fd: RawFd) -> Result<Self, Errno> {
        let (device, inode) = sys::identity(fd)?;
        let id = match sys::namespace_id(fd) {
            Ok(id) => Some(id),
            Err(Errno::ENOTTY | Errno::EINVAL) => None,
            Err(errno) => return Err(errno),
        };
        Ok(Self { device, inode, id })
    }
}

/// One entry per row of the table; `None` where this kernel has no such namespace, or will not show it.
pub type Namespaces = [Option<NamespaceId>; NAMESPACES.len()];

/// The namespaces that a child of this thread of ours would get, or of the calling one; none without a `/proc`.
///
/// # Errors
///
/// What open(2) says, but for what is not there.
pub fn of_children(thread: Option<i32>) -> Result<Namespaces, Errno> {
    let process = thread.map_or("thread-self".to_owned(), |tid| format!("self/task/{tid}"));
    let mut found = Namespaces::default();
    for (id, row) in found.iter_mut().zip(&NAMESPACES) {
        *id = match open_entry(&process, row.for_children) {
            Ok(file) => Some(NamespaceId::of_file(file.as_raw_fd())?),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
    }
    Ok(found)
}

/// The namespaces of a child of ours: the new ones as it noted them (id and inode), the others as the thread that made
/// it has them, or this one if that is gone. Nobody but the thread itself can move it elsewhere.
#[must_use]
pub fn of_child(noted: NamespaceSet, numbers: &[[u64; 2]; NAMESPACES.len()], thread: i32) -> Namespaces {
    let mut found = of_children(Some(thread)).unwrap_or_default();
    if found.iter().all(Option::is_none) {
        found = of_children(None).unwrap_or_default();
    }
    // All namespace files are on one device.
    let device = found.iter().flatten().map(|id| id.device).next().unwrap_or(0);
    for (index, _) in noted.rows() {
        let [id, inode] = numbers[index];
        found[index] = (inode != 0).then_some(NamespaceId { device, inode, id: (id != 0).then_some(id) });
    }
    found
}

/// The namespaces a process is in.
///
/// # Errors
///
/// `ENOENT` when there is no such process, `EACCES` when it may not be inspected.
pub fn of_process(pid: i32) -> Result<Namespaces, Errno> {
    fs::metadata(format!("/proc/{pid}/ns")).map_err(|error| errno(&error))?;
    let mut found = Namespaces::default();
    for (index, row) in NAMESPACES.iter().enumerate() {
        found[index] = match open_entry(&pid.to_string(), row.name) {
            Ok(fd) => Some(NamespaceId::of_file(fd.as_raw_fd())?),
            Err(Errno::ENOENT) if fs::metadata(format!("/proc/{pid}/ns")).is_ok() => None,
            Err(errno) => return Err(errno),
        };
    }
    Ok(found)
}

/// Opens a namespace: by its number where the kernel can, else through a process that is in it.
///
/// # Errors
///
/// `ESRCH` when no process that may be inspected is in it.
pub fn open(types: NamespaceSet, wanted: NamespaceId, pid: Option<i32>) -> Result<OwnedFd, Errno> {
    let (_, row) = types.rows().next().ok_or(Errno::EINVAL)?;
    if let (Some(id), Ok(inode)) = (wanted.id, u32::try_from(wanted.inode))
        && let Ok(fd) = sys::open_namespace_by_id(id, row.flag, inode)
    {
        return Ok(fd);
    }
    let is_wanted = |fd: &OwnedFd| {
        let found = NamespaceId::of_file(fd.as_raw_fd());
        // Who has only been told the inode knows no number, and the process may have been asked for it in vain.
        found.is_ok_and(|found| found == wanted || NamespaceId { id: None, ..found } == wanted)
    };
    let candidates = pid.into_iter().chain(all_pids());
    let mut files = candidates.filter_map(|pid| open_entry(&pid.to_string(), row.name).ok());
    files.find(is_wanted).ok_or(Errno::ESRCH)
}

fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// By its `fdinfo`; `None` when it is no pidfd.
#[must_use]
pub fn pid_of_pidfd(fd: RawFd) -> Option<i32> {
    pid_in_fdinfo(&fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?)
}

pub(crate) fn pid_in_fdinfo(text: &str) -> Option<i32> {
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}

/// Whether this kernel has the `PIDFD_GET_*_NAMESPACE` ioctls (Linux 6.11): tried once.
#[must_use]
pub fn pidfds_show_namespaces() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let uts = NAMESPACES.iter().find(|row| row.name == "uts");
        let file = sys::pidfd_of_thread().and_then(|pidfd| {
            uts.map_or(Err(Errno::ENOTTY), |row| sys::pidfd_namespace(pidfd.as_raw_fd(), row.pidfd_request))
        });
        file.ok().and_then(sys::adopt).is_some()
    })
}

/// Which namespaces a descriptor to join stands for: a namespace file for its own, a pidfd for those in which the
/// process differs from what a child of the caller would get; `None` if that is none at all. What is neither, or the
/// pidfd of a process that has ended, is left to setns(2) to refuse.
#[must_use]
pub fn types_of_fd(fd: RawFd) -> Option<NamespaceSet> {
    if let Some(types) = sys::namespace_type(fd).ok().and_then(NamespaceSet::from_bits) {
        return Some(types);
    }
    match pid_of_pidfd(fd) {
        Some(pid) if pid > 0 => Some(differing(pid)).filter(|types| !types.is_empty()),
        Some(_) => Some(NamespaceSet::ALL),
        None => Some(NamespaceSet::EMPTY),
    }
}

fn differing(pid: i32) -> NamespaceSet {
    let (mine, theirs) = (of_children(None).unwrap_or_default(), of_process(pid).unwrap_or_default());
    let bits = NAMESPACES.iter().zip(mine.iter().zip(theirs)).filter(|(_, (mine, theirs))| **mine != *theirs);
    NamespaceSet::from_bits(bits.map(|(row, _)| row.flag).sum()).unwrap_or_default()
}

/// Opens a namespace file that the user named.
///
/// # Errors
///
/// What open(2) says.
pub fn open_path(path: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    // Whatever it is: opening it must neither wait for anybody (a fifo) nor make it our terminal.
    sys::open_high(path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY)
}

fn open_entry(process: &str, name: &str) -> Result<OwnedFd, Errno> {
    let path = CString::new(format!("/proc/{process}/ns/{name}")).map_err(|_| Errno::EINVAL)?;
    open_path(&path)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// The descriptors of this process, but for the one that lists them.
///
/// # Errors
///
/// `ENOENT` without `/proc`.
pub fn descriptors() -> sys::Result<Vec<RawFd>> {
    let directory = sys::open_at(libc::AT_FDCWD, c"/proc/self/fd", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let own = directory.as_raw_fd();
    procfs::numbers(own).map(|all| all.into_iter().filter(|fd| *fd != own).collect())
}
