//! A child that executes its program: pid, pidfd, exit status, signals.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::sys::{self, Waited};

/// How a process ended.
#[derive(Clone, Copy)]
pub struct Exit {
    /// The exit status, or minus the signal.
    pub returncode: i32,
    /// What it used; unknown when somebody else has reaped it.
    pub rusage: Option<libc::rusage>,
}

impl From<Waited> for Exit {
    fn from(waited: Waited) -> Self {
        let returncode = if waited.code == libc::CLD_EXITED { waited.status } else { -waited.status };
        Self { returncode, rusage: Some(waited.rusage) }
    }
}

impl Exit {
    fn from_wait_status(status: i32) -> Self {
        let signal = status & 0x7f;
        let returncode = if signal == 0 { status >> 8 & 0xff } else { -signal };
        Self { returncode, rusage: None }
    }
}

/// A child process. Nothing is reaped before [`Process::poll`] or [`Process::wait`].
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
    init: Option<AboveProgram>,
    exit: Mutex<Option<Exit>>,
    /// How many threads are in waitid, or have come out of it and are about to keep what it said.
    reaping: AtomicUsize,
}

/// The init above the program: our child, and the program's parent.
pub(crate) struct AboveProgram {
    pub pidfd: OwnedFd,
    /// Where it leaves the program's wait status.
    pub socket: OwnedFd,
}

impl Process {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd, init: Option<AboveProgram>) -> Self {
        Self { pid, pidfd, init, exit: Mutex::new(None), reaping: AtomicUsize::new(0) }
    }

    /// Our child: it is over when that is. An init ends right after its program, with all that is in its namespace.
    fn child(&self) -> BorrowedFd<'_> {
        self.init.as_ref().map_or(self.pidfd.as_fd(), |init| init.pidfd.as_fd())
    }

    pub(crate) fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// The pid in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The pidfd.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended, if that is known already.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        *self.state()
    }

    /// Its return code, if that is known already.
    #[must_use]
    pub fn returncode(&self) -> Option<i32> {
        self.state().as_ref().map(|exit| exit.returncode)
    }

    fn state(&self) -> MutexGuard<'_, Option<Exit>> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reaps it if it has ended, and returns its return code.
    ///
    /// # Errors
    ///
    /// What waitid(2) says, other than that there is nothing to wait for.
    pub fn poll(&self) -> Result<Option<i32>, Errno> {
        if let Some(known) = self.returncode() {
            return Ok(Some(known));
        }
        match self.reap(libc::WNOHANG) {
            Err(Errno::ECHILD) => self.taken(),
            waited => waited,
        }
    }

    fn reap(&self, options: i32) -> Result<Option<i32>, Errno> {
        self.reaping.fetch_add(1, Ordering::AcqRel);
        let waited = sys::waitid(self.child(), options);
        let returncode = waited.map(|waited| waited.map(|waited| self.keep(waited.into())));
        self.reaping.fetch_sub(1, Ordering::AcqRel);
        returncode
    }

    /// What it used is known to the one thread that has reaped it, and to nobody who came later.
    fn keep(&self, mut exit: Exit) -> i32 {
        let mut state = self.state();
        // A PID 1 cannot end by the program's signal, so it says how that ended, unless it was killed itself.
        if let Some(status) = self.init.as_ref().and_then(|init| sys::receive_number(init.socket.as_fd())) {
            exit.returncode = Exit::from_wait_status(status).returncode;
        } else if let (Some(known), true) = (*state, self.init.is_some()) {
            exit.returncode = known.returncode;
        }
        if state.is_none_or(|known| known.rusage.is_none()) {
            *state = Some(exit);
        }
        exit.returncode
    }

    /// Another thread has reaped it, or another part of the program, or the kernel as SIGCHLD is ignored. How it ended
    /// the kernel still knows (Linux 6.15); before that, 0 is what `subprocess` says.
    fn taken(&self) -> Result<Option<i32>, Errno> {
        if !self.has_ended()? {
            // Not our child: this is a fork of the process that made it.
            return Ok(None);
        }
        let start = Instant::now();
        loop {
            // Asked before the rest: who is no longer reaping has kept what it got.
            let is_ours = self.reaping.load(Ordering::Acquire) > 0;
            let status = sys::pidfd_exit_status(self.child());
            if let Ok(Some(status)) = status {
                return Ok(Some(self.keep(Exit::from_wait_status(status))));
            }
            if let Some(known) = self.returncode() {
                return Ok(Some(known));
            }
            // The pidfd says that it has ended a moment before it says how. A fork inherits the count, not the threads.
            let patience = match status {
                _ if is_ours => Duration::from_secs(1),
                Err(Errno::ENOTTY) => Duration::ZERO,
                _ => Duration::from_millis(50),
            };
            if start.elapsed() >= patience {
                return Ok(Some(self.keep(Exit::from_wait_status(0))));
            }
            thread::yield_now();
        }
    }

    fn has_ended(&self) -> Result<bool, Errno> {
        loop {
            match sys::poll_readable(self.child().as_raw_fd(), Some(Duration::ZERO)) {
                // A signal interrupts this even though it does not sleep.
                Err(Errno::EINTR) => {}
                ended => return ended,
            }
        }
    }

    /// Sleeps until it ends, reaps it and returns its return code; `None` if the time is over before.
    ///
    /// # Errors
    ///
    /// `EINTR` when a signal handler ran: call again.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Option<i32>, Errno> {
        if let Some(known) = self.returncode() {
            return Ok(Some(known));
        }
        if timeout.is_none() {
            // Without a time to look at, one system call does it.
            match self.reap(0) {
                Ok(None) | Err(Errno::ECHILD) => {}
                waited => return waited,
            }
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if !sys::poll_readable(self.child().as_raw_fd(), left)? {
                return Ok(None);
            }
            if let Some(returncode) = self.poll()? {
                return Ok(Some(returncode));
            }
            // A tracer has it: dead, but not yet ours.
            thread::yield_now();
        }
    }

    /// SIGKILL, and the status is nobody's; returns the signal that ended it, or 0.
    pub(crate) fn kill_and_reap(&self) -> i32 {
        let _ = self.send_signal(libc::SIGKILL);
        while self.wait(None).is_err_and(|errno| errno == Errno::EINTR) {}
        self.exit().map_or(0, |exit| -exit.returncode.min(0))
    }

    /// Sends a signal to this process and no other; to one that has ended, does nothing.
    ///
    /// # Errors
    ///
    /// What `pidfd_send_signal(2)` says.
    pub fn send_signal(&self, signal: i32) -> Result<(), Errno> {
        match sys::pidfd_send_signal(self.pidfd(), signal) {
            Err(Errno::ESRCH) => Ok(()),
            result => result,
        }
    }
}
