//! Takes the calling process into namespaces: for a fork of a Python process, which nothing else shares memory with.
//!
//! [`crate::spawn`] cannot do that, because what it makes shares memory with its caller until it executes. So a spawned
//! process holds the namespaces, set up, and the fork joins it. What stays for the fork is what no other process can do
//! for it: the first process of a pid namespace has to be born there, and mounts the proc(5) that shows it.

use std::fs;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;

use crate::dumpable::KeepDumpable;
use crate::error::Error;
use crate::inspect;
use crate::namespace::NamespaceSet;
use crate::plan::Plan;
use crate::sys;

/// What is to become of the pid namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pid {
    /// The one of the process that is joined.
    Join,
    /// A new one, in which the next child will be the first.
    New,
    /// This process is where it should be.
    Keep,
}

/// Enters the namespaces in which the process behind a pidfd differs from this one. Returns whether a child is needed to
/// be inside. From then on this process ends with its parent.
///
/// # Errors
///
/// The refused step; [`Error::Invalid`] in a process with several threads, which the kernel would refuse only for some
/// of the types, after it has entered others.
pub fn enter(pidfd: RawFd, pid: Pid) -> Result<bool, Error> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(Error::Invalid(format!("this process has {threads} threads: a process enters as a whole")));
    }
    let _keep = KeepDumpable::new();
    let mut types = inspect::types_of_fd(pidfd).unwrap_or(NamespaceSet::EMPTY);
    if pid != Pid::Join {
        types = types.without(NamespaceSet::PID);
    }
    setns(pidfd, types)?;
    if pid == Pid::New {
        let pid = NamespaceSet::PID;
        sys::unshare(pid.bits()).map_err(|errno| Error::Step { step: "unshare", detail: pid.to_string(), errno })?;
    }
    die_with_parent()?;
    Ok(pid == Pid::New || types.contains(NamespaceSet::PID))
}

/// Lets the next child of the calling thread be the first process of a new pid namespace: a fork of a large process costs
/// so much that one should do where it can. `false` where the kernel wants privileges for it that this process lacks.
///
/// # Errors
///
/// The refused step.
pub fn unshare_pid() -> Result<bool, Error> {
    let pid = NamespaceSet::PID;
    match sys::unshare(pid.bits()) {
        Ok(()) => Ok(true),
        Err(Errno::EPERM) => Ok(false),
        Err(errno) => Err(Error::Step { step: "unshare", detail: pid.to_string(), errno }),
    }
}

/// Lets the next child of the calling thread be born in the thread's own pid namespace again.
///
/// # Errors
///
/// The refused step.
pub fn rejoin_pid() -> Result<(), Error> {
    let pid = NamespaceSet::PID;
    let refused = |step, errno| Error::Step { step, detail: pid.to_string(), errno };
    let own = inspect::open_path(c"/proc/thread-self/ns/pid").map_err(|errno| refused("open_ns", errno))?;
    sys::setns(own.as_raw_fd(), pid.bits()).map_err(|errno| refused("setns", errno))
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

/// The rest, once inside: a fresh proc(5) where the plan has one, and orphans come to this process instead of leaving
/// its sight.
///
/// # Errors
///
/// The refused step.
pub fn settle(plan: &Plan) -> Result<(), Error> {
    for (_, step) in &plan.steps {
        if let Some(mounted) = step.mount_in_place() {
            mounted.map_err(|errno| Error::Step { step: step.name(), detail: step.detail(), errno })?;
        }
    }
    prctl("subreaper", libc::PR_SET_CHILD_SUBREAPER, 1)?;
    die_with_parent()
}

/// By SIGKILL, which a PID 1 takes too. A change of credentials, such as another user namespace, clears the request.
fn die_with_parent() -> Result<(), Error> {
    prctl("pdeathsig", libc::PR_SET_PDEATHSIG, u64::from(libc::SIGKILL.cast_unsigned()))
}

fn prctl(step: &'static str, option: i32, value: u64) -> Result<(), Error> {
    let refused = |errno| Error::Step { step, detail: value.to_string(), errno };
    sys::prctl(option, value).map(|_| ()).map_err(refused)
}
