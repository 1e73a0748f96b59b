//! Takes the calling process into namespaces: for a fork of a Python process, which nothing else shares memory with.
//!
//! [`crate::spawn`] cannot do that, because what it makes shares memory with its caller until it executes. So a spawned
//! process holds the namespaces, set up, and the fork joins it. What stays for the fork is what no other process can do
//! for it: the first process of a pid namespace has to be born there, and mounts the proc(5) that shows it.

use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicI32, AtomicU32};
use std::time::Duration;

use nix::errno::Errno;

use crate::dumpable::KeepDumpable;
use crate::error::Error;
use crate::inspect;
use crate::namespace::NamespaceSet;
use crate::plan::Plan;
use crate::sys::{self, Mapping};

/// Memory that a process shares with a fork: who holds the namespaces, and who goes on for the fork.
pub struct Handshake(Mapping);

/// Pids as the process that forks knows them; 0 is nobody yet.
#[repr(C)]
pub struct Pids {
    /// Futex.
    holder: AtomicU32,
    successor: AtomicI32,
}

impl Handshake {
    /// Nobody yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self, Errno> {
        Mapping::new(size_of::<Pids>(), true).map(Self)
    }

    /// Lets the fork enter the namespaces of this process.
    pub fn let_in(&self, holder: u32) {
        self.pids().holder.store(holder, Release);
        sys::futex_wake(&self.pids().holder);
    }

    /// Who goes on for the fork, or 0.
    #[must_use]
    pub fn successor(&self) -> i32 {
        self.pids().successor.load(Acquire)
    }

    fn holder(&self) -> i32 {
        loop {
            match self.pids().holder.load(Acquire) {
                0 => sys::futex_wait(&self.pids().holder, 0),
                pid => return pid.cast_signed(),
            }
        }
    }

    fn pids(&self) -> &Pids {
        self.0.view(0)
    }
}

/// Takes this process, a fork, into the namespaces of the holder and into the new pid namespace of the plan, as soon as it
/// is let in. Nobody changes his own pid namespace, so there it goes on as another process. The plan's proc(5) is
/// mounted, orphans come here instead of leaving its sight, and it ends with `parent`, a pidfd.
///
/// # Errors
///
/// The refused step; [`Error::Invalid`] in a process with several threads, which the kernel would refuse only for some
/// of the types, after it has entered others.
pub fn enter(plan: &Plan, parent: RawFd, handshake: &Handshake) -> Result<(), Error> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(Error::Invalid(format!("this process has {threads} threads: a process enters as a whole")));
    }
    end_with(parent)?;
    let holder = handshake.holder();
    let refused = |step, types: NamespaceSet| move |errno| Error::Step { step, detail: types.to_string(), errno };
    let _keep = KeepDumpable::new();
    let pid = NamespaceSet::PID;
    let pidfd = sys::pidfd_open(holder).map_err(refused("pidfd_open", NamespaceSet::EMPTY))?;
    let mut types = inspect::types_of_fd(pidfd.as_raw_fd()).unwrap_or(NamespaceSet::EMPTY);
    let new_pid = plan.options.flags.contains(pid);
    if new_pid {
        types = types.without(pid);
    }
    setns(pidfd.as_raw_fd(), types)?;
    if new_pid {
        sys::unshare(pid.bits()).map_err(refused("unshare", pid))?;
    }
    if new_pid || types.contains(pid) {
        sys::go_on_as_child(&handshake.pids().successor).map_err(refused("clone", pid))?;
    }
    for (_, step) in &plan.steps {
        if let Some(mounted) = step.mount_in_place() {
            mounted.map_err(|errno| Error::Step { step: step.name(), detail: step.detail(), errno })?;
        }
    }
    prctl("subreaper", libc::PR_SET_CHILD_SUBREAPER, 1)?;
    // Another process, and a change of credentials such as another user namespace, have cleared the request.
    end_with(parent)
}

/// By SIGKILL, which a PID 1 takes too; now, if the parent has ended before there was a request.
fn end_with(parent: RawFd) -> Result<(), Error> {
    prctl("pdeathsig", libc::PR_SET_PDEATHSIG, u64::from(libc::SIGKILL.cast_unsigned()))?;
    if sys::poll_readable(parent, Some(Duration::ZERO)) == Ok(true) {
        sys::exit(1);
    }
    Ok(())
}

/// Twice around the user namespace, as for a child: what this process may not enter now, it may after it has entered
/// that one; what it may enter only now, it must before. The mount namespace comes last, as it changes the root.
fn setns(pidfd: RawFd, types: NamespaceSet) -> Result<(), Error> {
    let (user, mnt) = (NamespaceSet::USER, NamespaceSet::MNT);
    let others = types.without(user.union(mnt));
    let has_user = types.contains(user);
    let mut left = types;
    for (wanted, may_fail) in [(others, has_user), (mnt, has_user), (user, false), (others, false), (mnt, false)] {
        for (_, row) in wanted.rows() {
            let one = NamespaceSet::from_bits(row.flag).unwrap_or_default();
            if !left.contains(one) || one.is_empty() {
                continue;
            }
            match sys::setns(pidfd, row.flag) {
                Ok(()) => left = left.without(one),
                Err(Errno::EPERM) if may_fail => {}
                Err(errno) => return Err(Error::Step { step: "setns", detail: one.to_string(), errno }),
            }
        }
    }
    Ok(())
}

fn prctl(step: &'static str, option: i32, value: u64) -> Result<(), Error> {
    let refused = |errno| Error::Step { step, detail: value.to_string(), errno };
    sys::prctl(option, value).map(|_| ()).map_err(refused)
}
