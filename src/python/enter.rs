//! Entering namespaces with the calling process, for a fork of Python.

use std::os::fd::RawFd;

use pyo3::prelude::*;

use super::{PyPlan, raise};

/// Enters the namespaces of the process behind a pidfd, and with `new_pid` makes the next child the first in a pid
/// namespace; returns whether a child is needed to be inside. For a process with one thread.
#[pyfunction]
pub fn enter(py: Python<'_>, pidfd: RawFd, new_pid: bool) -> PyResult<bool> {
    crate::enter(pidfd, new_pid).map_err(|error| raise(py, &error))
}

/// Once inside: the plan's proc(5); orphans come to this process, and it ends with its parent.
#[pyfunction]
pub fn settle(py: Python<'_>, plan: &PyPlan) -> PyResult<()> {
    crate::settle(&plan.0).map_err(|error| raise(py, &error))
}
