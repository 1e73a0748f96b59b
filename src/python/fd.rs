//! A descriptor, as Python holds it.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::sys;

/// A descriptor that is closed with its last reference: an exception of a signal handler, which may come after any call
/// of Python and before what it returned is kept, cannot lose it.
#[pyclass(module = "nslab._core", frozen)]
pub struct Fd(Mutex<Option<OwnedFd>>);

impl Fd {
    fn adopt(raw: RawFd) -> Self {
        Self(Mutex::new(sys::adopt(raw)))
    }
}

#[pymethods]
impl Fd {
    /// Calls ``open`` with the rest, and takes over the descriptor that it returns.
    #[new]
    #[pyo3(signature = (open, /, *args, **options))]
    fn new(open: &Bound<'_, PyAny>, args: &Bound<'_, PyTuple>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Ok(Self::adopt(open.call(args, options)?.extract()?))
    }

    /// The same for a function that returns two, such as `os.pipe`.
    #[staticmethod]
    fn pair(open: &Bound<'_, PyAny>) -> PyResult<(Self, Self)> {
        let (first, second) = open.call0()?.extract()?;
        Ok((Self::adopt(first), Self::adopt(second)))
    }

    /// The number.
    fn fileno(&self) -> PyResult<RawFd> {
        let fd = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fd.as_ref().map(AsRawFd::as_raw_fd).ok_or_else(|| PyValueError::new_err("the descriptor is closed"))
    }

    /// Closes it now: an exception may keep this object for long.
    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The number.
    fn __enter__(&self) -> PyResult<RawFd> {
        self.fileno()
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, PyTuple>) {
        self.close();
    }
}
