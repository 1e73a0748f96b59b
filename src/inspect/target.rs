//! A process that is being looked into: it, and never another one that has got the same pid meanwhile.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{NamespaceId, pid_of_pidfd, procfs};
use crate::sys;

/// A process, by an open descriptor of its directory in `/proc`: what is read through that is of this process, or
/// fails with `ESRCH` once it has been reaped.
pub struct Target {
    pid: i32,
    number: i32,
    directory: OwnedFd,
}

impl Target {
    /// The calling process.
    ///
    /// # Errors
    ///
    /// `ENOENT` without a `/proc` of its own pid namespace or one above.
    pub fn caller() -> Result<Self, Errno> {
        let mut buffer = [0; 16];
        let number =
            procfs::number(sys::read_link(libc::AT_FDCWD, c"/proc/self", &mut buffer)?).ok_or(Errno::ENOENT)?;
        Ok(Self { pid: sys::getpid(), number, directory: open_directory("self")? })
    }

    /// The process with this number in the caller's pid namespace.
    ///
    /// # Errors
    ///
    /// `ESRCH` when there is none; `ENOENT` or `EPERM` when there is one, but not in this `/proc`: that of another pid
    /// namespace, or it hides the processes of others (`hidepid`, see proc(5)); `EINVAL` for a thread.
    pub fn of_pid(pid: i32) -> Result<Self, Errno> {
        // For a thread that leads no process it was EINVAL at first, and is ENOENT now.
        let pidfd = sys::pidfd_open(pid).map_err(|errno| if errno == Errno::ENOENT { Errno::EINVAL } else { errno })?;
        Self::of_pidfd(pid, pidfd.as_raw_fd())
    }

    /// The process behind a pidfd, which the caller knows by this number.
    ///
    /// # Errors
    ///
    /// As [`Target::of_pid`].
    pub fn of_pidfd(pid: i32, pidfd: RawFd) -> Result<Self, Errno> {
        // This /proc may number it otherwise: it may be that of a pid namespace above the caller's.
        let number = match pid_of_pidfd(pidfd) {
            Some(number) if number > 0 => number,
            Some(-1) => return Err(Errno::ESRCH),
            _ => return Err(Errno::ENOENT),
        };
        let opened = open_directory(&number.to_string()).and_then(|directory| {
            // Of a hidden one there may be the directory, but nothing in it.
            sys::open_at(directory.as_raw_fd(), c"stat", libc::O_PATH).map(|_| directory)
        });
        // As long as it has not been reaped, nobody else can have got its number.
        match sys::pidfd_probe(pidfd) {
            Err(Errno::ESRCH) => Err(Errno::ESRCH),
            _ => Ok(Self { pid, number, directory: opened? }),
        }
    }

    /// Whoever has this number in `/proc` now.
    pub(super) fn of_number(number: i32) -> Result<Self, Errno> {
        Ok(Self { pid: number, number, directory: open_directory(&number.to_string())? })
    }

    /// Its number in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its number in `/proc`, which may be that of a pid namespace above the caller's.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.number
    }

    /// Its directory in `/proc`, for paths relative to it; it cannot be read itself (`O_PATH`).
    #[must_use]
    pub fn directory(&self) -> RawFd {
        self.directory.as_raw_fd()
    }

    /// Whether it still runs: not reaped, no zombie, and not on the way there.
    #[must_use]
    pub fn runs(&self) -> bool {
        const PF_EXITING: u32 = 4;
        let stat = self.read(c"stat").unwrap_or_default();
        let mut fields = procfs::words(procfs::after_name(&stat));
        let is_alive = fields.next().is_some_and(|state| !matches!(state, b"Z" | b"X"));
        is_alive && fields.nth(5).and_then(procfs::number).is_some_and(|flags: u32| flags & PF_EXITING == 0)
    }

    /// The contents of one of its files.
    ///
    /// # Errors
    ///
    /// What open(2) and read(2) say; `ESRCH` when it is gone.
    pub fn read(&self, name: &CStr) -> Result<Vec<u8>, Errno> {
        sys::read_file(self.directory(), name)
    }

    /// Opens one of its files.
    ///
    /// # Errors
    ///
    /// What open(2) says; `EACCES` when it may not be inspected, see ptrace(2).
    pub fn open(&self, name: &CStr) -> Result<OwnedFd, Errno> {
        sys::open_at(self.directory(), name, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY)
    }

    /// One of its namespaces, by the name of the link in `/proc/PID/ns`; `None` where this kernel has no such type.
    ///
    /// # Errors
    ///
    /// `EACCES` when it may not be inspected, `ESRCH` when it has ended.
    pub fn namespace(&self, link: &str) -> Result<Option<NamespaceId>, Errno> {
        let path = procfs::c_path(format!("ns/{link}"))?;
        match self.open(&path) {
            Ok(file) => NamespaceId::of_file(file.as_raw_fd()).map(Some),
            Err(Errno::ENOENT) if self.runs() => Ok(None),
            Err(Errno::ENOENT) => Err(Errno::ESRCH),
            Err(errno) => Err(errno),
        }
    }
}

fn open_directory(name: &str) -> Result<OwnedFd, Errno> {
    let path = procfs::c_path(format!("/proc/{name}"))?;
    sys::open_at(libc::AT_FDCWD, &path, libc::O_PATH | libc::O_DIRECTORY)
}
