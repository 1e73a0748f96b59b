//! The text formats of proc(5), as bytes: names and paths may hold any.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use crate::sys;

/// As much of a command line as lsns(8) shows.
const COMMAND: usize = 8192;

/// `None` for what is gone meanwhile, or not ours to see. That the caller itself has no descriptors or memory left is
/// another matter.
pub fn unless_gone<T>(result: sys::Result<T>) -> sys::Result<Option<T>> {
    match result {
        Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => Err(errno),
        other => Ok(other.ok()),
    }
}

/// The entries of an open directory that are numbers: processes, threads, descriptors.
pub fn numbers(directory: RawFd) -> sys::Result<Vec<i32>> {
    let mut found = Vec::new();
    let mut buffer = [0u8; 8192];
    loop {
        let length = sys::getdents(directory, &mut buffer)?;
        if length == 0 {
            return Ok(found);
        }
        let mut entries = &buffer[..length];
        // struct linux_dirent64: inode, offset (8 each), length (2), type (1), name
        while let Some(name) = entries.get(19..) {
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            found.extend(number::<i32>(&name[..end]));
            let length = usize::from(u16::from_ne_bytes([entries[16], entries[17]]));
            entries = entries.get(length..).filter(|_| length > 0).unwrap_or_default();
        }
    }
}

/// A path for the kernel; one with a NUL in it would be another.
pub fn c_path(path: impl Into<Vec<u8>>) -> sys::Result<CString> {
    CString::new(path).map_err(|_| Errno::EINVAL)
}

/// A decimal number.
pub fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The words of a line.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// The fields of `/proc/PID/stat` from the third, the state; the second, the name, may hold any byte.
pub fn after_name(stat: &[u8]) -> &[u8] {
    let end = stat.iter().rposition(|byte| *byte == b')').unwrap_or(stat.len());
    stat.get(end + 2..).unwrap_or_default()
}

/// `/proc/PID/status`.
pub struct Status(pub Vec<u8>);

impl Status {
    /// What follows `key:` and a tab.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        let mut lines = self.0.split(|byte| *byte == b'\n');
        lines.find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b":\t"))
    }

    /// The first number there.
    pub fn number<T: FromStr>(&self, key: &str) -> Option<T> {
        number(words(self.value(key)?).next()?)
    }

    /// A set of bits, in hexadecimal digits.
    pub fn mask(&self, key: &str) -> Option<u64> {
        u64::from_str_radix(std::str::from_utf8(self.value(key)?).ok()?, 16).ok()
    }

    /// The effective user id: the second of four.
    pub fn euid(&self) -> Option<u32> {
        number(words(self.value("Uid")?).nth(1)?)
    }

    /// The short name; the kernel escapes a newline and a backslash here.
    pub fn name(&self) -> Vec<u8> {
        let mut name = Vec::new();
        let mut bytes = self.value("Name").unwrap_or_default().iter();
        while let Some(byte) = bytes.next() {
            name.push(match byte {
                b'\\' => bytes.next().map_or(b'\\', |byte| if *byte == b'n' { b'\n' } else { *byte }),
                byte => *byte,
            });
        }
        name
    }
}

/// How often, and after which pause, to ask again for the command line of a process that is in the midst of execve(2),
/// while its CPU may have others to run.
const EXECVE: (u32, Duration) = (200, Duration::from_micros(100));

/// The command line in one string, as ps(1) and lsns(8) show it; `None` where there is none: a kernel thread, a zombie.
pub fn command(directory: RawFd, status: &Status) -> sys::Result<Option<Vec<u8>>> {
    let mut tries = 0;
    loop {
        let file = sys::open_at(directory, c"cmdline", libc::O_RDONLY)?;
        let text = join(sys::read_open(&file, COMMAND)?);
        // Who has just been spawned has memory already, but its arguments come a moment later.
        if text.is_some() || tries == EXECVE.0 || status.value("VmSize").is_none() {
            return Ok(text);
        }
        tries += 1;
        thread::sleep(EXECVE.1);
    }
}

pub(crate) fn join(mut cmdline: Vec<u8>) -> Option<Vec<u8>> {
    let end = cmdline.iter().rposition(|byte| *byte != 0)? + 1;
    cmdline.truncate(end);
    // Many are kept, and they were read into large buffers.
    cmdline.shrink_to_fit();
    cmdline.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    Some(cmdline)
}
