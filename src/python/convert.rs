//! What Python gives, as the core takes it.

use std::ffi::CString;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use nix::errno::Errno;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyString, PyTuple};

use super::{KnownNamespaces, raise};
use crate::inspect::{self, NamespaceId};
use crate::options::{ClockOffset, Join, JoinSource};
use crate::{Error, IdRange, Init, MapRequest, NamespaceSet, Options};

/// Out of range is a ValueError, as `subprocess` has it.
pub fn read_groups(gids: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    gids.extract().map_err(|_| PyValueError::new_err("invalid group id"))
}

pub fn read_fd(fd: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let bad = |_| PyValueError::new_err(format!("pass_fds must be open descriptors, not {fd:?}"));
    fd.extract::<i64>()?.try_into().map_err(bad)
}

/// Those that are on or off; false if there is another, or one that is neither.
pub fn read_switches(options: &Bound<'_, PyDict>, o: &mut Options) -> bool {
    options.iter().all(|(name, value)| {
        let (Ok(name), Ok(value)) = (name.extract(), value.cast_exact::<PyBool>()) else { return false };
        switch(name, o).map(|switch| *switch = value.is_true()).is_some()
    })
}

fn switch<'o>(name: &str, o: &'o mut Options) -> Option<&'o mut bool> {
    match name {
        "map_root_user" => Some(&mut o.map_root_user),
        "map_current_user" => Some(&mut o.map_current_user),
        "loopback" => Some(&mut o.loopback),
        _ => None,
    }
}

/// The options of `nslab.spawn` that `subprocess` does not have.
pub fn read_options(options: &Bound<'_, PyDict>, o: &mut Options) -> PyResult<()> {
    for (name, value) in options {
        if !value.is_none() {
            read_option(name.extract()?, &value, o)?;
        }
    }
    Ok(())
}

fn read_option(name: &str, value: &Bound<'_, PyAny>, o: &mut Options) -> PyResult<()> {
    if let Some(switch) = switch(name, o) {
        *switch = value.is_truthy()?;
        return Ok(());
    }
    match name {
        "hostname" => o.hostname = Some(bytes(value)?),
        "domainname" => o.domainname = Some(bytes(value)?),
        "map_users" => o.map_users = Some(read_map(name, value)?),
        "map_groups" => o.map_groups = Some(read_map(name, value)?),
        "setgroups" => {
            o.setgroups = Some(match value.extract::<String>().as_deref() {
                Ok("allow") => true,
                Ok("deny") => false,
                _ => return Err(PyValueError::new_err(format!("setgroups must be 'allow' or 'deny', not {value:?}"))),
            });
        }
        "propagation" => {
            let word = value.extract::<String>();
            let word = word.map_err(|_| PyTypeError::new_err(format!("propagation must be a word, not {value:?}")))?;
            o.propagation = Some(word.parse().map_err(PyValueError::new_err)?);
        }
        "mount_proc" => o.mount_proc = Some(value.extract::<Text>()?.0),
        "monotonic" => o.monotonic = Some(read_offset(value)?),
        "boottime" => o.boottime = Some(read_offset(value)?),
        "join" => o.join = read_joins(value)?,
        "init" => o.init = value.is_truthy()?.then_some(Init::AboveProgram),
        // Of `nslab.Host` only.
        "host" => o.init = Some(Init::Alone),
        "kill_child" => o.kill_child = Some(value.extract()?),
        other => return Err(PyTypeError::new_err(format!("unknown option {other}"))),
    }
    Ok(())
}

/// A string for the kernel: `str`, `bytes` or a path, without NUL.
pub struct Text(pub CString);

impl<'py> FromPyObject<'_, 'py> for Text {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let bytes = bytes(&value)?;
        CString::new(bytes).map(Text).map_err(|_| PyValueError::new_err("embedded null byte"))
    }
}

/// `os.fsencode`.
fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    if let Ok(text) = value.cast::<PyString>() {
        // Every file system encoding has ASCII; for the rest ask Python which it is.
        if let Ok(ascii) = text.to_str()
            && ascii.is_ascii()
        {
            return Ok(ascii.as_bytes().to_vec());
        }
        return Ok(value.extract::<std::ffi::OsString>()?.into_vec());
    }
    let path = value.py().import("os")?.getattr("fspath")?.call1((value,))?;
    bytes(&path)
}

