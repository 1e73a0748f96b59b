//! What one process shows: mounts, maps, capabilities, clocks; and the tree of all.

use std::ffi::OsString;

use pyo3::prelude::*;

use super::scan::{proceed, text};
use super::target::PyTarget;
use super::{IdRow, os_error, rows};
use crate::inspect::clocks::Clocks;
use crate::inspect::credentials::{Capabilities, IdMaps};
use crate::inspect::mountinfo::{self, Mount};
use crate::inspect::processes::Process;

/// Pid, parent's pid, pid on every level, name, command line, state, uid, namespaces.
type ProcessRow = (i32, i32, Vec<i32>, OsString, Option<OsString>, char, u32, Option<Vec<IdRow>>);
/// Shared, master, propagate_from, unbindable.
type PropagationRow = (Option<u32>, Option<u32>, Option<u32>, bool);
/// Id, parent, device, root, target, options, type, source, the file system's options, propagation.
type MountRow =
    (u32, u32, String, OsString, OsString, Vec<OsString>, OsString, OsString, Vec<OsString>, PropagationRow);
/// Inside, outside, count of each range of users and of groups; whether setgroups(2) is allowed.
type MapRows = (Vec<[u32; 3]>, Vec<[u32; 3]>, Option<bool>);

/// Two offsets, two shifted clocks, the wall clock.
type ClockRow = ((i64, i64), (i64, i64), i64);

/// All processes, or the target and its descendants, in no order; and those of which nothing can be read.
#[pyfunction]
pub fn processes(py: Python<'_>, target: Option<&Bound<'_, PyTarget>>) -> PyResult<(Vec<ProcessRow>, Vec<i32>)> {
    let root = target.map(|target| target.get().open()).transpose()?.map(|target| target.number());
    let (found, refused) = py.detach(|| Process::all(root, proceed(None)))?;
    Ok((found.into_iter().map(process_row).collect(), refused))
}

/// The lines of its mountinfo.
#[pyfunction]
pub fn mounts(py: Python<'_>, target: &Bound<'_, PyTarget>) -> PyResult<Vec<MountRow>> {
    let target = target.get().open()?;
    let mounts = py.detach(|| mountinfo::parse(&target.read(c"mountinfo")?)).map_err(os_error)?;
    Ok(mounts.into_iter().map(mount_row).collect())
}

/// The maps of its user namespace.
#[pyfunction]
pub fn id_maps(target: &Bound<'_, PyTarget>) -> PyResult<MapRows> {
    let maps = IdMaps::read(&*target.get().open()?).map_err(os_error)?;
    Ok((maps.users, maps.groups, maps.setgroups))
}

/// Effective, permitted, inheritable, bounding, ambient, as bits; how many there are; whether no new ones are given.
#[pyfunction]
pub fn capabilities(target: &Bound<'_, PyTarget>) -> PyResult<([u64; 5], u32, bool)> {
    let found = Capabilities::read(&*target.get().open()?).map_err(os_error)?;
    Ok((found.sets, found.known, found.no_new_privs))
}

/// The offsets of the monotonic and the boot clock, what they show, and the wall clock, in nanoseconds.
#[pyfunction]
pub fn clocks(py: Python<'_>, target: &Bound<'_, PyTarget>) -> PyResult<ClockRow> {
    let target = target.get().open()?;
    let clocks = py.detach(|| Clocks::read(&target)).map_err(os_error)?;
    Ok((clocks.offsets.into(), clocks.shifted.into(), clocks.realtime))
}

fn process_row(process: Process) -> ProcessRow {
    let Process { pid, ppid, pids, name, command, state, uid, namespaces } = process;
    let namespaces = namespaces.map(|found| rows(&found));
    (pid, ppid, pids, text(name), command.map(text), state, uid, namespaces)
}

fn mount_row(mount: Mount) -> MountRow {
    let texts = |all: Vec<Vec<u8>>| all.into_iter().map(text).collect();
    let [shared, master, propagate_from] = mount.groups;
    (
        mount.id.0,
        mount.id.1,
        mount.device,
        text(mount.root),
        text(mount.target),
        texts(mount.options),
        text(mount.fstype),
        text(mount.source),
        texts(mount.super_options),
        (shared, master, propagate_from, mount.unbindable),
    )
}
