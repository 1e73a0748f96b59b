//! A visit: a short-lived child enters another namespace and does a few things there. The calling process never moves.
//!
//! The child shares the caller's memory and descriptor table, and the calling thread is held until it is gone: what the
//! child reads, the caller finds in a buffer; what it opens, the caller has open. So the rules of `child.rs` hold here
//! too: nothing below [`child`] allocates, locks, panics or is dropped. Its signals stay blocked to its end: no handler
//! of the caller's can run in it, and clone(2) will do, which no filter answers with ENOSYS.
//!
//! The time namespace cannot be visited: setns(2) refuses it to who shares memory.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicUsize};

use nix::errno::Errno;

use crate::arena::{Arena, CHILD_STACK};
use crate::namespace::NamespaceSet;
use crate::sys::{self, CloneArgs, SignalMask};

/// What to do there.
pub enum Action<'a> {
    /// Read a file: below an open directory, or by an absolute path.
    Read(RawFd, &'a CStr),
    /// `struct new_utsname`.
    Uname,
    /// Open a socket for rtnetlink(7), which belongs to this network namespace for good.
    RouteSocket,
    /// Mount the POSIX message queues of this IPC namespace: nowhere, but for the descriptor.
    MountQueues,
}

/// What came of it.
pub enum Answer {
    /// What was read.
    Bytes(Vec<u8>),
    /// What was opened.
    Fd(OwnedFd),
}

impl Answer {
    /// What was read; nothing if something was opened.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Fd(_) => Vec::new(),
        }
    }

    /// What was opened.
    ///
    /// # Errors
    ///
    /// `EBADF` if nothing was.
    pub fn fd(self) -> Result<OwnedFd, Errno> {
        match self {
            Self::Fd(fd) => Ok(fd),
            Self::Bytes(_) => Err(Errno::EBADF),
        }
    }
}

/// What a visit brought home.
pub struct Visited {
    /// An outcome for each action: one that fails does not keep the others from being done.
    pub answers: Vec<Result<Answer, Errno>>,
    /// The owner, if it had to be entered too: then what was read has the ids of that user namespace.
    pub owner: Option<OwnedFd>,
}

/// Does all of this in a namespace, in a child that enters it unless the calling thread is there already.
///
/// Who may not enter it directly enters the user namespace that owns it first: there lies the privilege. That is never
/// done by who could do without, because to enter the user namespace of somebody else makes the memory that both share,
/// that is the calling process, undumpable, see proc(5).
///
/// # Errors
///
/// What clone(2) or setns(2) say: `EPERM` without `CAP_SYS_ADMIN` in the owner. `ECANCELED` is the outcome of what a
/// child that was killed did not come to.
pub fn visit(namespace: RawFd, actions: &[Action<'_>]) -> Result<Visited, Errno> {
    let (target, owner) = way_to(namespace)?;
    let mut size = 1 << 16;
    loop {
        let owner_fd = owner.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let visit = Visit::new(target.unwrap_or(-1), owner_fd, actions, size);
        visit.make()?;
        let answers = visit.outcomes.iter().map(|outcome| visit.answer(outcome)).collect();
        if !visit.was_full.load(Acquire) {
            let owner = owner.filter(|_| visit.entered_owner.load(Acquire));
            return Ok(Visited { answers, owner });
        }
        size *= 4;
    }
}

/// The namespace, unless this thread is in it, and the user namespace that owns it, unless that is this thread's own or
/// one above: the kernel does not show those.
fn way_to(namespace: RawFd) -> Result<(Option<RawFd>, Option<OwnedFd>), Errno> {
    let types = NamespaceSet::from_bits(sys::namespace_type(namespace)?).ok_or(Errno::EINVAL)?;
    let (_, row) = types.rows().next().ok_or(Errno::EINVAL)?;
    if own_namespace(row.name)? == sys::identity(namespace)? {
        return Ok((None, None));
    }
    let own = own_namespace("user")?;
    let owner = sys::namespace_owner(namespace).ok();
    Ok((Some(namespace), owner.filter(|owner| sys::identity(owner.as_raw_fd()) != Ok(own))))
}

/// Device and inode of a namespace that this thread is in, by its name in `/proc/PID/ns`.
///
/// # Errors
///
/// `ENOENT` without `/proc`.
pub fn own_namespace(name: &str) -> Result<(u64, u64), Errno> {
    let path = CString::new(format!("/proc/thread-self/ns/{name}")).map_err(|_| Errno::EINVAL)?;
    sys::identity(sys::open_high(&path, libc::O_RDONLY)?.as_raw_fd())
}

/// What one child is told and tells.
struct Visit<'a> {
    /// The namespace to enter, or -1.
    target: RawFd,
    /// The user namespace in which the privilege to do that may lie, or -1.
    owner: RawFd,
    actions: &'a [Action<'a>],
    entered_owner: AtomicBool,
    /// Why the namespace could not be entered, or 0.
    refused: AtomicI32,
    outcomes: Vec<Outcome>,
    /// What was read, one piece behind the other.
    buffer: Vec<AtomicU8>,
    was_full: AtomicBool,
}

#[derive(Default)]
struct Outcome {
    done: AtomicBool,
    errno: AtomicI32,
    /// Where in the buffer it begins.
    start: AtomicUsize,
    length: AtomicUsize,
    /// 1 + the descriptor that was opened.
    opened: AtomicI32,
}

