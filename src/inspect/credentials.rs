//! Who a process is, inside and outside, and what it may do: user_namespaces(7), capabilities(7).

use nix::errno::Errno;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use super::Target;
use super::procfs::{self, Status};
use super::{all_pids, open_path, pid_of_pidfd};
use crate::options::JoinSource;
use crate::sys;

/// The maps of a user namespace: `[inside, outside, count]`, as the caller's user namespace has them.
pub struct IdMaps {
    /// `uid_map`.
    pub users: Vec<[u32; 3]>,
    /// `gid_map`.
    pub groups: Vec<[u32; 3]>,
    /// Whether setgroups(2) is allowed; `None` where the kernel does not say.
    pub setgroups: Option<bool>,
}

impl IdMaps {
    /// # Errors
    ///
    /// What [`Target::read`] says; `EBADMSG` for what is no map.
    pub fn read(target: &Target) -> Result<Self, Errno> {
        let setgroups = target.read(c"setgroups").ok().map(|text| text.starts_with(b"allow"));
        Ok(Self { users: map(&target.read(c"uid_map")?)?, groups: map(&target.read(c"gid_map")?)?, setgroups })
    }

    /// Those of a user namespace to join, as a process in it shows them; `None` without one.
    #[must_use]
    pub fn of_joined(source: &JoinSource) -> Option<Self> {
        let pid = match source {
            JoinSource::Id(id, pid) => process_in(id.inode, *pid),
            JoinSource::Path(path) => process_in(sys::identity(open_path(path).ok()?.as_raw_fd()).ok()?.1, None),
            JoinSource::Fd(fd) => match pid_of_pidfd(*fd) {
                Some(pid) => Some(pid).filter(|pid| *pid > 0),
                None => process_in(sys::identity(*fd).ok()?.1, None),
            },
        };
        Self::read(&Target::of_number(pid?).ok()?).ok()
    }
}

/// What an id outside is inside; 65534 if it is not in the map.
#[must_use]
pub fn inside(id: u32, map: &[[u32; 3]]) -> u32 {
    let place = |[inside, outside, count]: &[u32; 3]| {
        let place = id.checked_sub(*outside).filter(|place| place < count)?;
        inside.checked_add(place)
    };
    map.iter().find_map(place).unwrap_or(65534)
}

pub(crate) fn map(text: &[u8]) -> Result<Vec<[u32; 3]>, Errno> {
    let line = |line: &[u8]| {
        let mut words = procfs::words(line).map(procfs::number);
        Some([words.next()??, words.next()??, words.next()??])
    };
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(line).collect::<Option<_>>().ok_or(Errno::EBADMSG)
}

/// A process in the user namespace with this inode, preferably this one.
fn process_in(inode: u64, pid: Option<i32>) -> Option<i32> {
    let is_in = |pid: &i32| fs::metadata(format!("/proc/{pid}/ns/user")).is_ok_and(|file| file.ino() == inode);
    pid.into_iter().chain(all_pids()).find(is_in)
}

/// The capability sets of a process, as bits.
pub struct Capabilities {
    /// Effective, permitted, inheritable, bounding, ambient.
    pub sets: [u64; 5],
    /// How many the kernel has.
    pub known: u32,
    /// Whether execve(2) gives no more, see PR_SET_NO_NEW_PRIVS(2const).
    pub no_new_privs: bool,
}

impl Capabilities {
    /// # Errors
    ///
    /// What [`Target::read`] says.
    pub fn read(target: &Target) -> Result<Self, Errno> {
        let status = Status(target.read(c"status")?);
        let mut sets = [0; 5];
        for (set, key) in sets.iter_mut().zip(["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"]) {
            *set = status.mask(key).ok_or(Errno::EBADMSG)?;
        }
        let no_new_privs = status.number("NoNewPrivs") == Some(1);
        Ok(Self { sets, known: known(), no_new_privs })
    }
}

/// Asked one by one: `/proc/sys` may be missing.
fn known() -> u32 {
    let exists = |number: &u64| sys::prctl(libc::PR_CAPBSET_READ, *number).is_ok();
    u32::try_from((0..64).take_while(exists).count()).unwrap_or(64)
}
