//! Entering namespaces with the calling process, for a fork of Python.

use std::os::fd::RawFd;

use pyo3::prelude::*;

use super::{PyPlan, os_error, raise};
use crate::{Handshake, inspect};

/// Memory shared with a fork: who holds the namespaces, and who goes on for the fork.
#[pyclass(name = "Handshake", module = "nslab._core", frozen)]
pub struct PyHandshake(Handshake);

#[pymethods]
impl PyHandshake {
    #[new]
    fn new() -> PyResult<Self> {
        Handshake::new().map(Self).map_err(os_error)
    }

    /// Lets the fork enter the namespaces of this process.
    fn let_in(&self, holder: u32) {
        self.0.let_in(holder);
    }

    /// The pid of the process that goes on for the fork, or 0.
    #[getter]
    fn successor(&self) -> i32 {
        self.0.successor()
    }
}

/// Waits to be let in, and takes this process, a fork, into the holder's namespaces and the plan's new pid namespace,
/// where it goes on as another process; it ends with the process behind the pidfd `parent`.
#[pyfunction]
pub fn enter(py: Python<'_>, plan: &PyPlan, parent: RawFd, handshake: &PyHandshake) -> PyResult<()> {
    crate::enter(&plan.0, parent, &handshake.0).map_err(|error| raise(py, &error))
}

/// The descriptors of this process.
#[pyfunction]
pub fn descriptors() -> PyResult<Vec<RawFd>> {
    inspect::descriptors().map_err(os_error)
}

/// Puts the memory of this process into huge pages, which makes forks of it cheaper; returns how many there are.
#[pyfunction]
pub fn collapse_memory(py: Python<'_>) -> usize {
    py.detach(crate::collapse)
}
