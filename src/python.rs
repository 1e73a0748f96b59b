//! The door to Python, and with the modules below it the only place that names pyo3: exports and conversions.

mod convert;
mod process;
mod scan;
mod target;
mod visit;

use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use self::convert::{Text, read_env, read_fd, read_groups, read_option};
use crate::inspect::{self, NamespaceId};
use crate::process::Exit;
use crate::spawn::Spawned;
use crate::{Caller, Error, NAMESPACES, NamespaceSet, Options, Plan, spawn};

/// The Rust half of nslab.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::process::{capabilities, clocks, id_maps, mounts, processes};
    #[pymodule_export]
    use super::scan::{lsns, relations};
    #[pymodule_export]
    use super::target::PyTarget;
    #[pymodule_export]
    use super::visit::{cgroup, hostname, ipc, network};
    #[pymodule_export]
    use super::{PyChild, PyPlan, namespaces, open_namespace, plan, spawn_plain, table};
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
    let process = Options {
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
    make_plan(py, flags, argv, executable, options, process)
}

/// `plan` and `Plan.spawn` in one, for a program that gets nothing but namespaces.
#[pyfunction]
#[pyo3(signature = (flags, argv, executable, options, /), name = "spawn")]
fn spawn_plain(
    py: Python<'_>,
    flags: u32,
    argv: Vec<Text>,
    executable: Text,
    options: &Bound<'_, PyDict>,
) -> PyResult<PyChild> {
    let process = Options { close_fds: true, restore_signals: true, ..Options::default() };
    make_plan(py, flags, argv, executable, options, process)?.spawn(py, -1, -1, -1)
}

fn make_plan(
    py: Python<'_>,
    flags: u32,
    argv: Vec<Text>,
    executable: Text,
    options: &Bound<'_, PyDict>,
    process: Options,
) -> PyResult<PyPlan> {
    let flags = NamespaceSet::from_bits(flags).ok_or_else(|| PyValueError::new_err("unknown namespace bit"))?;
    let argv = argv.into_iter().map(|text| text.0).collect();
    let mut request = Options { flags, argv, executable: executable.0, ..process };
    for (name, value) in options {
        read_option(name.extract()?, &value, &mut request)?;
    }
    let caller = Caller::for_options(&request);
    let plan = Plan::new(request, &caller).map_err(|error| raise(py, &error))?;
    Ok(PyPlan(Arc::new(plan)))
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

    /// Runs it with these descriptors as 0, 1 and 2; -1 leaves the caller's own.
    fn spawn(&self, py: Python<'_>, stdin: RawFd, stdout: RawFd, stderr: RawFd) -> PyResult<PyChild> {
        let spawned = py.detach(|| spawn(&self.0, [stdin, stdout, stderr]));
        let spawned = spawned.map_err(|error| raise(py, &error))?;
        Ok(PyChild { spawned, claimed: AtomicBool::new(false) })
    }
}

/// A child that executes its program. Dropped unclaimed (an exception came between), it is killed and reaped.
#[pyclass(name = "Child", module = "nslab._core", frozen)]
struct PyChild {
    spawned: Spawned,
    claimed: AtomicBool,
}

#[pymethods]
impl PyChild {
    /// The pid in the caller's pid namespace.
    #[getter]
    fn pid(&self) -> i32 {
        self.spawned.process.pid()
    }

    /// The pidfd, open as long as this object.
    #[getter]
    fn pidfd(&self) -> RawFd {
        self.spawned.process.pidfd().as_raw_fd()
    }

    /// What was run.
    #[getter]
    fn plan(&self) -> PyPlan {
        PyPlan(Arc::clone(&self.spawned.plan))
    }

    /// `(name, start, duration)` of each step in nanoseconds of `CLOCK_MONOTONIC`.
    #[getter]
    fn timeline(&self) -> Vec<(&'static str, u64, u64)> {
        let steps = self.spawned.plan.steps.iter().zip(&self.spawned.timeline);
        steps.map(|((_, step), (start, duration))| (step.name(), *start, *duration)).collect()
    }

    /// `(type, device, inode, id)` of each namespace of the program.
    #[getter]
    fn namespaces(&self) -> Vec<IdRow> {
        rows(&self.spawned.namespaces())
    }

    /// The 16 numbers of `resource.struct_rusage`, once it has been reaped.
    #[getter]
    fn rusage<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let usage = self.spawned.process.exit().and_then(|exit| exit.rusage);
        usage.map(|usage| rusage_tuple(py, &usage)).transpose()
    }

    /// From now on the caller looks after it; returns the pid.
    fn claim(&self) -> i32 {
        self.claimed.store(true, Ordering::Relaxed);
        self.pid()
    }

    /// The return code if it has ended, else None.
    fn poll(&self) -> PyResult<Option<i32>> {
        let exit = self.spawned.process.poll().map_err(os_error)?;
        Ok(exit.map(|exit| exit.returncode))
    }

    /// Sleeps until it ends; None when the timeout (in seconds) is over first.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        let limit = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            match py.detach(|| self.spawned.process.wait(left)) {
                Ok(exit) => return Ok(exit.map(|exit: Exit| exit.returncode)),
                Err(Errno::EINTR) => py.check_signals()?,
                Err(errno) => return Err(os_error(errno)),
            }
        }
    }

    /// Sends a signal to this process and no other.
    fn send_signal(&self, signal: i32) -> PyResult<()> {
        self.spawned.process.send_signal(signal).map_err(os_error)
    }

    /// SIGKILL, and reaps it.
    fn end(&self, py: Python<'_>) {
        py.detach(|| end(&self.spawned));
    }
}

impl Drop for PyChild {
    fn drop(&mut self) {
        if !self.claimed.load(Ordering::Relaxed) {
            end(&self.spawned);
        }
    }
}

fn end(spawned: &Spawned) {
    let _ = spawned.process.send_signal(libc::SIGKILL);
    while spawned.process.wait(None).is_err_and(|errno| errno == Errno::EINTR) {}
}

fn rusage_tuple<'py>(py: Python<'py>, usage: &libc::rusage) -> PyResult<Bound<'py, PyTuple>> {
    #[allow(clippy::cast_precision_loss)] // as resource.struct_rusage has them
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let counts = [
        usage.ru_maxrss,
        usage.ru_ixrss,
        usage.ru_idrss,
        usage.ru_isrss,
        usage.ru_minflt,
        usage.ru_majflt,
        usage.ru_nswap,
        usage.ru_inblock,
        usage.ru_oublock,
        usage.ru_msgsnd,
        usage.ru_msgrcv,
        usage.ru_nsignals,
        usage.ru_nvcsw,
        usage.ru_nivcsw,
    ];
    let times = [usage.ru_utime, usage.ru_stime].map(seconds);
    let items = times.iter().map(|t| t.into_pyobject(py).map(Bound::into_any).map_err(PyErr::from));
    let items = items.chain(counts.iter().map(|n| n.into_pyobject(py).map(Bound::into_any).map_err(PyErr::from)));
    PyTuple::new(py, items.collect::<PyResult<Vec<_>>>()?)
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
        None => Ok(rows(&inspect::of_children(None))),
    }
}

/// Opens a namespace by its numbers, or through this process if it is still in it; returns the descriptor.
#[pyfunction]
fn open_namespace(bits: u32, device: u64, inode: u64, id: Option<u64>, pid: Option<i32>) -> PyResult<RawFd> {
    let types = NamespaceSet::from_bits(bits).unwrap_or_default();
    let file = inspect::open(types, NamespaceId { device, inode, id }, pid).map_err(os_error)?;
    Ok(file.into_raw_fd())
}
