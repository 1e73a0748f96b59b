//! rtnetlink(7): questions to the kernel, and the attributes of its answers.
//!
//! Attributes that nobody asks for are passed over, whatever they look like: each kernel brings new ones.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use crate::sys;

/// One message of an answer: the fixed part of its type, and attributes behind it.
pub type Message = Vec<u8>;

/// A socket of the network namespace that is asked.
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The kernel sends at most 32 KiB at once.
const LARGEST: usize = 1 << 16;
/// How often a list is asked for that keeps changing while it is sent.
const ATTEMPTS: usize = 50;

impl Socket {
    /// Talks through a socket of the family `NETLINK_ROUTE`.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, sequence: 0 }
    }

    /// All objects of a kind (`RTM_GET*`), as of one moment.
    ///
    /// # Errors
    ///
    /// What the kernel answers; `EAGAIN` when the list changed each time before it was complete.
    pub fn list(&mut self, kind: u16, fixed: &[u8]) -> Result<Vec<Message>, Errno> {
        for _ in 0..ATTEMPTS {
            self.send(kind, NLM_F_DUMP, fixed)?;
            if let Some(messages) = self.answer(true)? {
                return Ok(messages);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// The one object that the request describes.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn one(&mut self, kind: u16, request: &[u8]) -> Result<Message, Errno> {
        self.send(kind, 0, request)?;
        let messages = self.answer(false)?.unwrap_or_default();
        messages.into_iter().next().ok_or(Errno::EBADMSG)
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + body.len()).map_err(|_| Errno::EMSGSIZE)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        again(|| sys::send(self.fd.as_fd(), &message))
    }

    /// Reads to the end of the answer, be it `None` because the list changed on the way.
    fn answer(&self, is_list: bool) -> Result<Option<Vec<Message>>, Errno> {
        let mut buffer = vec![0; LARGEST];
        let mut answer = Answer::new(self.sequence, is_list);
        while !answer.is_complete {
            let length = again(|| sys::receive(self.fd.as_fd(), &mut buffer))?;
            answer.take(buffer.get(..length).ok_or(Errno::EMSGSIZE)?)?;
        }
        Ok((!answer.interrupted).then_some(answer.messages))
    }
}

/// What has come of an answer.
pub(crate) struct Answer {
    sequence: u32,
    is_list: bool,
    pub messages: Vec<Message>,
    /// The list changed while it was sent.
    interrupted: bool,
    pub is_complete: bool,
}

impl Answer {
    pub fn new(sequence: u32, is_list: bool) -> Self {
        Self { sequence, is_list, messages: Vec::new(), interrupted: false, is_complete: false }
    }

    /// Adds the messages that came at once; what comes behind the end belongs to nobody.
    pub fn take(&mut self, mut datagram: &[u8]) -> Result<(), Errno> {
        while datagram.len() >= HEADER && !self.is_complete {
            let length = number(datagram, 0).map_or(0, |length: u32| length as usize);
            let message = datagram.get(HEADER..length).ok_or(Errno::EBADMSG)?;
            let (kind, flags, sequence) = (short(datagram, 4), short(datagram, 6), number(datagram, 8));
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
            if sequence != Some(self.sequence) {
                continue;
            }
            if matches!(kind, Some(NLMSG_DONE | NLMSG_ERROR)) {
                refusal(message)?;
                self.is_complete = true;
            } else {
                self.messages.push(message.to_vec());
                self.is_complete = !self.is_list;
            }
            self.interrupted |= self.is_list && flags.is_some_and(|flags| flags & NLM_F_DUMP_INTR != 0);
        }
        Ok(())
    }
}

/// The errno that an error, or the end of a list, carries: 0 or minus the number.
fn refusal(message: &[u8]) -> Result<(), Errno> {
    match number(message, 0).map_or(0, u32::cast_signed) {
        0 => Ok(()),
        errno => Err(Errno::from_raw(errno.saturating_neg())),
    }
}

fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// The attributes in a message, by number; of one that comes twice, the first.
#[derive(Clone, Copy)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those behind the fixed part of a message.
    #[must_use]
    pub fn behind(message: &'a [u8], fixed: usize) -> Self {
        Self(message.get(fixed..).unwrap_or_default())
    }

    /// Each, with its number.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let length = usize::from(short(rest, 0)?);
            let value = rest.get(4..length)?;
            // The upper two bits are flags: nested, and in network order.
            let kind = short(rest, 2)? & 0x3fff;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, value))
        })
    }

    /// The bytes of one.
    #[must_use]
    pub fn get(self, wanted: u16) -> Option<&'a [u8]> {
        self.iter().find_map(|(kind, value)| (kind == wanted).then_some(value))
    }

    /// A number.
    #[must_use]
    pub fn number(self, wanted: u16) -> Option<u32> {
        number(self.get(wanted)?, 0)
    }

    /// A string, without its NUL.
    #[must_use]
    pub fn string(self, wanted: u16) -> Option<&'a [u8]> {
        self.get(wanted)?.split(|byte| *byte == 0).next()
    }

    /// The attributes in an attribute.
    #[must_use]
    pub fn nested(self, wanted: u16) -> Attributes<'a> {
        Self(self.get(wanted).unwrap_or_default())
    }
}

/// The 32 bits at this place.
#[must_use]
pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The 64 bits at this place.
#[must_use]
pub fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The 16 bits at this place.
#[must_use]
pub fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
