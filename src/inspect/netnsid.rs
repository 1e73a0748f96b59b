//! The numbers that a network namespace has for others, see rtnetlink(7) and ip-netns(8).

use std::os::fd::RawFd;

use nix::errno::Errno;

use crate::netlink::{Attributes, Socket};
use crate::sys;

const RTGENMSG: usize = 4;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// Asks the kernel on behalf of the network namespace that the socket is of.
pub struct NetnsIds(pub Socket);

impl NetnsIds {
    /// On behalf of the caller's.
    ///
    /// # Errors
    ///
    /// What socket(2) says.
    pub fn of_caller() -> Result<Self, Errno> {
        let fd = sys::adopt(sys::route_socket()?).ok_or(Errno::EBADF)?;
        Ok(Self(Socket::new(fd)))
    }

    /// The number of an open network namespace; `None` when it has none here.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn of(&mut self, file: RawFd) -> Result<Option<i32>, Errno> {
        // `struct rtgenmsg` (`AF_UNSPEC`), one attribute.
        let mut request = vec![0; RTGENMSG];
        request.extend(8u16.to_ne_bytes());
        request.extend(NETNSA_FD.to_ne_bytes());
        request.extend(file.to_ne_bytes());
        let answer = self.0.one(libc::RTM_GETNSID, &request)?;
        let number = Attributes::behind(&answer, RTGENMSG).number(NETNSA_NSID).ok_or(Errno::EBADMSG)?;
        // NETNSA_NSID_NOT_ASSIGNED is -1.
        Ok(Some(number.cast_signed()).filter(|number| *number >= 0))
    }
}
