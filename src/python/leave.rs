//! The end of a `with` block that an exception of a signal handler does not cut short.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// A context manager whose `_leave` is called again where an exception came out of it.
///
/// An ``__exit__`` in Python can be interrupted before its first line.
#[pyclass(module = "nslab._core", frozen, subclass)]
pub struct Leaving;

#[pymethods]
impl Leaving {
    #[new]
    #[pyo3(signature = (*_args, **_options))]
    fn new(_args: &Bound<'_, PyTuple>, _options: Option<&Bound<'_, PyDict>>) -> Self {
        Self
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(slf: &Bound<'_, Self>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        let Err(first) = slf.call_method0("_leave") else { return Ok(()) };
        slf.call_method0("_leave")?;
        Err(first)
    }
}
