//! The process that is looked into, as Python holds it.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{IdRow, id_row, os_error, rows};
use crate::NAMESPACES;
use crate::inspect::{Namespaces, Target};

/// A process, and never another one with the same pid; see `nslab._inspect.target`.
#[pyclass(name = "Target", module = "nslab._core", frozen)]
pub struct PyTarget {
    pid: i32,
    /// Until it is closed: an exception may keep this object for long.
    target: Mutex<Option<Arc<Target>>>,
}

impl PyTarget {
    /// What is read through, open until this is dropped.
    pub fn open(&self) -> PyResult<Arc<Target>> {
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        target.clone().ok_or_else(|| PyValueError::new_err("the target is closed"))
    }
}

#[pymethods]
impl PyTarget {
    /// The process with this pid, or behind this pidfd of it; without both, the caller.
    #[new]
    #[pyo3(signature = (pid=None, pidfd=None))]
    fn new(pid: Option<i32>, pidfd: Option<RawFd>) -> PyResult<Self> {
        let target = match (pid, pidfd) {
            (None, _) => Target::caller(),
            (Some(pid), None) => Target::of_pid(pid),
            (Some(pid), Some(pidfd)) => Target::of_pidfd(pid, pidfd),
        };
        let target = target.map_err(os_error)?;
        Ok(Self { pid: target.pid(), target: Mutex::new(Some(Arc::new(target))) })
    }

    /// The pid in the caller's pid namespace.
    #[getter]
    fn pid(&self) -> i32 {
        self.pid
    }

    /// Gives the descriptor back; from then on nothing can be read.
    fn close(&self) {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether it still runs: neither reaped nor a zombie.
    fn runs(&self) -> PyResult<bool> {
        Ok(self.open()?.runs())
    }

    /// The contents of one of its files in `/proc`.
    fn read<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyBytes>> {
        let (target, name) = (self.open()?, CString::new(name)?);
        let bytes = py.detach(|| target.read(&name)).map_err(os_error)?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// `(type, device, inode, id)` of each of its namespaces.
    fn namespaces(&self) -> PyResult<Vec<IdRow>> {
        let target = self.open()?;
        let mut found = Namespaces::default();
        for (index, row) in NAMESPACES.iter().enumerate() {
            found[index] = target.namespace(row.name).map_err(os_error)?;
        }
        Ok(rows(&found))
    }

    /// `(type, device, inode, id)` of one; None where this kernel has no such type or it may not be looked at.
    fn namespace(&self, name: &str) -> PyResult<Option<IdRow>> {
        let kind = NAMESPACES.iter().position(|row| row.name == name).ok_or_else(|| os_error(Errno::EINVAL))?;
        match self.open()?.namespace(name) {
            Ok(found) => Ok(found.map(|id| id_row(kind, id))),
            Err(Errno::EACCES | Errno::EPERM) => Ok(None),
            Err(errno) => Err(os_error(errno)),
        }
    }
}
