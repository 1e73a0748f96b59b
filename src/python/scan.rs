//! What a walk over `/proc` found, for Python.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use pyo3::prelude::*;

use super::{IdRow, id_row, os_error};
use crate::NamespaceSet;
use crate::inspect::scan::{self, Found, Scan, held};
use crate::inspect::{self, NamespaceId, Relations};
use crate::namespace::NAMESPACES;

/// Pid, parent's pid, uid, command.
type LeaderRow = (i32, Option<i32>, Option<u32>, OsString);
/// Parent, owner, owner's uid.
type RelationsRow = (Option<IdRow>, Option<IdRow>, Option<u32>);
/// Namespace, number of processes, the first of them, path, where it is bound, netnsid, relations, what holds it.
type FoundRow =
    (IdRow, usize, Option<LeaderRow>, Option<OsString>, Vec<OsString>, Option<i32>, RelationsRow, Vec<&'static str>);

/// Why a walk ended early.
pub enum Stop {
    Refused(Errno),
    Raised(PyErr),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}

impl From<Stop> for PyErr {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(errno) => os_error(errno),
            Stop::Raised(error) => error,
        }
    }
}

/// How many processes lie between two looks at signals: a few milliseconds.
const STRIDE: usize = 64;

/// Handles signals now and then during a walk, and tells how far it is.
pub fn proceed(progress: Option<Py<PyAny>>) -> impl FnMut(usize, usize) -> Result<(), Stop> {
    move |done, all| {
        if !done.is_multiple_of(STRIDE) && done != all {
            return Ok(());
        }
        let attached = Python::attach(|py| {
            py.check_signals()?;
            progress.as_ref().map_or(Ok(()), |progress| progress.call1(py, (done, all)).map(drop))
        });
        attached.map_err(Stop::Raised)
    }
}

/// Every namespace of these types, and the processes that may not be looked into; see `nslab.lsns`. `progress` is
/// called now and then with the number of processes done and of all.
#[pyfunction]
pub fn lsns(py: Python<'_>, bits: u32, progress: Option<Py<PyAny>>) -> PyResult<(Vec<FoundRow>, Vec<i32>)> {
    let types = NamespaceSet::from_bits(bits).unwrap_or_default();
    let Scan { namespaces, unreadable } = py.detach(|| scan::scan(types, proceed(progress)))?;
    Ok((namespaces.into_iter().map(found_row).collect(), unreadable))
}

/// `(parent, owner, owner's uid)` of a namespace; each is None where the kernel does not show it.
#[pyfunction]
pub fn relations(bits: u32, device: u64, inode: u64, id: Option<u64>, pid: Option<i32>) -> PyResult<RelationsRow> {
    let types = NamespaceSet::from_bits(bits).unwrap_or_default();
    let file = inspect::open(types, NamespaceId { device, inode, id }, pid).map_err(os_error)?;
    let kind = types.rows().next().map_or(0, |(kind, _)| kind);
    Ok(relations_row(kind, Relations::of_file(file.as_raw_fd())))
}

fn found_row(found: Found) -> FoundRow {
    let leader = found.leader.map(|leader| (leader.pid, leader.ppid, leader.uid, text(leader.command.clone())));
    let bound = found.bound.into_iter().map(text).collect();
    let relations = relations_row(found.kind, found.relations);
    let id = id_row(found.kind, found.id);
    (id, found.processes, leader, found.path.map(text), bound, found.netnsid, relations, held_by(found.held))
}

fn relations_row(kind: usize, relations: Relations) -> RelationsRow {
    let user = NAMESPACES.iter().position(|row| row.flag == NamespaceSet::USER.bits()).unwrap_or(kind);
    let parent = relations.parent.map(|id| id_row(kind, id));
    (parent, relations.owner.map(|id| id_row(user, id)), relations.owner_uid)
}

fn held_by(bits: u8) -> Vec<&'static str> {
    let names = [
        (held::PROCESS, "process"),
        (held::THREAD, "thread"),
        (held::FD, "fd"),
        (held::MOUNT, "mount"),
        (held::CHILD, "child"),
    ];
    names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
}

/// Any bytes, as `os.fsdecode` has them.
pub fn text(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}
