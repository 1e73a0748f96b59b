//! The names of a UTS namespace, see uname(2).

use std::os::fd::RawFd;

use nix::errno::Errno;

use crate::visit::{Action, visit};

/// The host name and the NIS domain name.
///
/// # Errors
///
/// What [`visit`] says.
pub fn names(namespace: RawFd) -> Result<[Vec<u8>; 2], Errno> {
    let mut answers = visit(namespace, &[Action::Uname])?.answers;
    let names = answers.pop().unwrap_or(Err(Errno::ECANCELED))?.bytes();
    // sysname, nodename, release, version, machine, domainname
    let name = |place: usize| names.chunks(65).nth(place).unwrap_or_default().split(|byte| *byte == 0).next();
    Ok([name(1), name(5)].map(|name| name.unwrap_or_default().to_vec()))
}
