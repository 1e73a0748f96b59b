//! Namespaces in stock, as Python holds them.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::convert::{Text, read_options};
use super::{make_plan, raise};
use crate::Options;
use crate::spawn::{self, Kept};

/// Namespaces that nothing but these descriptors keeps: closed with the object, whatever exception comes.
#[pyclass(module = "nslab._core", frozen)]
pub struct Held(Mutex<Kept>);

#[pymethods]
impl Held {
    /// The descriptor and the bit of each, for `join`.
    fn _to_join(&self) -> Vec<(RawFd, u32)> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|(row, fd)| (fd.as_raw_fd(), row.flag)).collect()
    }

    /// Forgets them now: an exception may keep this object for long.
    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Makes namespaces and keeps them.
#[pyfunction]
pub fn hold(py: Python<'_>, bits: u32, options: &Bound<'_, PyDict>) -> PyResult<Held> {
    let mut nobody = Options { keep: true, ..Options::default() };
    read_options(options, &mut nobody)?;
    let (plan, _) = make_plan(py, bits, vec![Text(c"-".to_owned())], Text(c"-".to_owned()), nobody)?;
    let held = py.detach(|| spawn::hold(&plan)).map_err(|error| raise(py, &error))?;
    Ok(Held(Mutex::new(held)))
}
