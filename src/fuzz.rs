//! The door for `cargo fuzz`: what reads text or messages of the kernel, and nobody outside calls. Built with
//! `--cfg fuzzing` only.

use std::collections::HashMap;

use nix::errno::Errno;

use crate::inspect::procfs::{self, Status};
use crate::inspect::{cgroup, clocks, credentials, ipc, mountinfo, network, nsfs, outside, words};
use crate::netlink::{Answer, Attributes, Message};
use crate::{caller, inspect};

pub use crate::idmap::{Available, resolve, text as id_map_text};

/// `/proc/PID/uid_map`.
///
/// # Errors
///
/// `EBADMSG`.
pub fn id_map(text: &[u8]) -> Result<Vec<[u32; 3]>, Errno> {
    credentials::map(text)
}

/// What an id of the namespace with this map is outside.
#[must_use]
pub fn translate(id: u32, map: &[[u32; 3]]) -> u32 {
    outside::translate(id, map)
}

/// The namespaces bound to files, of a mountinfo that parses or does not.
#[must_use]
pub fn bound(mountinfo: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    mountinfo::nsfs(mountinfo)
}

/// `/proc/PID/status`: every reader of it.
#[must_use]
pub fn status(text: &[u8]) -> (Vec<u8>, Option<u32>, Option<u64>, Option<i32>) {
    let status = Status(text.to_vec());
    (status.name(), status.euid(), status.mask("CapEff"), status.number("PPid"))
}

/// `/proc/PID/stat`, and a command line.
#[must_use]
pub fn stat(text: &[u8]) -> (Vec<&[u8]>, Option<Vec<u8>>) {
    (procfs::words(procfs::after_name(text)).collect(), procfs::join(text.to_vec()))
}

/// A line of `/proc/PID/cgroup` each.
#[must_use]
pub fn cgroups(text: &[u8]) -> Vec<(u32, &[u8], &[u8])> {
    cgroup::lines(text).collect()
}

/// `/proc/sysvipc/shm`: how many objects.
#[must_use]
pub fn shared_memory(text: &str) -> usize {
    ipc::rows(text, "shmid", &["size", "nattch", "cpid"], &outside::Outside::default()).len()
}

/// `timens_offsets`, by both who read it.
#[must_use]
pub fn clocks(text: &[u8]) -> (Option<[i64; 2]>, Option<i64>) {
    let whole = str::from_utf8(text).ok().and_then(|text| caller::whole_seconds(text, "monotonic"));
    (clocks::parse(text).ok(), whole)
}

/// The link of a namespace file.
#[must_use]
pub fn namespace_link(text: &[u8]) -> Option<(usize, u64)> {
    nsfs::read_link(text)
}

/// The first lines that matter of `fdinfo`, subuid(5) and `osrelease`.
#[must_use]
pub fn lines(text: &[u8]) -> (Option<i32>, Option<(u32, u32)>, Option<(u32, u32)>) {
    let owners = ["nobody".to_owned(), "65534".to_owned()];
    let as_text = String::from_utf8_lossy(text);
    (inspect::pid_in_fdinfo(&as_text), caller::first_block(text, &owners), caller::version(&as_text))
}

/// The messages of an answer that comes in these datagrams, as far as it is one.
///
/// # Errors
///
/// The errno it carries; `EBADMSG`.
pub fn answer(datagrams: &[&[u8]], is_list: bool) -> Result<Vec<Message>, Errno> {
    let mut answer = Answer::new(1, is_list);
    for datagram in datagrams {
        answer.take(datagram)?;
    }
    Ok(answer.messages)
}

/// One message, as each kind of object that it could be; how many it was.
#[must_use]
pub fn network(message: &Message) -> usize {
    let names = HashMap::from([(1, b"lo".as_slice())]);
    let number = Attributes::behind(message, 4).number(1);
    let found = [
        network::link(message).is_some(),
        network::address(message).is_some(),
        network::route(message, &names).is_some(),
    ];
    found.iter().chain([&number.is_some()]).filter(|found| **found).count()
}

/// The words of ip(8) for these flags.
#[must_use]
pub fn link_flags(bits: u32) -> Vec<String> {
    words::link_flags(bits)
}