impl<'a> Visit<'a> {
    fn new(target: RawFd, owner: RawFd, actions: &'a [Action<'a>], size: usize) -> Self {
        Self {
            target,
            owner,
            actions,
            entered_owner: AtomicBool::new(false),
            refused: AtomicI32::new(0),
            outcomes: actions.iter().map(|_| Outcome::default()).collect(),
            buffer: std::iter::repeat_with(AtomicU8::default).take(size).collect(),
            was_full: AtomicBool::new(false),
        }
    }

    fn make(&self) -> Result<(), Errno> {
        let arena = Arena::take(false)?;
        let (none, unused) = (AtomicI32::new(-1), AtomicU32::new(0));
        let flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES) as u64;
        // Without an exit signal only who knows its pid can reap it.
        let stack = arena.stack(CHILD_STACK);
        let args = CloneArgs { flags, exit_signal: 0, stack, pidfd: &none, held: &unused, legacy: true };
        let before = sys::set_signal_mask(SignalMask::MAX)?;
        let cloned = sys::clone(args, child, self);
        let ended = cloned.map(sys::wait_for);
        sys::restore_signal_mask(before);
        ended?.ok();
        arena.give_back();
        match self.refused.load(Acquire) {
            0 => Ok(()),
            errno => Err(Errno::from_raw(errno)),
        }
    }

    fn answer(&self, outcome: &Outcome) -> Result<Answer, Errno> {
        if let Some(fd) = sys::adopt(outcome.opened.load(Acquire) - 1) {
            return Ok(Answer::Fd(fd));
        }
        if !outcome.done.load(Acquire) {
            return Err(Errno::ECANCELED);
        }
        match outcome.errno.load(Acquire) {
            0 => {
                let start = outcome.start.load(Acquire);
                let bytes = &self.buffer[start..start + outcome.length.load(Acquire)];
                Ok(Answer::Bytes(bytes.iter().map(|byte| byte.load(Acquire)).collect()))
            }
            errno => Err(Errno::from_raw(errno)),
        }
    }
}

// --------------------------------------------------------------------------------------- below here runs in the child

fn child(visit: &Visit<'_>) -> i32 {
    if let Err(errno) = visit.enter() {
        visit.refused.store(errno as i32, Release);
        return 1;
    }
    let mut free = visit.buffer.as_slice();
    for (action, outcome) in visit.actions.iter().zip(&visit.outcomes) {
        outcome.start.store(visit.buffer.len() - free.len(), Release);
        let length = match action.perform(free) {
            Ok(Done::Bytes(length)) => length,
            Ok(Done::Opened(fd)) => {
                outcome.opened.store(fd + 1, Release);
                0
            }
            Ok(Done::Full) => {
                visit.was_full.store(true, Release);
                return 1;
            }
            Err(errno) => {
                outcome.errno.store(errno as i32, Release);
                0
            }
        };
        outcome.length.store(length, Release);
        outcome.done.store(true, Release);
        free = free.get(length..).unwrap_or_default();
    }
    0
}

impl Visit<'_> {
    fn enter(&self) -> sys::Result<()> {
        if self.target < 0 {
            return Ok(());
        }
        match sys::setns(self.target, 0) {
            Err(Errno::EPERM) if self.owner >= 0 => {
                sys::setns(self.owner, 0)?;
                self.entered_owner.store(true, Release);
                sys::setns(self.target, 0)
            }
            result => result,
        }
    }
}

enum Done {
    /// So many were written to the buffer.
    Bytes(usize),
    Opened(RawFd),
    /// The buffer is too small.
    Full,
}

impl Action<'_> {
    fn perform(&self, free: &[AtomicU8]) -> sys::Result<Done> {
        match self {
            Self::Read(dir, path) => read(*dir, path, free),
            Self::Uname => {
                let Some(place) = free.first_chunk() else { return Ok(Done::Full) };
                sys::uname(place).map(|()| Done::Bytes(place.len()))
            }
            Self::RouteSocket => sys::route_socket().map(Done::Opened),
            Self::MountQueues => mount_queues().map(Done::Opened),
        }
    }
}

fn read(dir: RawFd, path: &CStr, free: &[AtomicU8]) -> sys::Result<Done> {
    let file = sys::openat(dir, path, libc::O_RDONLY | libc::O_NONBLOCK)?;
    let mut length = 0;
    let done = loop {
        let rest = free.get(length..).unwrap_or_default();
        if rest.is_empty() {
            break Ok(Done::Full);
        }
        match sys::read_into(file, rest) {
            Ok(0) => break Ok(Done::Bytes(length)),
            Ok(count) => length += count,
            Err(errno) => break Err(errno),
        }
    };
    sys::close(file);
    done
}

fn mount_queues() -> sys::Result<RawFd> {
    let context = match sys::fsopen(c"mqueue") {
        // The mount namespace is still the caller's, over which the user namespace that was entered has no power.
        Err(Errno::EPERM) => {
            sys::unshare(NamespaceSet::MNT.bits())?;
            sys::fsopen(c"mqueue")?
        }
        opened => opened?,
    };
    let mount = sys::fsconfig_create(context).and_then(|()| sys::fsmount(context));
    sys::close(context);
    mount
}
