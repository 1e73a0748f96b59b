//! Descriptors: to their places, or closed.

use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;

use super::Run;
use crate::extras::raw;
use crate::sys::{self, CStrArray};

impl Run<'_> {
    /// First out of the way, then into place: a source may be another one's target.
    pub(crate) fn move_stdio(&self) -> sys::Result<()> {
        let mut sources = self.stdio;
        for (target, source) in (0..).zip(&mut sources) {
            if (0..3).contains(source) && *source != target {
                *source = sys::dup_above(*source, 3)?;
            }
        }
        for (target, source) in (0..).zip(sources) {
            if source == target {
                sys::set_inheritable(source)?;
            } else if source >= 0 {
                sys::dup2(source, target)?;
            }
        }
        Ok(())
    }

    pub(crate) fn close_fds(&self, ranges: &[(u32, u32)]) -> sys::Result<()> {
        let mut keep = [-1; 3];
        if let Some(entry) = self.time() {
            keep = [entry.namespace, entry.image, entry.report];
        }
        close_fds(ranges, &keep)
    }

    /// Its descriptors: what it lives by on 0, 1 and 2, and its own file until it is executed.
    pub(crate) fn exec_init(&self, argv: &CStrArray) -> Errno {
        const IMAGE: RawFd = 3;
        const READY: RawFd = 4;
        let prepare = || {
            if self.socket() >= 0 {
                sys::dup2(self.socket(), 0)?;
                sys::close(1);
                sys::close(2);
            }
            // Out of the way first, as each may be where the other belongs.
            let image = sys::dup_above(raw(self.extras.image.as_ref()), READY + 1)?;
            if let Some((_, ready)) = &self.extras.ready {
                let ready = sys::dup_above(ready.as_raw_fd(), READY + 1)?;
                sys::dup2(ready, READY)?;
            } else {
                sys::close(READY);
            }
            sys::dup_onto(image, IMAGE)?;
            close_fds(&[(READY.cast_unsigned() + 1, u32::MAX)], &[])
        };
        prepare().err().unwrap_or_else(|| sys::execveat(IMAGE, self.extras.init_argv.as_ref().unwrap_or(argv), None))
    }
}

/// Closes these ranges, but not what is to keep.
fn close_fds(ranges: &[(u32, u32)], keep: &[RawFd]) -> sys::Result<()> {
    for (first, last) in ranges {
        let mut first = *first;
        while first <= *last {
            let kept = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| (first..=*last).contains(fd));
            let next = kept.min();
            let end = next.map_or(*last, |fd| fd.wrapping_sub(1));
            if next != Some(first) {
                match sys::close_range(first, end) {
                    // Refused by an old container's seccomp profile.
                    Err(Errno::ENOSYS | Errno::EPERM) => return close_listed(ranges, keep),
                    result => result?,
                }
            }
            match next {
                Some(fd) => first = fd + 1,
                None => break,
            }
        }
    }
    Ok(())
}

/// Closes what `/proc/self/fd` lists.
fn close_listed(ranges: &[(u32, u32)], keep: &[RawFd]) -> sys::Result<()> {
    let dir = sys::openat(libc::AT_FDCWD, c"/proc/self/fd", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut buffer = [0u8; 4096];
    loop {
        let length = sys::getdents(dir, &mut buffer)?;
        if length == 0 {
            break;
        }
        let mut entries = &buffer[..length];
        // struct linux_dirent64: inode, offset (8 each), length (2), type (1), name
        while let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, low, high, _, name @ ..] = entries {
            let digits = name.iter().take_while(|byte| byte.is_ascii_digit());
            let number = digits.fold(0u32, |n, byte| n.wrapping_mul(10).wrapping_add(u32::from(byte - b'0')));
            let is_number = name.first().is_some_and(u8::is_ascii_digit);
            let wanted = ranges.iter().any(|(first, last)| (*first..=*last).contains(&number));
            if is_number && wanted && number != dir.cast_unsigned() && !keep.contains(&number.cast_signed()) {
                sys::close(number.cast_signed());
            }
            entries = entries.get(usize::from(u16::from_le_bytes([*low, *high]))..).unwrap_or(&[]);
        }
    }
    Ok(())
}