pub fn read_env(env: &Bound<'_, PyAny>) -> PyResult<Vec<CString>> {
    let pairs = env.call_method0("items")?;
    let pair = |pair: PyResult<Bound<'_, PyAny>>| {
        let pair = pair?;
        let mut variable = bytes(&pair.get_item(0)?)?;
        if variable.contains(&b'=') {
            return Err(PyValueError::new_err("illegal environment variable name"));
        }
        variable.push(b'=');
        variable.extend(bytes(&pair.get_item(1)?)?);
        CString::new(variable).map_err(|_| PyValueError::new_err("embedded null byte"))
    };
    pairs.try_iter()?.map(pair).collect()
}

fn read_map(option: &str, value: &Bound<'_, PyAny>) -> PyResult<MapRequest> {
    let malformed = |what: &Bound<'_, PyAny>, error: &PyErr| {
        let message = format!(
            "{option} must be (inside, outside, count) tuples of ids from 0 to 4294967294, \"auto\", \"subids\" or \
             \"all\", not {what:?}"
        );
        let is_type = error.is_instance_of::<PyTypeError>(what.py());
        if is_type { PyTypeError::new_err(message) } else { PyValueError::new_err(message) }
    };
    if let Ok(word) = value.extract::<String>() {
        return match word.as_str() {
            "auto" => Ok(MapRequest::Auto),
            "subids" => Ok(MapRequest::Subids),
            "all" => Ok(MapRequest::All),
            _ => Err(malformed(value, &PyValueError::new_err(()))),
        };
    }
    let mut ranges = Vec::new();
    for item in value.try_iter().map_err(|error| malformed(value, &error))? {
        let item = item?;
        // A list of three does as well as a tuple.
        let range = item.extract::<[u32; 3]>();
        let [inside, outside, count] = range.map_err(|error| malformed(&item, &error))?;
        ranges.push(IdRange { inside, outside, count });
    }
    Ok(MapRequest::Ranges(ranges))
}

/// `(seconds, nanoseconds)`.
fn read_offset(value: &Bound<'_, PyAny>) -> PyResult<ClockOffset> {
    let (seconds, nanoseconds) = value.extract()?;
    Ok(ClockOffset { seconds, nanoseconds })
}

fn read_joins(value: &Bound<'_, PyAny>) -> PyResult<Vec<Join>> {
    let mut joins = Vec::new();
    for item in value.try_iter()? {
        joins.extend(read_join(&item?)?);
    }
    Ok(joins)
}

/// An fd, `(fd, types)`, `(fd, types, KnownNamespaces)`, a path, or `(type, device, inode, id, pid)`; `None` if it stands for nothing that must be entered.
fn read_join(item: &Bound<'_, PyAny>) -> PyResult<Option<Join>> {
    let mut known = None;
    let (source, types) = if let Ok(fd) = item.extract::<RawFd>() {
        (JoinSource::Fd(fd), inspect::types_of_fd(fd))
    } else if let Ok((fd, bits)) = item.extract::<(RawFd, u32)>() {
        (JoinSource::Fd(fd), NamespaceSet::from_bits(bits))
    } else if let Ok((fd, bits, ids)) = item.extract::<(RawFd, u32, PyRef<'_, KnownNamespaces>)>() {
        known = Some(Arc::clone(&ids.0));
        (JoinSource::Fd(fd), NamespaceSet::from_bits(bits))
    } else if let Ok(tuple) = item.cast::<PyTuple>() {
        let (bits, device, inode, id, pid) = tuple.extract()?;
        (JoinSource::Id(NamespaceId { device, inode, id }, pid), NamespaceSet::from_bits(bits))
    } else {
        let path = item.extract::<Text>()?.0;
        let types = inspect::open_path(&path).map(|file| inspect::types_of_fd(file.as_raw_fd()));
        let detail = path.to_string_lossy().into_owned();
        let refused = |errno| {
            // As when it is opened again: no descriptor is left for a child.
            let step = if matches!(errno, Errno::EMFILE | Errno::ENFILE) { "clone" } else { "open_ns" };
            raise(item.py(), &Error::Step { step, detail, errno })
        };
        (JoinSource::Path(path), types.map_err(refused)?)
    };
    Ok(types.map(|types| Join { source, types, known }))
}
