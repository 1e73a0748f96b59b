//! The door to Python, and with the modules below it the only place that names pyo3: exports and conversions.

mod child;
mod convert;
mod enter;
mod fd;
mod held;
mod lately;
mod leave;
mod process;
mod scan;
mod target;
mod visit;

use std::os::fd::{IntoRawFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use self::convert::{Text, read_env, read_fd, read_groups, read_options};
use crate::inspect::{self, NamespaceId};
use crate::sys;
use crate::{Caller, Error, NAMESPACES, NamespaceSet, Options, Plan};

/// The Rust half of nslab.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::child::{Child, keep_namespaces};
    #[pymodule_export]
    use super::enter::{PyHandshake, collapse_memory, descriptors, enter};
    #[pymodule_export]
    use super::fd::Fd;
    #[pymodule_export]
    use super::held::{Held, hold};
    #[pymodule_export]
    use super::leave::Leaving;
    #[pymodule_export]
    use super::process::{capabilities, clocks, id_maps, mounts, processes};
    #[pymodule_export]
    use super::scan::{lsns, relations};
    #[pymodule_export]
    use super::target::PyTarget;
    #[pymodule_export]
    use super::visit::{cgroup, hostname, ipc, network};
    #[pymodule_export]
    use super::{
        KnownNamespaces, PyPlan, bind, make_private, mount_id, namespaces, open_namespace, plan, setns, start_keeper,
        table, unmount, unshare_fs,
    };
}

