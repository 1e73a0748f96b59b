//! The System V objects and POSIX message queues of an IPC namespace, see sysvipc(7) and mq_overview(7).

use std::fs::{self, DirEntry};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;

use super::errno;
use super::outside::Outside;
use crate::visit::{Action, Answer, visit};

/// What is in one IPC namespace; an errno where the kernel has no such objects or does not show them.
pub struct Objects {
    /// Message queues: messages, bytes.
    pub message_queues: Result<Vec<Object>, Errno>,
    /// Semaphore sets: semaphores.
    pub semaphore_sets: Result<Vec<Object>, Errno>,
    /// Shared memory segments: bytes, how often attached, the pid of who made it.
    pub shared_memory: Result<Vec<Object>, Errno>,
    /// POSIX message queues.
    pub posix_queues: Result<Vec<Queue>, Errno>,
}

/// A System V object, with the ids of the caller's user namespace and the pids of the caller's `/proc`.
pub struct Object {
    /// Its number.
    pub id: u32,
    /// Its name, as ipcs(1) prints it.
    pub key: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The permission bits.
    pub mode: u32,
    /// What its type has besides.
    pub numbers: Vec<u64>,
}

/// A POSIX message queue.
pub struct Queue {
    /// With a slash in front.
    pub name: Vec<u8>,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The permission bits.
    pub mode: u32,
    /// The bytes that wait in it; `None` where they may not be read.
    pub bytes: Option<u64>,
}

/// Reads what is in it, through a child that enters it: the files below `/proc/sysvipc` show the namespace of who opens
/// them, and message queues are mounted for the namespace of who mounts them.
///
/// # Errors
///
/// What [`visit`] says.
pub fn objects(namespace: RawFd) -> Result<Objects, Errno> {
    let [msg, sem, shm] = [c"/proc/sysvipc/msg", c"/proc/sysvipc/sem", c"/proc/sysvipc/shm"];
    let actions = [msg, sem, shm].map(|path| Action::Read(libc::AT_FDCWD, path));
    let visited = visit(namespace, &actions)?;
    let outside = Outside::new(visited.owner);
    let mut answers = visited.answers.into_iter();
    let mut table = |id, numbers: &[&str]| {
        let text = answers.next().unwrap_or(Err(Errno::ECANCELED))?.bytes();
        Ok(rows(&String::from_utf8_lossy(&text), id, numbers, &outside))
    };
    Ok(Objects {
        message_queues: table("msqid", &["qnum", "cbytes"]),
        semaphore_sets: table("semid", &["nsems"]),
        shared_memory: table("shmid", &["size", "nattch", "cpid"]),
        posix_queues: posix_queues(namespace),
    })
}

/// The first line names the columns.
pub(crate) fn rows(text: &str, id: &str, numbers: &[&str], outside: &Outside) -> Vec<Object> {
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let Some(names) = lines.next() else { return Vec::new() };
    let object = |fields: Vec<&str>| {
        let field = |name: &str| fields.get(names.iter().position(|known| *known == name)?);
        let number = |name: &str| field(name)?.parse::<u64>().ok();
        let small = |name: &str| u32::try_from(number(name)?).ok();
        Some(Object {
            id: small(id)?,
            key: field("key")?.parse::<i32>().ok()?.cast_unsigned(),
            uid: outside.uid(small("uid")?),
            gid: outside.gid(small("gid")?),
            // With the flags of shared memory that is locked, or removed and still attached.
            mode: u32::from_str_radix(field("perms")?, 8).ok()? & 0o777,
            numbers: numbers.iter().filter_map(|name| number(name)).collect(),
        })
    };
    lines.filter_map(object).collect()
}

fn posix_queues(namespace: RawFd) -> Result<Vec<Queue>, Errno> {
    // A visit of its own: it is in a new mount namespace at its end.
    let mut answers = visit(namespace, &[Action::MountQueues])?.answers;
    let mount = answers.pop().unwrap_or(Err(Errno::ECANCELED)).and_then(Answer::fd)?;
    let directory = format!("/proc/thread-self/fd/{}", mount.as_raw_fd());
    let entries = fs::read_dir(directory).map_err(|error| errno(&error))?;
    let mut queues: Vec<Queue> = entries.flatten().filter_map(|entry| queue(&entry)).collect();
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(queues)
}

/// `None` when it has been removed meanwhile.
fn queue(entry: &DirEntry) -> Option<Queue> {
    let status = entry.metadata().ok()?;
    let text = fs::read_to_string(entry.path());
    let bytes = text.ok().and_then(|text| text.strip_prefix("QSIZE:")?.split_whitespace().next()?.parse().ok());
    let name = [b"/", entry.file_name().as_bytes()].concat();
    Some(Queue { name, uid: status.uid(), gid: status.gid(), mode: status.mode() & 0o777, bytes })
}
