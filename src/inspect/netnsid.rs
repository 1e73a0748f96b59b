//! The numbers that a network namespace has for others, see rtnetlink(7) and ip-netns(8).

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::sys;

const HEADER: usize = 16;
const RTGENMSG: usize = 4;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// Asks the kernel on behalf of the caller's network namespace.
pub struct NetnsIds(OwnedFd);

impl NetnsIds {
    /// # Errors
    ///
    /// What socket(2) says.
    pub fn new() -> Result<Self, Errno> {
        sys::route_socket().map(Self)
    }

    /// The number of an open network namespace; `None` when it has none here.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn of(&self, file: RawFd) -> Result<Option<i32>, Errno> {
        sys::write(self.0.as_raw_fd(), &request(file))?;
        let mut reply = [0u8; 256];
        let length = sys::read(self.0.as_raw_fd(), &mut reply)?;
        answer(reply.get(..length).ok_or(Errno::EBADMSG)?)
    }
}

/// `struct nlmsghdr`, `struct rtgenmsg` (`AF_UNSPEC`), one attribute.
fn request(file: RawFd) -> [u8; HEADER + RTGENMSG + 8] {
    const NLM_F_REQUEST: u16 = 1;
    let mut message = [0; HEADER + RTGENMSG + 8];
    message[..4].copy_from_slice(&28u32.to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_GETNSID.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message[20..22].copy_from_slice(&8u16.to_ne_bytes());
    message[22..24].copy_from_slice(&NETNSA_FD.to_ne_bytes());
    message[24..].copy_from_slice(&file.to_ne_bytes());
    message
}

fn answer(message: &[u8]) -> Result<Option<i32>, Errno> {
    const NLMSG_ERROR: u16 = 2;
    let short = |at: usize| Some(u16::from_ne_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let int = |at: usize| Some(i32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
    let read = || {
        if short(4)? == NLMSG_ERROR {
            return Some(Err(Errno::from_raw(-int(HEADER)?)));
        }
        let mut at = HEADER + RTGENMSG;
        while short(at + 2)? != NETNSA_NSID {
            at += usize::from(short(at)?.max(4)).next_multiple_of(4);
        }
        // NETNSA_NSID_NOT_ASSIGNED is -1.
        Some(Ok(int(at + 4).filter(|number| *number >= 0)))
    };
    read().unwrap_or(Err(Errno::EBADMSG))
}
