//! The clocks that a time namespace shifts, see time_namespaces(7).

use nix::errno::Errno;

use super::{Target, all_pids, procfs};
use crate::sys;

/// The inode of the initial time namespace: the kernel's `PROC_TIME_INIT_INO`.
const INITIAL: u64 = 0xEFFF_FFFA;

/// The clocks of a process, in nanoseconds.
pub struct Clocks {
    /// The offsets of `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` against the initial time namespace.
    pub offsets: [i64; 2],
    /// What the two show in that process.
    pub shifted: [i64; 2],
    /// `CLOCK_REALTIME`, which nobody shifts.
    pub realtime: i64,
}

impl Clocks {
    /// # Errors
    ///
    /// What [`Target::read`] says; `ENODATA` when no process shows the offsets.
    pub fn read(target: &Target) -> Result<Self, Errno> {
        let offsets = offsets(target)?;
        let own = offsets_of_caller()?;
        let now = |id| i64::try_from(sys::clock(id)).unwrap_or(i64::MAX);
        let here = [now(libc::CLOCK_MONOTONIC), now(libc::CLOCK_BOOTTIME)];
        let realtime = now(libc::CLOCK_REALTIME);
        let mut shifted = here;
        for (index, clock) in shifted.iter_mut().enumerate() {
            *clock += offsets[index] - own[index];
        }
        Ok(Self { offsets, shifted, realtime })
    }
}

fn offsets_of_caller() -> Result<[i64; 2], Errno> {
    offsets(&Target::caller()?)
}

/// `timens_offsets` is of the namespace that the *children* will be in: not always that of the process.
fn offsets(target: &Target) -> Result<[i64; 2], Errno> {
    let own = match target.namespace("time") {
        Ok(Some(own)) => own,
        // A kernel without time namespaces.
        Ok(None) => return Ok([0, 0]),
        // Nobody but the process itself can make the two differ, and hardly anybody does.
        Err(Errno::EACCES) => return parse(&target.read(c"timens_offsets")?),
        Err(errno) => return Err(errno),
    };
    if own.inode == INITIAL {
        return Ok([0, 0]);
    }
    let shows = |target: &Target| target.namespace("time_for_children") == Ok(Some(own));
    if shows(target) {
        return parse(&target.read(c"timens_offsets")?);
    }
    let others = all_pids().filter_map(|number| Target::of_number(number).ok());
    let other = others.into_iter().find(shows).ok_or(Errno::ENODATA)?;
    parse(&other.read(c"timens_offsets")?)
}

/// `monotonic`, seconds, nanoseconds; `boottime` likewise.
pub(crate) fn parse(text: &[u8]) -> Result<[i64; 2], Errno> {
    let offset = |name: &[u8]| {
        let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
        let mut words = procfs::words(line).map(procfs::number::<i64>);
        words.next()??.checked_mul(1_000_000_000)?.checked_add(words.next()??)
    };
    let both = || Some([offset(b"monotonic")?, offset(b"boottime")?]);
    both().ok_or(Errno::EBADMSG)
}
