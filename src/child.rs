//! The code that runs between clone and exec.
//!
//! # READ THIS BEFORE CHANGING A LINE
//!
//! 1. The child shares all memory with a process that has other threads. One of them may hold malloc's lock, or any
//!    other, at the moment of the clone; in the child nobody will ever release it. So nothing here allocates, frees,
//!    locks, formats, prints or panics.
//! 2. What the child writes, the parent sees. So nothing here is dropped, no thread-local (errno!) is touched, and the
//!    only memory written is the child's own stack and the [`Report`].
//! 3. An unwinding child would run the parent's destructors; a returning one, its exit handlers. So the only ways out
//!    are execve and `exit_group`.
//! 4. Signals are blocked and handlers reset: a handler of the parent would run here, on shared memory.
//!
//! Everything that a step needs has been prepared by [`crate::plan`] and [`crate::spawn`].

mod clones;
mod descriptors;
mod namespaces;

pub use self::namespaces::MAX_JOINS;

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use nix::errno::Errno;

use crate::arena::Arena;
use crate::extras::{Extras, raw};
use crate::plan::{Plan, Side};
use crate::report::{ABORT, GO, Progress, Report, WAIT};
use crate::step::{Exec, Step};
use crate::sys::{self, CStrArray, SignalMask};
use crate::time::Passage;

/// One run of a plan: all that the child side may look at.
pub struct Run<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// Where to say how it went.
    pub report: &'a Report,
    /// Where the stacks are.
    pub arena: &'a Arena,
    /// What becomes 0, 1 and 2; -1 leaves it.
    pub stdio: [RawFd; 3],
    /// What the calling thread had blocked.
    pub mask: SignalMask,
    /// The clock of the timeline.
    pub clock: libc::clockid_t,
    /// What only some plans need.
    pub extras: &'a Extras,
}

/// What a child needs to enter a time namespace.
pub struct TimeEntry<'a> {
    /// The namespace.
    pub namespace: RawFd,
    /// The file of the program in between, and its arguments.
    pub image: RawFd,
    /// Where that writes what fails.
    pub report: RawFd,
    /// Its arguments: the descriptors, and the program with its own.
    pub argv: &'a CStrArray,
}

/// The child: its steps, ending in execve.
pub fn child(run: &Run<'_>) -> i32 {
    perform(run, Side::Child, &run.report.child);
    127
}

/// The init above a program: sets the namespaces up, makes the child, becomes what reaps.
pub fn init(run: &Run<'_>) -> i32 {
    perform(run, Side::Init, &run.report.init);
    127
}

/// The process in between: enters the namespaces to join, makes the child there, writes its id maps from outside.
pub fn intermediate(run: &Run<'_>) -> i32 {
    let report = run.report;
    let done = perform(run, Side::Intermediate, &report.intermediate);
    report.go.store(if done { GO } else { ABORT }, Release);
    sys::futex_wake(&report.go);
    // The caller waits until the child has left its memory; a copy of it is the child's for as long as we live.
    while run.plan.copies_memory() && report.held.load(Acquire) != 0 {
        sys::futex_wait(&report.held, 1);
    }
    0
}

fn perform(run: &Run<'_>, side: Side, progress: &Progress) -> bool {
    let report = run.report;
    let mut stage = 0;
    for ((owner, step), [started, ended]) in run.plan.steps.iter().zip(&report.times) {
        stage += 1;
        if *owner != side {
            continue;
        }
        progress.stage.store(stage, Release);
        started.store(sys::clock(run.clock), Relaxed);
        let result = match step {
            Step::Clone(_) if side == Side::Init => run.clone_program(),
            Step::Clone(types) => run.clone_child(*types),
            other => other.run(run),
        };
        if let Err(errno) = result {
            progress.errno.store(errno as i32, Release);
            return false;
        }
        ended.store(sys::clock(run.clock), Relaxed);
    }
    true
}

