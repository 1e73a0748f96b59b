//! The class that `nslab.Process` stands on, with `subprocess.Popen` beside it.

use std::mem::take;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use pyo3::exceptions::{PyKeyboardInterrupt, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyInt, PyList, PyString, PyTuple};

use super::convert::{read_options, read_switches};
use super::{IdRow, PyPlan, lately, make_plan, os_error, raise, rows};
use crate::spawn::{Kept, Spawned};
use crate::{NamespaceSet, Options, Plan, spawn};

static KEEPS: AtomicBool = AtomicBool::new(false);

/// Whether each child, from now on, leaves descriptors of its new namespaces, with the bit of each, in its ``_kept``.
#[pyfunction]
pub fn keep_namespaces(on: bool) {
    KEEPS.store(on, Relaxed);
}

/// Descriptors that are the caller's to close, and the bit of each.
fn numbers(kept: Kept) -> Vec<(RawFd, u32)> {
    kept.into_iter().map(|(row, fd)| (fd.into_raw_fd(), row.flag)).collect()
}

/// A child that executes its program, once it has been started.
#[pyclass(module = "nslab._core", frozen, subclass)]
pub struct Child(OnceLock<Box<Spawned>>);

impl Child {
    fn made(&self) -> PyResult<&Spawned> {
        self.0.get().map(AsRef::as_ref).ok_or_else(|| PyValueError::new_err("the process was never started"))
    }

    fn run(slf: &Bound<'_, Self>, plan: &Arc<Plan>, stdio: [RawFd; 3]) -> PyResult<()> {
        let py = slf.py();
        let keeping = KEEPS.load(Relaxed).then(|| Arc::new(plan.keeping()));
        let mut spawned = match py.detach(|| spawn(keeping.as_ref().unwrap_or(plan), stdio)) {
            Ok(spawned) => spawned,
            Err(error) => return Err(raise(py, &error)),
        };
        if keeping.is_some() {
            slf.setattr(intern!(py, "_kept"), numbers(take(&mut spawned.kept)))?;
        }
        let pid = spawned.process.pid();
        if slf.get().0.set(spawned).is_err() {
            return Err(PyValueError::new_err("the process was started already"));
        }
        slf.setattr(intern!(py, "pid"), pid)
    }

    /// Sleeps until it ends; None when the time is over first.
    fn sleep(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        let process = &self.made()?.process;
        let limit = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            match py.detach(|| process.wait(left)) {
                Ok(ended) => return Ok(ended),
                Err(Errno::EINTR) => py.check_signals()?,
                Err(errno) => return Err(os_error(errno)),
            }
        }
    }
}

#[pymethods]
impl Child {
    /// Takes what its subclass takes: nothing is started yet.
    #[new]
    #[pyo3(signature = (*_args, **_options))]
    fn new(_args: &Bound<'_, PyTuple>, _options: Option<&Bound<'_, PyDict>>) -> Self {
        Self(OnceLock::new())
    }

    /// Starts a program that gets nothing but namespaces, as `subprocess` would; False, and nothing done, if the call
    /// asks for more than this understands. That is more once Python has converted it: `bits` for the flags, `own` for
    /// the options.
    #[pyo3(signature = (flags, argv, options, bits=None, own=None, /))]
    fn _start(
        slf: &Bound<'_, Self>,
        flags: &Bound<'_, PyAny>,
        argv: &Bound<'_, PyAny>,
        options: &Bound<'_, PyDict>,
        bits: Option<u32>,
        own: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        static AUDIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let Ok(argv) = argv.cast_exact::<PyList>() else { return Ok(false) };
        let Ok(program) = argv.get_item(0) else { return Ok(false) };
        let plan = match lately::find(flags, argv, options) {
            Some(plan) => plan,
            None => match plain_plan(flags, argv, options, bits, own)? {
                Some(plan) => plan,
                None => return Ok(false),
            },
        };
        slf.setattr(intern!(py, "args"), argv)?;
        let event = (intern!(py, "subprocess.Popen"), &program, argv, py.None(), py.None());
        AUDIT.import(py, "sys", "audit")?.call1(event)?;
        match Self::run(slf, &plan, [-1; 3]) {
            Ok(()) => Ok(true),
            Err(error) => Err(name_program(error, &program)),
        }
    }

    /// Runs a plan with these descriptors as 0, 1 and 2; -1 leaves the caller's own. Raises `nslab.SpawnError`.
    fn _run(slf: &Bound<'_, Self>, plan: &PyPlan, stdin: RawFd, stdout: RawFd, stderr: RawFd) -> PyResult<()> {
        Self::run(slf, &plan.0, [stdin, stdout, stderr])
    }

    /// Whether there is, or was, a process.
    #[getter]
    fn _child_created(&self) -> bool {
        self.0.get().is_some()
    }

    /// Most have been waited for, and there is nothing to do.
    fn __del__(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().0.get().is_some_and(|spawned| spawned.process.returncode().is_none()) {
            slf.call_method0(intern!(slf.py(), "_forsaken"))?;
        }
        Ok(())
    }

