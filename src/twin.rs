//! The same experiment in other words: a line for unshare(1) and a C program. Both are views of the plan, step by step;
//! what one of them cannot express it says in a comment.

mod c;
mod c_parts;
mod unshare;

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::inspect;
use crate::namespace::{NamespaceSet, NamespaceType};
use crate::options::{Join, JoinSource};
use crate::step::{Exec, join_text};
use crate::sys::{self, CStrArray};

pub use c::c_source;
pub use unshare::unshare_command;

/// A namespace to join, as another process can open it.
struct Joined {
    /// What the plan calls it.
    text: String,
    /// Its type, and a file; `None` when neither is known.
    file: Option<(&'static NamespaceType, Vec<u8>)>,
}

/// One entry per namespace, the mount namespace last: it changes the root and with it every path.
fn joined(joins: &[Join]) -> Vec<Joined> {
    let mut all: Vec<_> = joins.iter().flat_map(entries).collect();
    all.sort_by_key(|joined| joined.file.as_ref().is_some_and(|(row, _)| row.flag == NamespaceSet::MNT.bits()));
    all
}

fn entries(join: &Join) -> Vec<Joined> {
    let text = || join_text(join);
    let rows = join.types.rows().map(|(_, row)| row);
    let known: Vec<_> =
        rows.map(|row| Joined { text: text(), file: path(&join.source, row).map(|path| (row, path)) }).collect();
    if known.is_empty() { vec![Joined { text: text(), file: None }] } else { known }
}

/// A descriptor means nothing in another process; its file in `/proc` does, as long as its owner lives.
fn path(source: &JoinSource, row: &NamespaceType) -> Option<Vec<u8>> {
    let of_process = |pid: i32| format!("/proc/{pid}/ns/{}", row.name).into_bytes();
    match source {
        JoinSource::Path(path) => {
            // The reader may be in another directory.
            let absolute = std::path::absolute(PathBuf::from(std::ffi::OsString::from_vec(path.to_bytes().to_vec())));
            absolute.ok().map(|path| path.into_os_string().into_vec())
        }
        JoinSource::Id(_, pid) => pid.map(of_process),
        JoinSource::Fd(fd) => match inspect::pid_of_pidfd(*fd) {
            Some(pid) => (pid > 0).then(|| of_process(pid)),
            None => Some(format!("/proc/{}/fd/{fd}", sys::getpid()).into_bytes()),
        },
    }
}

/// The environment, where it is not the one that everything started from here inherits.
fn own_environment(exec: &Exec) -> Option<Vec<CString>> {
    let environment = exec.envp.strings();
    (environment != CStrArray::environment().strings()).then_some(environment)
}

/// Text for a comment: on one line, and without characters that reorder or hide what follows.
fn one_line(text: &str) -> String {
    let shown = |c: char| matches!(c, ' '..='~') || c.is_alphanumeric();
    text.chars().flat_map(|c| if shown(c) { vec![c] } else { c.escape_default().collect() }).collect()
}

/// As both languages write bytes that are no text.
fn octal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:03o}")).collect::<Vec<_>>().concat()
}
