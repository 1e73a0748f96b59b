//! What the caller asked for: plain owned values, not yet checked against each other.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::sync::Arc;

use crate::idmap::MapRequest;
use crate::init::Init;
use crate::inspect::{NamespaceId, Namespaces};
use crate::mount::Propagation;
use crate::namespace::NamespaceSet;

/// One request. `Options { argv, executable, ..Default::default() }` is a plain child.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own, not a state")]
pub struct Options {
    /// The namespaces to make.
    pub flags: NamespaceSet,
    /// The program's arguments, its own name first.
    pub argv: Vec<CString>,
    /// The program: a path, or a name to look for in `PATH`.
    pub executable: CString,
    /// `NAME=value` each; `None` is the environment of the caller.
    pub env: Option<Vec<CString>>,
    /// The directory to change to.
    pub cwd: Option<CString>,
    /// Close every descriptor above 2 that `pass_fds` does not name.
    pub close_fds: bool,
    /// Descriptors the program gets under the same numbers.
    pub pass_fds: Vec<RawFd>,
    /// Set the signals that Python ignores back to their defaults.
    pub restore_signals: bool,
    /// `setsid(2)`.
    pub start_new_session: bool,
    /// `setpgid(2)`; 0 makes a new group.
    pub process_group: Option<i32>,
    /// `umask(2)`.
    pub umask: Option<u32>,
    /// Real and effective user id.
    pub user: Option<u32>,
    /// Real and effective group id.
    pub group: Option<u32>,
    /// Supplementary groups.
    pub extra_groups: Option<Vec<u32>>,
    /// The name in the new uts namespace.
    pub hostname: Option<Vec<u8>>,
    /// The NIS domain name in the new uts namespace.
    pub domainname: Option<Vec<u8>>,
    /// Map the caller to 0.
    pub map_root_user: bool,
    /// Map the caller to itself.
    pub map_current_user: bool,
    /// The other user ids.
    pub map_users: Option<MapRequest>,
    /// The other group ids.
    pub map_groups: Option<MapRequest>,
    /// Whether `setgroups(2)` may be called inside; `None` is what the map requires.
    pub setgroups: Option<bool>,
    /// Of all mounts in the new mount namespace; `None` is private.
    pub propagation: Option<Propagation>,
    /// Where to mount a fresh proc(5).
    pub mount_proc: Option<CString>,
    /// Bring `lo` up.
    pub loopback: bool,
    /// Offset of `CLOCK_MONOTONIC`.
    pub monotonic: Option<ClockOffset>,
    /// Offset of `CLOCK_BOOTTIME`.
    pub boottime: Option<ClockOffset>,
    /// Namespaces to enter before the new ones are made.
    pub join: Vec<Join>,
    /// The signal the program gets when this process ends.
    pub kill_child: Option<i32>,
    /// No program: only leave descriptors of the new namespaces.
    pub keep: bool,
    /// An init of ours.
    pub init: Option<Init>,
}

/// A clock offset, rounded down to whole seconds, plus nanoseconds below one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// Seconds, possibly negative.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// One namespace file, or one process, to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Where it is.
    pub source: JoinSource,
    /// Which namespaces (one for a file, any number for a pidfd); empty leaves it to the kernel to accept or refuse what the descriptor is.
    pub types: NamespaceSet,
    /// Which ones these are, where the caller knows: then the child need not look.
    pub known: Option<Arc<Namespaces>>,
}

impl Join {
    /// One of which no more is known.
    #[must_use]
    pub fn new(source: JoinSource, types: NamespaceSet) -> Self {
        Self { source, types, known: None }
    }
}

impl Options {
    /// The namespaces that the program joins, as far as the caller knows them.
    #[must_use]
    pub fn known_joins(&self) -> Namespaces {
        let mut found = Namespaces::default();
        for join in &self.join {
            // Whatever is entered later is where the program is.
            for (row, _) in join.types.rows() {
                found[row] = join.known.as_ref().and_then(|known| known[row]);
            }
        }
        for (row, _) in self.flags.rows() {
            found[row] = None;
        }
        found
    }
}

/// How a namespace to join is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinSource {
    /// A namespace file, opened at each spawn.
    Path(CString),
    /// An open namespace file or pidfd, which stays the caller's.
    Fd(RawFd),
    /// A namespace known by its numbers, and a process that was in it, opened at each spawn.
    Id(NamespaceId, Option<i32>),
}
