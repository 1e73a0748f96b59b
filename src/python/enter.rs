//! Entering namespaces with the calling process, for a fork of Python.

use std::os::fd::RawFd;

use pyo3::prelude::*;

use super::{PyPlan, raise};
use crate::Pid;

/// Enters the namespaces of the process behind a pidfd, with one thread; returns whether only a child is inside.
///
/// `new_pid`: whether the next child shall be the first in a new pid namespace; None leaves this process where it is.
#[pyfunction]
#[pyo3(signature = (pidfd, new_pid))]
pub fn enter(py: Python<'_>, pidfd: RawFd, new_pid: Option<bool>) -> PyResult<bool> {
    let pid = match new_pid {
        None => Pid::Keep,
        Some(true) => Pid::New,
        Some(false) => Pid::Join,
    };
    crate::enter(pidfd, pid).map_err(|error| raise(py, &error))
}

/// Once inside: the plan's proc(5); orphans come to this process, and it ends with its parent.
#[pyfunction]
pub fn settle(py: Python<'_>, plan: &PyPlan) -> PyResult<()> {
    crate::settle(&plan.0).map_err(|error| raise(py, &error))
}

/// Lets the next child of this thread be the first process of a new pid namespace; False without the privilege.
#[pyfunction]
pub fn unshare_pid(py: Python<'_>) -> PyResult<bool> {
    crate::unshare_pid().map_err(|error| raise(py, &error))
}

/// Lets the next child of this thread be born in the thread's own pid namespace again.
#[pyfunction]
pub fn rejoin_pid(py: Python<'_>) -> PyResult<()> {
    crate::rejoin_pid().map_err(|error| raise(py, &error))
}