/// Name, bit, C name, switch of unshare(1), manual page, first kernel, what it isolates.
type TableRow = (&'static str, u32, &'static str, &'static str, &'static str, &'static str, &'static str);
/// Type, device, inode, id.
type IdRow = (&'static str, u64, u64, Option<u64>);

/// The table of namespace types, a row each.
#[pyfunction]
fn table() -> Vec<TableRow> {
    let row = |r: &'static crate::NamespaceType| (r.name, r.flag, r.c_name, r.unshare, r.man, r.since, r.isolates);
    NAMESPACES.iter().map(row).collect()
}

/// Checks and orders a request; see `nslab.plan`. What follows `options` is as `subprocess` prepares it for its
/// own child.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "by position: a dict would cost more than everything else here")]
#[pyo3(signature = (
    flags, argv, executable, options, cwd, env, close_fds, pass_fds, restore_signals, start_new_session, process_group,
    umask, uid, gid, gids, /
))]
fn plan(
    py: Python<'_>,
    flags: u32,
    argv: Vec<Text>,
    executable: Text,
    options: &Bound<'_, PyDict>,
    cwd: Option<Text>,
    env: Option<&Bound<'_, PyAny>>,
    close_fds: &Bound<'_, PyAny>,
    pass_fds: &Bound<'_, PyAny>,
    restore_signals: &Bound<'_, PyAny>,
    start_new_session: &Bound<'_, PyAny>,
    process_group: i32,
    umask: i32,
    uid: Option<u32>,
    gid: Option<u32>,
    gids: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyPlan> {
    let mut request = Options {
        cwd: cwd.map(|path| path.0),
        env: env.map(read_env).transpose()?,
        close_fds: close_fds.is_truthy()?,
        pass_fds: pass_fds.try_iter()?.map(|fd| read_fd(&fd?)).collect::<PyResult<_>>()?,
        restore_signals: restore_signals.is_truthy()?,
        start_new_session: start_new_session.is_truthy()?,
        process_group: (process_group >= 0).then_some(process_group),
        umask: u32::try_from(umask).ok(),
        user: uid,
        group: gid,
        extra_groups: gids.map(read_groups).transpose()?,
        ..Options::default()
    };
    read_options(options, &mut request)?;
    Ok(PyPlan(make_plan(py, flags, argv, executable, request)?.0))
}

/// The plan, and what it depends on.
fn make_plan(
    py: Python<'_>,
    flags: u32,
    argv: Vec<Text>,
    executable: Text,
    options: Options,
) -> PyResult<(Arc<Plan>, Caller)> {
    let flags = NamespaceSet::from_bits(flags).ok_or_else(|| PyValueError::new_err("unknown namespace bit"))?;
    let argv = argv.into_iter().map(|text| text.0).collect();
    let request = Options { flags, argv, executable: executable.0, ..options };
    let caller = Caller::for_options(&request);
    let plan = Plan::new(request, &caller).map_err(|error| raise(py, &error))?;
    Ok((Arc::new(plan), caller))
}

/// Invalid requests are ValueErrors; the rest is `nslab.SpawnError`, which lives in Python.
fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let made = match error {
        Error::Invalid(message) => return PyValueError::new_err(message.clone()),
        Error::Step { step, detail, errno } => (Some(*errno as i32), *step, detail, None),
        Error::Died { step, detail, signal } => (None, *step, detail, Some(*signal)),
    };
    let class = py.import("nslab._errors").and_then(|module| module.getattr("from_core"));
    match class.and_then(|from_core| from_core.call1(made)) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

fn os_error(errno: Errno) -> PyErr {
    PyOSError::new_err((errno as i32, errno.desc()))
}

/// A checked request, see `nslab.Plan`.
#[pyclass(name = "Plan", module = "nslab._core", frozen)]
struct PyPlan(Arc<Plan>);

#[pymethods]
impl PyPlan {
    /// The `CLONE_NEW*` bits.
    #[getter]
    fn flags(&self) -> u32 {
        self.0.options.flags.bits()
    }

    /// `(name, detail, side)` of each step, in the order of execution.
    #[getter]
    fn steps(&self) -> Vec<(&'static str, String, &'static str)> {
        self.0.steps.iter().map(|(side, step)| (step.name(), step.detail(), side.name())).collect()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    /// The same experiment as an unshare(1) line.
    fn unshare_command(&self) -> String {
        crate::twin::unshare_command(&self.0)
    }

    /// The same experiment as a C program.
    fn c_source(&self) -> String {
        crate::twin::c_source(&self.0)
    }
}

fn rows(found: &inspect::Namespaces) -> Vec<IdRow> {
    (0..).zip(found).filter_map(|(kind, id)| Some(id_row(kind, (*id)?))).collect()
}

fn id_row(kind: usize, id: NamespaceId) -> IdRow {
    (NAMESPACES[kind].name, id.device, id.inode, id.id)
}

/// `(type, device, inode, id)` of each namespace of a process, or of what a child of the calling thread would get.
#[pyfunction]
#[pyo3(signature = (pid=None))]
fn namespaces(pid: Option<i32>) -> PyResult<Vec<IdRow>> {
    match pid {
        Some(pid) => Ok(rows(&inspect::of_process(pid).map_err(os_error)?)),
        None => Ok(rows(&inspect::of_children(None).map_err(os_error)?)),
    }
}

/// The namespaces of a process that stay what they are, for `join`.
#[pyclass(module = "nslab._core", frozen)]
struct KnownNamespaces(Arc<inspect::Namespaces>);

#[pymethods]
impl KnownNamespaces {
    #[new]
    fn new(pid: i32) -> PyResult<Self> {
        Ok(Self(Arc::new(inspect::of_process(pid).map_err(os_error)?)))
    }
}

/// Opens a namespace by its numbers, or through this process if it is still in it; returns the descriptor.
#[pyfunction]
fn open_namespace(bits: u32, device: u64, inode: u64, id: Option<u64>, pid: Option<i32>) -> PyResult<RawFd> {
    let types = NamespaceSet::from_bits(bits).unwrap_or_default();
    let file = inspect::open(types, NamespaceId { device, inode, id }, pid).map_err(os_error)?;
    Ok(file.into_raw_fd())
}

/// Moves the calling thread into namespaces.
#[pyfunction]
fn setns(py: Python<'_>, fd: RawFd, bits: u32) -> PyResult<()> {
    let detail = NamespaceSet::from_bits(bits).unwrap_or_default().to_string();
    sys::setns(fd, bits).map_err(|errno| raise(py, &Error::Step { step: "setns", detail, errno }))
}

/// Starts the thread that clones for ``kill_child``, unless it runs.
#[pyfunction]
fn start_keeper() -> PyResult<()> {
    crate::keeper::run(|| ()).map_err(os_error)
}

/// Gives the calling thread a root, a directory and a umask of its own, see unshare(2).
#[pyfunction]
fn unshare_fs(py: Python<'_>) -> PyResult<()> {
    let detail = "CLONE_FS".to_owned();
    let refused = |errno| raise(py, &Error::Step { step: "unshare", detail, errno });
    sys::unshare(libc::CLONE_FS.cast_unsigned()).map_err(refused)
}

fn mount_step(py: Python<'_>, path: &Text, done: sys::Result<()>) -> PyResult<()> {
    let detail = path.0.to_string_lossy().into_owned();
    done.map_err(|errno| raise(py, &Error::Step { step: "bind", detail, errno }))
}

/// Makes a file or directory appear at another place, which an error calls by this name, see mount(2).
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "as Python gives them")]
fn bind(py: Python<'_>, source: Text, target: Text, name: Text) -> PyResult<()> {
    mount_step(py, &name, sys::mount(&source.0, &target.0, None, libc::MS_BIND))
}

/// Which mount an open file is on.
#[pyfunction]
fn mount_id(fd: RawFd) -> PyResult<u64> {
    sys::mount_id(fd).map_err(os_error)
}

/// Keeps what is mounted below this mount from reaching other namespaces, see `mount_namespaces(7)`.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "as Python gives it")]
fn make_private(py: Python<'_>, path: Text) -> PyResult<()> {
    mount_step(py, &path, sys::mount(c"none", &path.0, None, libc::MS_PRIVATE))
}

/// Takes a mount away, once nobody uses it any more, see umount(2).
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "as Python gives it")]
fn unmount(py: Python<'_>, path: Text) -> PyResult<()> {
    mount_step(py, &path, sys::unmount(&path.0))
}
