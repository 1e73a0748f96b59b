//! Huge pages for a process that forks often.
//!
//! A fork copies an entry for each page, and both processes give each page back: 100 MB in small pages cost 2 to 6 ms, in
//! huge ones a tenth. The contents stay where they are.

use std::os::fd::RawFd;

use nix::errno::Errno;

use crate::inspect::procfs::{number, words};
use crate::sys;

/// Of a mapping at least seven eighths have to be in use, for a huge page has no holes.
const HOLES: usize = 8;

/// Lets the kernel put the memory of this process into huge pages (Linux 6.1) where there is enough of it in one piece;
/// returns how many there are. It takes some 0.5 ms for each. What it cannot do stays as it is.
#[must_use]
pub fn collapse() -> usize {
    const HERE: RawFd = libc::AT_FDCWD;
    let read = |path| sys::read_file(HERE, path).unwrap_or_default();
    let size = read(c"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
    let Some(size) = words(&size).next().and_then(number::<usize>).filter(|size| size.is_power_of_two()) else {
        return 0;
    };
    let mut done = 0;
    for (start, end) in own_memory(&read(c"/proc/self/smaps")) {
        let first = start.next_multiple_of(size);
        for address in (first..end.saturating_sub(size - 1)).step_by(size) {
            match sys::collapse(address, size) {
                Ok(()) => done += 1,
                // Busy for now.
                Err(Errno::EAGAIN | Errno::EBUSY) => {}
                Err(_) => return done,
            }
        }
    }
    done
}

/// The mappings that belong to nobody else, no file, and are in use, of a text as in proc_pid_smaps(5).
fn own_memory(smaps: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = words(line).collect();
        match fields[..] {
            [range, b"rw-p", _, _, b"0"] | [range, b"rw-p", _, _, b"0", b"[heap]"] => mapping = bounds(range),
            [_, _, _, _, _, ..] => mapping = None,
            [b"Rss:", kilobytes, _] => {
                let used = number::<usize>(kilobytes).unwrap_or(0) << 10;
                found.extend(mapping.filter(|(start, end)| used >= (end - start) / HOLES * (HOLES - 1)));
            }
            _ => {}
        }
    }
    found
}

/// `7f0000000000-7f0000200000`
fn bounds(range: &[u8]) -> Option<(usize, usize)> {
    let (start, end) = std::str::from_utf8(range).ok()?.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_is_in_use_and_nobody_elses() {
        let smaps = b"1000-9000 rw-p 00000000 00:00 0 \nSize: 32 kB\nRss: 28 kB\nVmFlags: rd wr mr mw me ac sd\n\
            9000-a000 rw-p 00000000 00:00 0 [heap]\nRss: 4 kB\n\
            b000-c000 rw-p 00000000 00:00 0 [stack]\nRss: 4 kB\n\
            c000-d000 rw-p 00000000 08:01 77 /lib/x.so\nRss: 4 kB\n\
            d000-e000 r--p 00000000 00:00 0 \nRss: 4 kB\n\
            10000-90000 rw-p 00000000 00:00 0 \nRss: 400 kB\n";
        assert_eq!(super::own_memory(smaps), [(0x1000, 0x9000), (0x9000, 0xa000)]);
    }

    #[test]
    fn the_contents_stay() {
        let memory: Vec<u32> = (0..8 << 20).collect();
        let _ = super::collapse();
        assert!(memory.iter().copied().eq(0..8 << 20));
    }
}
