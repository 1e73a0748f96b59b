//! Which namespaces a process is in, see namespaces(7) and ioctl_nsfs(2).

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::namespace::{NAMESPACES, NamespaceSet};
use crate::sys;

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
    /// From the numbers that a child noted; `None` if it could not look.
    pub(crate) fn from_noted([device, inode, id]: [u64; 3]) -> Option<Self> {
        (inode != 0).then_some(Self { device, inode, id: (id != 0).then_some(id) })
    }

    fn of_file(fd: RawFd) -> Result<Self, Errno> {
        let (device, inode) = sys::identity(fd)?;
        Ok(Self { device, inode, id: sys::namespace_id(fd).ok() })
    }
}

/// One entry per row of the table; `None` where this kernel has no such namespace, or will not show it.
pub type Namespaces = [Option<NamespaceId>; NAMESPACES.len()];

/// The namespaces that a child of the calling thread would get, leaving out `known`.
#[must_use]
pub fn of_children(known: NamespaceSet) -> Namespaces {
    let mut found = Namespaces::default();
    for (index, row) in NAMESPACES.iter().enumerate() {
        if known.bits() & row.flag == 0 {
            found[index] =
                open_entry("thread-self", row.for_children).and_then(|fd| NamespaceId::of_file(fd.as_raw_fd())).ok();
        }
    }
    found
}

/// The namespaces a process is in.
///
/// # Errors
///
/// `ENOENT` when there is no such process, `EACCES` when it may not be inspected.
pub fn of_process(pid: i32) -> Result<Namespaces, Errno> {
    fs::metadata(format!("/proc/{pid}/ns")).map_err(errno)?;
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
    if let (Some(id), Ok(inode)) = (wanted.id, u32::try_from(wanted.inode)) {
        if let Ok(fd) = sys::open_namespace_by_id(id, row.flag, inode) {
            return Ok(fd);
        }
    }
    let is_wanted = |fd: &OwnedFd| NamespaceId::of_file(fd.as_raw_fd()) == Ok(wanted);
    let candidates = pid.into_iter().chain(all_pids());
    let mut files = candidates.filter_map(|pid| open_entry(&pid.to_string(), row.name).ok());
    files.find(is_wanted).ok_or(Errno::ESRCH)
}

fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// By its `fdinfo`; `None` when it is no pidfd.
fn pid_of_pidfd(fd: RawFd) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}

/// Which namespaces a descriptor to join stands for: a namespace file for its own, a pidfd for those in which the
/// process differs from what a child of the caller would get.
#[must_use]
pub fn types_of_fd(fd: RawFd) -> NamespaceSet {
    let file = sys::namespace_type(fd).ok().and_then(NamespaceSet::from_bits);
    file.unwrap_or_else(|| pid_of_pidfd(fd).map(differing).unwrap_or_default())
}

fn differing(pid: i32) -> NamespaceSet {
    let (mine, theirs) = (of_children(NamespaceSet::EMPTY), of_process(pid).unwrap_or_default());
    let bits = NAMESPACES.iter().zip(mine.iter().zip(theirs)).filter(|(_, (mine, theirs))| **mine != *theirs);
    NamespaceSet::from_bits(bits.map(|(row, _)| row.flag).sum()).unwrap_or_default()
}

/// Opens a namespace file that the user named.
///
/// # Errors
///
/// What open(2) says.
pub fn open_path(path: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    sys::open_high(path, libc::O_RDONLY)
}

fn open_entry(process: &str, name: &str) -> Result<OwnedFd, Errno> {
    let path = CString::new(format!("/proc/{process}/ns/{name}")).map_err(|_| Errno::EINVAL)?;
    open_path(&path)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
