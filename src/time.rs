//! Entering a time namespace: only who shares its memory with nobody may, see setns(2). A copy of this process could,
//! but would cost as much as this process is large. So the child executes a program of 3 KiB (see `init/main.rs`),
//! which enters the namespace and executes the program that was meant.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::child::TimeEntry;
use crate::init;
use crate::inspect;
use crate::namespace::NamespaceSet;
use crate::plan::Plan;
use crate::step::Exec;
use crate::sys::{self, CStrArray};

/// What the parent prepares for it, and has to hold until the child has left its memory.
pub struct Passage {
    namespace: OwnedFd,
    image: OwnedFd,
    report: OwnedFd,
    write: OwnedFd,
    argv: CStrArray,
}

/// Where a passage ended.
pub enum Stopped {
    /// In front of either, and nobody says why.
    Died,
    /// The namespace could not be entered.
    Setns(Errno),
    /// The program could not be executed.
    Execve(Errno),
}

impl Passage {
    /// `namespace` is the caller's descriptor of it, or of a process that is in it.
    ///
    /// # Errors
    ///
    /// What open(2) says of the namespace, and where there is no room for more descriptors.
    pub fn prepare(plan: &Plan, exec: &Exec, namespace: RawFd) -> Result<Self, Errno> {
        let namespace = open(namespace)?;
        let image = init::open()?;
        let (report, write) = sys::pipe()?;
        let (ambient, inheritable) = sys::has_sys_admin_to_pass_on();
        // A user namespace that is entered empties both sets.
        let user = plan.options.join.iter().any(|join| join.types.contains(NamespaceSet::USER));
        let lower = u8::from(user || !ambient) | u8::from(user || !inheritable) << 1;
        let number = |value: usize| CString::new(value.to_string()).unwrap_or_default();
        let fd = |fd: &OwnedFd| number(usize::try_from(fd.as_raw_fd()).unwrap_or(0));
        let words = [c"nslab-time".to_owned(), fd(&namespace), fd(&write), number(lower.into())];
        let words = words.into_iter().chain([number(exec.candidates.len())]).chain(exec.candidates.iter().cloned());
        let argv = CStrArray::new(words.chain(exec.argv.iter().map(CStr::to_owned)));
        Ok(Self { namespace, image, report, write, argv })
    }

    /// What the child may look at.
    pub fn entry(&self) -> TimeEntry<'_> {
        let (namespace, image, report) = (&self.namespace, &self.image, &self.write);
        let [namespace, image, report] = [namespace, image, report].map(AsRawFd::as_raw_fd);
        TimeEntry { namespace, image, report, argv: &self.argv }
    }

    /// Waits until the program executes, or nothing does.
    pub fn outcome(self) -> Option<Stopped> {
        drop(self.write);
        let mut executes = false;
        loop {
            let words = match sys::read_words(self.report.as_fd()) {
                Ok(words) => words.map(|words| words.map(i32::from_ne_bytes)),
                Err(errno) => return Some(Stopped::Setns(errno)),
            };
            match words {
                Some([0, errno]) => return Some(Stopped::Setns(Errno::from_raw(errno))),
                Some([1, errno]) => return Some(Stopped::Execve(Errno::from_raw(errno))),
                // From here on the end of the file is the program's, or that of who was killed in its execve.
                Some(_) => executes = true,
                None => return (!executes).then_some(Stopped::Died),
            }
        }
    }
}

/// A descriptor of the namespace itself, above 2, where nothing is moved over it.
fn open(fd: RawFd) -> Result<OwnedFd, Errno> {
    const PIDFD_GET_TIME_NAMESPACE: u8 = 7;
    match sys::pidfd_namespace(fd, PIDFD_GET_TIME_NAMESPACE) {
        Ok(raw) => sys::adopt(raw).ok_or(Errno::EBADF).and_then(sys::above_stdio),
        // No pidfd, or one before Linux 6.11.
        Err(Errno::ENOTTY | Errno::EINVAL) => match inspect::pid_of_pidfd(fd) {
            Some(pid) => {
                let path = CString::new(format!("/proc/{pid}/ns/time")).map_err(|_| Errno::EINVAL)?;
                sys::open_high(&path, libc::O_RDONLY)
            }
            None => sys::dup_owned(fd),
        },
        Err(errno) => Err(errno),
    }
}
