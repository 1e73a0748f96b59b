//! What was asked for lately, and the plans that came of it. A plan can run any number of times: the same words need no
//! new one, as `re` does not compile a pattern again.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyList, PyString};

use crate::{Caller, Plan};

/// How many requests are kept: more than a loop is likely to alternate between.
const MOST: usize = 8;
/// Longer ones are not kept.
const MOST_CHARACTERS: usize = 4096;

/// Options whose meaning depends on nothing but their value.
const PURE: [&str; 10] = [
    "domainname",
    "hostname",
    "init",
    "kill_child",
    "loopback",
    "map_current_user",
    "map_root_user",
    "mount_proc",
    "propagation",
    "setgroups",
];

/// Never waited for: a fork may have left the lock taken for ever.
static LATELY: Mutex<Vec<Asked>> = Mutex::new(Vec::new());

struct Asked {
    flags: Py<PyAny>,
    argv: Vec<Py<PyAny>>,
    options: Vec<(Py<PyAny>, Py<PyAny>)>,
    caller: Caller,
    plan: Arc<Plan>,
}

impl Asked {
    fn is(&self, flags: &Bound<'_, PyAny>, argv: &Bound<'_, PyList>, options: &Bound<'_, PyDict>) -> bool {
        same(flags, &self.flags)
            && argv.len() == self.argv.len()
            && argv.iter().zip(&self.argv).all(|(given, kept)| same(&given, kept))
            && options.len() == self.options.len()
            && options.iter().zip(&self.options).all(|(given, kept)| same(&given.0, &kept.0) && same(&given.1, &kept.1))
    }
}

/// What is kept is of such a type, or compared as an object only: 1 is not True where a signal is meant.
fn same(given: &Bound<'_, PyAny>, kept: &Py<PyAny>) -> bool {
    if given.is(kept) {
        return true;
    }
    let kept = kept.bind(given.py());
    is_constant(given) && given.get_type().is(kept.get_type()) && given.eq(kept).unwrap_or(false)
}

/// Of a type whose values never change.
fn is_constant(value: &Bound<'_, PyAny>) -> bool {
    let is_text = value.is_exact_instance_of::<PyString>() || value.is_exact_instance_of::<PyBytes>();
    is_text || value.is_none() || value.is_exact_instance_of::<PyBool>() || value.is_exact_instance_of::<PyInt>()
}

/// The plan for these arguments of `nslab.spawn`, if it was asked for lately, by a caller with the same environment.
pub fn find(flags: &Bound<'_, PyAny>, argv: &Bound<'_, PyList>, options: &Bound<'_, PyDict>) -> Option<Arc<Plan>> {
    let lately = LATELY.try_lock().ok()?;
    let asked = lately.iter().rev().find(|asked| asked.is(flags, argv, options))?;
    asked.caller.is_unchanged(&asked.plan.options).then(|| Arc::clone(&asked.plan))
}

/// Keeps a plan, if nothing that led to it can change but the caller.
pub fn keep(
    flags: &Bound<'_, PyAny>,
    argv: &Bound<'_, PyList>,
    options: &Bound<'_, PyDict>,
    caller: Caller,
    plan: &Arc<Plan>,
) {
    let is_pure = |name: &Bound<'_, PyAny>| name.extract().is_ok_and(|name| PURE.contains(&name));
    let characters: usize = argv.iter().map(|item| item.len().unwrap_or(MOST_CHARACTERS)).sum();
    let constant = (is_constant(flags) || flags.is_instance_of::<PyInt>())
        && argv.iter().all(|item| is_constant(&item))
        && options.iter().all(|(name, value)| is_pure(&name) && is_constant(&value));
    if !constant || characters > MOST_CHARACTERS {
        return;
    }
    let asked = Asked {
        flags: flags.clone().unbind(),
        argv: argv.iter().map(Bound::unbind).collect(),
        options: options.iter().map(|(name, value)| (name.unbind(), value.unbind())).collect(),
        caller,
        plan: Arc::clone(plan),
    };
    if let Ok(mut lately) = LATELY.try_lock() {
        if lately.len() == MOST {
            lately.remove(0);
        }
        lately.push(asked);
    }
}
