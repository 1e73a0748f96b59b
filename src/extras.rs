//! What only some plans need for a run, beside memory and a signal mask: descriptors, and arguments that name them.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::dumpable::KeepDumpable;
use crate::error::Error;
use crate::init;
use crate::inspect;
use crate::options::{Join, JoinSource};
use crate::plan::Plan;
use crate::report::Report;
use crate::spawn::clone_error;
use crate::step::{MapFile, Step, join_text};
use crate::sys::{self, CStrArray};
use crate::time::Passage;

/// Made before the clone; what a child may look at is looked at through `raw`.
pub struct Extras {
    /// The namespace files to join, in the order of the options.
    pub joins: Vec<JoinFd>,
    /// `/proc` of the caller, where another mount namespace may be joined before it is needed.
    pub proc: Option<OwnedFd>,
    /// A pidfd of the thread that clones, for `kill_child`.
    pub thread: Option<OwnedFd>,
    /// The arguments of newuidmap(1) and newgidmap(1), the first being the program.
    pub helpers: [Option<CStrArray>; 2],
    /// Where those write their complaints: reading and writing end.
    pub complaints: Option<(OwnedFd, OwnedFd)>,
    /// How to enter a time namespace.
    pub passage: Option<Passage>,
    /// The file of the init's program.
    pub image: Option<OwnedFd>,
    /// Between the caller and the init above its program: the caller's end, and the init's.
    pub sockets: Option<(OwnedFd, OwnedFd)>,
    /// What an init closes when it is ready, if somebody waits for that: reading and writing end.
    pub ready: Option<(OwnedFd, OwnedFd)>,
    /// The init's arguments, where they are not the step's own: the second is the program's pid.
    pub init_argv: Option<CStrArray>,
}

/// Of a plan that needs none of it.
pub static NOTHING: Extras = Extras::none();

impl Extras {
    const fn none() -> Self {
        Self {
            joins: Vec::new(),
            proc: None,
            thread: None,
            helpers: [None, None],
            complaints: None,
            passage: None,
            image: None,
            sockets: None,
            ready: None,
            init_argv: None,
        }
    }

    /// Makes what this plan needs.
    ///
    /// # Errors
    ///
    /// A namespace that cannot be opened; no room for more descriptors.
    pub fn prepare(plan: &Plan, report: &Report) -> Result<Self, Error> {
        let refused = |errno| clone_error(plan, errno);
        let joins = open_joins(plan)?;
        let wants_helper = plan.steps.iter().any(|(_, step)| matches!(step, Step::MapHelper(..)));
        let image = plan.options.init.map(|_| init::open()).transpose().map_err(|errno| init_error(plan, errno))?;
        Ok(Self {
            proc: if plan.needs_proc() { open_proc().map_err(refused)? } else { None },
            thread: plan.options.kill_child.map(|_| sys::pidfd_of_thread()).transpose().map_err(refused)?,
            helpers: helpers(plan, report),
            complaints: wants_helper.then(sys::pipe).transpose().map_err(refused)?,
            passage: prepare_passage(plan, &joins)?,
            image,
            sockets: plan.has_init().then(sys::socketpair).transpose().map_err(refused)?,
            ready: plan.is_host().then(sys::pipe).transpose().map_err(refused)?,
            init_argv: plan.has_init().then(|| init_argv(report)),
            joins,
        })
    }

    /// Adds what newuidmap(1) said to the error of its step.
    pub fn complain(&mut self, error: Error) -> Error {
        let (Error::Step { step, detail, errno }, Some((read, write))) = (&error, self.complaints.take()) else {
            return error;
        };
        drop(write);
        let mut text = Vec::new();
        let _ = File::from(read).take(4096).read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        let detail = if text.is_empty() { detail.clone() } else { format!("{detail}: {}", text.trim()) };
        Error::Step { step, detail, errno: *errno }
    }
}