    /// Waits for the child to end and returns the return code; see `subprocess.Popen.wait`.
    #[pyo3(signature = (timeout=None))]
    fn wait<'py>(slf: &Bound<'py, Self>, timeout: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let known = slf.getattr(intern!(py, "returncode"))?;
        if !known.is_none() {
            return Ok(known);
        }
        if timeout.is_some() {
            return slf.call_method1("_wait_as_subprocess", (timeout,));
        }
        let ended = slf.get().sleep(py, None).or_else(|error| {
            if error.is_instance_of::<PyKeyboardInterrupt>(py) {
                // The first one leaves the child, which has probably seen the same ^C, a moment to end.
                let moment = slf.getattr("_sigint_wait_secs")?.extract()?;
                slf.setattr("_sigint_wait_secs", 0)?;
                if let Some(status) = slf.get().sleep(py, Some(moment))? {
                    slf.setattr("returncode", status)?;
                }
            }
            Err(error)
        })?;
        let status = ended.into_pyobject(py)?;
        slf.setattr(intern!(py, "returncode"), &status)?;
        Ok(status)
    }

    /// The return code once it has ended; None when the timeout (in seconds) is over first.
    #[pyo3(signature = (timeout=None, /))]
    fn _sleep(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        self.sleep(py, timeout)
    }

    /// The return code if it has ended, else None.
    fn _look(&self) -> PyResult<Option<i32>> {
        let Some(spawned) = self.0.get() else { return Ok(None) };
        spawned.process.poll().map_err(os_error)
    }

    /// Sends a signal to this process and no other.
    fn _signal(&self, signal: i32) -> PyResult<()> {
        self.made()?.process.send_signal(signal).map_err(os_error)
    }

    /// SIGKILL, and reaps it.
    fn _kill_and_reap(&self, py: Python<'_>) {
        let Some(spawned) = self.0.get() else { return };
        py.detach(|| spawned.process.kill_and_reap());
    }

    /// The open pidfd, see pidfd_open(2); closed with the object.
    #[getter]
    fn pidfd(&self) -> PyResult<RawFd> {
        Ok(self.made()?.process.pidfd().as_raw_fd())
    }

    /// The pidfd: readable once the process has ended.
    fn fileno(&self) -> PyResult<RawFd> {
        self.pidfd()
    }

    /// What was run.
    fn _made_plan(&self) -> PyResult<PyPlan> {
        Ok(PyPlan(Arc::clone(&self.made()?.plan)))
    }

    /// `(name, start, duration)` of each step in nanoseconds of `CLOCK_MONOTONIC`.
    fn _step_times(&self) -> PyResult<Vec<(&'static str, u64, u64)>> {
        let spawned = self.made()?;
        let steps = spawned.plan.steps.iter().zip(spawned.timeline());
        Ok(steps.map(|((_, step), (start, duration))| (step.name(), start, duration)).collect())
    }

    /// `(type, device, inode, id)` of each namespace of the program.
    fn _namespaces(&self) -> PyResult<Vec<IdRow>> {
        Ok(rows(&self.made()?.namespaces()))
    }

    /// The 16 numbers of `resource.struct_rusage`, once it has been reaped.
    fn _usage<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let usage = self.made()?.process.exit().and_then(|exit| exit.rusage);
        usage.map(|usage| rusage_tuple(py, &usage)).transpose()
    }
}

/// The bits of a number, or what the text was found to mean before, see `_namespace.py`.
fn known_flags(flags: &Bound<'_, PyAny>) -> PyResult<Option<u32>> {
    static KNOWN: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    if flags.cast_exact::<PyInt>().is_ok() {
        return Ok(flags.extract().ok().filter(|bits| NamespaceSet::from_bits(*bits).is_some()));
    }
    let Ok(text) = flags.cast_exact::<PyString>() else { return Ok(None) };
    let known = KNOWN.import(flags.py(), "nslab._namespace", "KNOWN_FLAGS")?;
    known.get_item(text)?.map(|bits| bits.extract()).transpose()
}

/// Gives the exception the file name that `subprocess` gives: the program as it was passed.
#[cold]
fn name_program(error: PyErr, program: &Bound<'_, PyAny>) -> PyErr {
    let value = error.value(program.py());
    let of_program = value.getattr("step").and_then(|step| step.eq("execve"));
    match of_program {
        Ok(true) => value.setattr("filename", program).err().unwrap_or(error),
        _ => error,
    }
}

/// Makes a plan without streams or other options of `subprocess`, and keeps it for the next time.
#[cold]
fn plain_plan(
    flags: &Bound<'_, PyAny>,
    argv: &Bound<'_, PyList>,
    options: &Bound<'_, PyDict>,
    bits: Option<u32>,
    own: Option<&Bound<'_, PyDict>>,
) -> PyResult<Option<Arc<Plan>>> {
    let mut request = Options { close_fds: true, restore_signals: true, ..Options::default() };
    let bits = match (bits, own) {
        (Some(bits), Some(own)) => {
            read_options(own, &mut request)?;
            bits
        }
        _ => match known_flags(flags)? {
            Some(bits) if read_switches(options, &mut request) => bits,
            _ => return Ok(None),
        },
    };
    let program = argv.get_item(0)?.extract()?;
    let (plan, caller) = make_plan(argv.py(), bits, argv.extract()?, program, request)?;
    lately::keep(flags, argv, options, caller, &plan);
    Ok(Some(plan))
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
