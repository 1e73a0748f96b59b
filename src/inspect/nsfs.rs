//! What an open namespace file tells, see ioctl_nsfs(2), and how links to such files are written.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{NamespaceId, procfs};
use crate::namespace::NAMESPACES;
use crate::sys;

/// How a namespace is related to others; each is `None` where the kernel does not show it: there is no such relation,
/// or the other one is outside of the caller's.
#[derive(Clone, Copy, Default)]
pub struct Relations {
    /// The one it was made in (pid and user).
    pub parent: Option<NamespaceId>,
    /// The user namespace it belongs to.
    pub owner: Option<NamespaceId>,
    /// Who made it (user), or its owner.
    pub owner_uid: Option<u32>,
}

impl Relations {
    /// Asks the kernel about an open namespace.
    #[must_use]
    pub fn of_file(file: RawFd) -> Self {
        let identify = |file: Result<OwnedFd, Errno>| NamespaceId::of_file(file.ok()?.as_raw_fd()).ok();
        let owner = sys::namespace_owner(file);
        let maker = owner.as_ref().map_or(Err(Errno::EPERM), |owner| sys::namespace_owner_uid(owner.as_raw_fd()));
        Self {
            parent: identify(sys::namespace_parent(file)),
            owner_uid: sys::namespace_owner_uid(file).or(maker).ok(),
            owner: identify(owner),
        }
    }
}

/// The row of the table and the inode in what readlink(2) says of a namespace file: `uts:[4026531838]`.
pub fn read_link(text: &[u8]) -> Option<(usize, u64)> {
    let (name, rest) = text.split_at(text.iter().position(|byte| *byte == b':')?);
    let kind = NAMESPACES.iter().position(|row| row.name.as_bytes() == name)?;
    let inode = procfs::number(rest.strip_prefix(b":[")?.strip_suffix(b"]")?)?;
    Some((kind, inode))
}