/// The number of a descriptor; -1 where there is none.
pub fn raw(fd: Option<&OwnedFd>) -> RawFd {
    fd.map_or(-1, AsRawFd::as_raw_fd)
}

/// A namespace file to join: opened for this run, or the caller's own.
pub enum JoinFd {
    /// Closed after it.
    Opened(OwnedFd),
    /// Left alone.
    Callers(RawFd),
}

impl JoinFd {
    /// Its number.
    pub fn raw(&self) -> RawFd {
        match self {
            Self::Opened(fd) => fd.as_raw_fd(),
            Self::Callers(fd) => *fd,
        }
    }
}

fn open_joins(plan: &Plan) -> Result<Vec<JoinFd>, Error> {
    let open = |join: &Join| {
        let opened = match &join.source {
            JoinSource::Fd(fd) => return Ok(JoinFd::Callers(*fd)),
            JoinSource::Path(path) => inspect::open_path(path),
            JoinSource::Id(id, pid) => inspect::open(join.types, *id, *pid),
        };
        opened.map(JoinFd::Opened).map_err(|errno| match errno {
            Errno::EMFILE | Errno::ENFILE => clone_error(plan, errno),
            errno => Error::Step { step: "open_ns", detail: join_text(join), errno },
        })
    };
    plan.options.join.iter().map(open).collect()
}

/// Without a `/proc` the steps that need it fail by themselves.
fn open_proc() -> Result<Option<OwnedFd>, Errno> {
    match sys::open_high(c"/proc", libc::O_PATH | libc::O_DIRECTORY) {
        Err(errno @ (Errno::EMFILE | Errno::ENFILE)) => Err(errno),
        proc => Ok(proc.ok()),
    }
}

fn init_error(plan: &Plan, errno: Errno) -> Error {
    match errno {
        Errno::EMFILE | Errno::ENFILE => clone_error(plan, errno),
        errno => Error::Step { step: "init", detail: "memfd_create".to_owned(), errno },
    }
}

/// The second is written later, when the program has a pid.
fn init_argv(report: &Report) -> CStrArray {
    CStrArray::with_slot(vec![c"nslab-init".to_owned(), CString::default()], 1, &report.program_text)
}

fn helpers(plan: &Plan, report: &Report) -> [Option<CStrArray>; 2] {
    let argv = |wanted: MapFile| {
        plan.steps.iter().find_map(|(_, step)| match step {
            Step::MapHelper(file, program, ranges) if *file == wanted => {
                let strings = [program.clone(), CString::default()].into_iter().chain(ranges.iter().cloned()).collect();
                Some(CStrArray::with_slot(strings, 1, &report.pid_text))
            }
            _ => None,
        })
    };
    [argv(MapFile::Users), argv(MapFile::Groups)]
}

fn prepare_passage(plan: &Plan, opened: &[JoinFd]) -> Result<Option<Passage>, Error> {
    let (Some(join), Some(exec)) = (plan.enters_time(), plan.exec()) else { return Ok(None) };
    let place = plan.options.join.iter().rposition(|all| all == join);
    let namespace = place.and_then(|place| opened.get(place)).map_or(-1, JoinFd::raw);
    Passage::prepare(plan, exec, namespace).map(Some).map_err(|errno| match errno {
        Errno::EMFILE | Errno::ENFILE => clone_error(plan, errno),
        errno => Error::Step { step: "setns", detail: join_text(join), errno },
    })
}

/// Guards the "dumpable" flag while a child of this plan may clear it.
pub fn keep_dumpable(plan: &Plan) -> Option<KeepDumpable> {
    let enters_user = plan.options.join.iter().any(|join| join.types.contains(crate::NamespaceSet::USER));
    let changes = plan.steps.iter().any(|(_, step)| matches!(step, Step::Setuid(_) | Step::Setgid(_)));
    (enters_user || changes).then(KeepDumpable::new)
}