impl Run<'_> {
    /// The program is not a child of the caller, which learns of it before anybody can reap it: the pidfd, and, as the
    /// kernel translates it for the receiver, the pid.
    pub(crate) fn send_pidfd(&self) -> sys::Result<()> {
        if self.report.ignored.load(Relaxed) != 0 {
            sys::ignore_signal(libc::SIGCHLD)?;
        }
        let pidfd = sys::pidfd_of_self()?;
        sys::send_fd(self.socket(), pidfd)
    }

    /// The init's end; -1 unless it stands above the program.
    fn socket(&self) -> RawFd {
        raw(self.extras.sockets.as_ref().map(|(_, of_init)| of_init))
    }

    /// Becomes the program in between, which must keep the capability to enter also as an ordinary user.
    pub(crate) fn enter_time(&self) -> Errno {
        let (Some(entry), Some(exec)) = (self.time(), self.plan.exec()) else { return Errno::EINVAL };
        sys::pass_on_sys_admin();
        let passed = sys::set_inheritable(entry.namespace).and_then(|()| sys::set_inheritable(entry.report));
        passed.err().unwrap_or_else(|| sys::execveat(entry.image, entry.argv, Some(&exec.envp)))
    }

    /// How to enter a time namespace.
    fn time(&self) -> Option<TimeEntry<'_>> {
        self.extras.passage.as_ref().map(Passage::entry)
    }

    pub(crate) fn await_maps(&self) -> sys::Result<()> {
        loop {
            match self.report.go.load(Acquire) {
                WAIT => sys::futex_wait(&self.report.go, WAIT),
                GO => return Ok(()),
                _ => sys::exit(127),
            }
        }
    }

    /// `path` begins with `/proc/`, which may be missing or another one in a mount namespace that was joined.
    pub(crate) fn write_proc(&self, path: &CStr, text: &[u8]) -> sys::Result<()> {
        let proc = raw(self.extras.proc.as_ref());
        let below = path.to_bytes_with_nul().get("/proc/".len()..).unwrap_or_default();
        let file = match CStr::from_bytes_with_nul(below) {
            Ok(below) if proc >= 0 => sys::openat(proc, below, libc::O_WRONLY)?,
            _ => sys::openat(libc::AT_FDCWD, path, libc::O_WRONLY)?,
        };
        let written = sys::write(file, text);
        sys::close(file);
        written.map(|_| ())
    }

    /// Writes `/proc/PID/<name>` of the child.
    pub(crate) fn write_childs(&self, name: &str, text: &[u8]) -> sys::Result<()> {
        let mut path = [0u8; 32];
        let pid = self.report.pid_text.iter().map(|digit| digit.load(Relaxed)).take(10);
        // /proc has no leading zeros.
        let digits = pid.skip_while(|digit| *digit == b'0');
        let bytes = b"/proc/".iter().copied().chain(digits).chain(*b"/").chain(name.bytes());
        for (to, from) in path.iter_mut().take(31).zip(bytes) {
            *to = from;
        }
        let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::ENAMETOOLONG)?;
        self.write_proc(path, text)
    }

    /// The signal follows the thread that cloned; if that is gone already, the signal would never come.
    pub(crate) fn parent_death_signal(&self, signal: i32) -> sys::Result<()> {
        sys::prctl(libc::PR_SET_PDEATHSIG, u64::from(signal.cast_unsigned()))?;
        if sys::poll_readable(raw(self.extras.thread.as_ref()), Some(Duration::ZERO))? {
            sys::exit(128 + signal);
        }
        Ok(())
    }
}

/// Searches as `os.execvpe` does: the first error that is not "no such file" wins.
pub(crate) fn execve(exec: &Exec) -> Errno {
    let mut first = None;
    let mut last = Errno::ENOENT;
    for path in &exec.candidates {
        last = sys::execve(path, &exec.argv, Some(&exec.envp));
        if first.is_none() && !matches!(last, Errno::ENOENT | Errno::ENOTDIR) {
            first = Some(last);
        }
    }
    first.unwrap_or(last)
}
