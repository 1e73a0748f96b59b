//! The init's program: where it comes from, and how it is executed.
//!
//! A program of a few KiB without libc (see `init/main.rs`), because a copy of this process would keep its memory, and
//! the cost of making it would grow with that. It is executed from memory, so there is no file to install or to find.

use std::env;
use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;

use crate::sys;

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// What stands above the programs of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// An init for the program, which is its child: it reaps orphans, and ends with the program.
    AboveProgram,
    /// An init is the program: it keeps the namespaces until the process ends whose pidfd is its standard input.
    Alone,
}

/// A file that can be executed and has no name, so that nothing is left of it.
///
/// # Errors
///
/// `EACCES` where `vm.memfd_noexec` is 2 and every directory for temporary files is on a mount with noexec.
pub fn open() -> Result<OwnedFd, Errno> {
    match sys::memfd_of_program(c"nslab-init") {
        Ok(memory) => {
            sys::write(memory.as_raw_fd(), PROGRAM)?;
            Ok(memory)
        }
        Err(Errno::EACCES | Errno::ENOSYS) => directories().find_map(|path| unnamed(path).ok()).ok_or(Errno::EACCES),
        Err(errno) => Err(errno),
    }
}

fn directories() -> impl Iterator<Item = OsString> {
    let fixed = ["/dev/shm", "/tmp", "/var/tmp"].map(OsString::from);
    ["TMPDIR", "XDG_RUNTIME_DIR"].into_iter().filter_map(env::var_os).chain(fixed)
}

/// A file without a name in this directory.
fn unnamed(directory: OsString) -> Result<OwnedFd, Errno> {
    let directory = CString::new(directory.into_vec()).map_err(|_| Errno::EINVAL)?;
    let writer = sys::open_unnamed(&directory)?;
    sys::write(writer.as_raw_fd(), PROGRAM)?;
    let path = CString::new(format!("/proc/self/fd/{}", writer.as_raw_fd())).map_err(|_| Errno::EINVAL)?;
    sys::may_execute(&path)?;
    // What is open for writing cannot be executed (ETXTBSY), so it is opened again.
    sys::open_high(&path, libc::O_RDONLY)
}
