//! Runs a plan: memory, descriptors, signal mask, clone; then reads what the child reported.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use nix::errno::Errno;

use crate::arena::Arena;
use crate::child::{Progress, Report, Run};
use crate::dumpable::KeepDumpable;
use crate::error::Error;
use crate::init;
use crate::inspect::{self, Namespaces};
use crate::keeper;
use crate::namespace::{NAMESPACES, NamespaceSet, NamespaceType};
use crate::options::{Join, JoinSource};
use crate::plan::{Plan, Side};
use crate::process::{AboveProgram, Process};
use crate::step::{MapFile, Step, join_text};
use crate::sys::{self, CStrArray, SignalMask};
use crate::time::{Passage, Stopped};

/// A child that executes its program, and how it came to be.
pub struct Spawned {
    /// The child.
    pub process: Process,
    /// What was run: the plan as given, or its variant for clone(2).
    pub plan: Arc<Plan>,
    /// When each step began and how long it took, in nanoseconds of `CLOCK_MONOTONIC`.
    pub timeline: Vec<(u64, u64)>,
    noted: [[u64; 2]; NAMESPACES.len()],
    thread: i32,
}

impl Spawned {
    /// The namespaces the program got.
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        let types = self.plan.steps.iter().find_map(|(_, step)| match step {
            Step::NoteNamespaces(types, _) => Some(*types),
            _ => None,
        });
        let mut found = inspect::of_child(types.unwrap_or_default(), &self.noted, self.thread);
        for (id, known) in found.iter_mut().zip(self.plan.options.known_joins()) {
            *id = known.or(*id);
        }
        found
    }
}

/// Runs the plan with these descriptors as 0, 1 and 2 (-1: the caller's own). Returns when the program has been
/// executed.
///
/// # Errors
///
/// The step that failed, or in which the child was killed. Nothing is left behind.
pub fn spawn(plan: &Arc<Plan>, stdio: [RawFd; 3]) -> Result<Spawned, Error> {
    if plan.options.kill_child.is_none() {
        return spawn_here(Arc::clone(plan), stdio, None);
    }
    let mask = sys::signal_mask().map_err(|errno| clone_error(plan, errno))?;
    let job = Arc::clone(plan);
    keeper::run(move || spawn_here(job, stdio, Some(mask))).unwrap_or_else(|errno| Err(clone_error(plan, errno)))
}

/// Makes the namespaces of a plan to keep, and returns a descriptor of each.
///
/// # Errors
///
/// As for [`spawn`].
pub fn hold(plan: &Arc<Plan>) -> Result<Kept, Error> {
    let (made, kept) = made_here(Arc::clone(plan), [-1; 3], None)?;
    // The child has ended, or is about to.
    reap(Some(&made.process.into_pidfd()), false);
    Ok(kept)
}

/// `mask` is what the program gets as signal mask, where that is not this thread's.
fn spawn_here(plan: Arc<Plan>, stdio: [RawFd; 3], mask: Option<SignalMask>) -> Result<Spawned, Error> {
    made_here(plan, stdio, mask).map(|(spawned, _)| spawned)
}

/// A descriptor of each namespace.
pub type Kept = Vec<(&'static NamespaceType, OwnedFd)>;

fn made_here(plan: Arc<Plan>, stdio: [RawFd; 3], mask: Option<SignalMask>) -> Result<(Spawned, Kept), Error> {
    match attempt(&plan, stdio, mask) {
        Err(Error::Step { step: "clone", errno: Errno::ENOSYS, .. }) if !plan.legacy => {
            let plan = Arc::new(plan.with_legacy_clone());
            attempt(&plan, stdio, mask).map(|ran| ran.of(plan))
        }
        ran => ran.map(|ran| ran.of(plan)),
    }
}

struct Ran {
    process: Process,
    kept: Kept,
    timeline: Vec<(u64, u64)>,
    noted: [[u64; 2]; NAMESPACES.len()],
}

impl Ran {
    fn of(self, plan: Arc<Plan>) -> (Spawned, Kept) {
        let (noted, thread) = (self.noted, sys::gettid());
        (Spawned { process: self.process, plan, timeline: self.timeline, noted, thread }, self.kept)
    }
}

fn attempt(plan: &Plan, stdio: [RawFd; 3], mask: Option<SignalMask>) -> Result<Ran, Error> {
    let arena = Arena::take(plan.copies_memory()).map_err(|errno| Error::Step {
        step: "mmap",
        detail: "stack".to_owned(),
        errno,
    })?;
    let report = arena.report();
    report.clear(plan.steps.len());
    let began = sys::clock(libc::CLOCK_MONOTONIC);
    let opened = open_joins(plan)?;
    let cloning = sys::clock(libc::CLOCK_MONOTONIC);
    let refused = |errno| clone_error(plan, errno);
    let proc = if plan.needs_proc() { open_proc().map_err(refused)? } else { None };
    let wants_helper = plan.steps.iter().any(|(_, step)| matches!(step, Step::MapHelper(..)));
    let pipe = if wants_helper { Some(sys::pipe().map_err(refused)?) } else { None };
    let image = plan.options.init.map(|_| init::open()).transpose().map_err(|errno| init_error(plan, errno))?;
    let sockets = if plan.has_init() { Some(sys::socketpair().map_err(refused)?) } else { None };
    let (socket, of_init) = sockets.unzip();
    let ready = if plan.is_host() { Some(sys::pipe().map_err(refused)?) } else { None };
    let passage = prepare_passage(plan, &opened)?;
    let thread = plan.options.kill_child.map(|_| sys::pidfd_of_thread()).transpose().map_err(refused)?;
    let joins: Vec<RawFd> = opened.iter().map(JoinFd::raw).collect();
    let raw = |fd: Option<&OwnedFd>| fd.map_or(-1, AsRawFd::as_raw_fd);
    // Whoever enters a time namespace sees other clocks from then on, but for the wall clock.
    let clock = if plan.copies_memory() { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC };

    // A handler of this process must not run in the child, on memory that is ours.
    let before = sys::set_signal_mask(SignalMask::MAX).map_err(refused)?;
    let run = Run {
        plan,
        report,
        stacks: arena.stacks(),
        stdio,
        proc: raw(proc.as_ref()),
        joins: &joins,
        thread: raw(thread.as_ref()),
        mask: mask.unwrap_or(before),
        helpers: helpers(plan, report),
        helper_stderr: raw(pipe.as_ref().map(|(_, write)| write)),
        time: passage.as_ref().map(Passage::entry),
        image: raw(image.as_ref()),
        socket: raw(of_init.as_ref()),
        ready: raw(ready.as_ref().map(|(_, write)| write)),
        init_argv: plan.has_init().then(|| init_argv(report)),
        clock,
    };
    let dumpable = changes_credentials(plan).then(KeepDumpable::new);
    let (args, entry) = run.first_clone();
    let cloned = sys::clone(args, entry, &run);
    let outcome = cloned.map_err(refused).and_then(|pid| outcome(&run, pid, socket));
    drop(run);
    let mut outcome = outcome.and_then(|process| through(plan, report, passage, process));
    if let Some((read, write)) = ready {
        drop(write);
        // Without a word the file ends with the init, of which nothing else is heard any more.
        let said = sys::read_words(read.as_fd());
        if said != Ok(Some([[0; 4]; 2])) {
            outcome = outcome.and_then(|process| {
                let died = died(plan, &report.child, Side::Child, process.kill_and_reap());
                Err(said.err().map_or(died, |errno| clone_error(plan, errno)))
            });
        }
    }
    let resumed = sys::clock(libc::CLOCK_MONOTONIC);
    drop(dumpable);
    sys::restore_signal_mask(before);
    let kept = NAMESPACES.iter().zip(&report.kept);
    let kept: Kept = kept.filter_map(|(row, fd)| Some((row, sys::adopt(fd.load(Acquire))?))).collect();

    let process = outcome.map_err(|error| with_complaint(error, pipe))?;
    let noted = report.namespaces.each_ref().map(|numbers| numbers.each_ref().map(|number| number.load(Relaxed)));
    let shift = if clock == libc::CLOCK_MONOTONIC {
        0
    } else {
        sys::clock(libc::CLOCK_MONOTONIC).wrapping_sub(sys::clock(clock))
    };
    let timeline = timeline(plan, report, shift, [began, cloning, resumed]);
    arena.give_back();
    Ok(Ran { process, kept, timeline, noted })
}

fn clone_error(plan: &Plan, errno: Errno) -> Error {
    Error::Step { step: "clone", detail: plan.options.flags.to_string(), errno }
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

fn prepare_passage(plan: &Plan, opened: &[JoinFd]) -> Result<Option<Passage>, Error> {
    let (Some(join), Some(exec)) = (plan.enters_time(), plan.exec()) else { return Ok(None) };
    let place = plan.options.join.iter().rposition(|all| all == join);
    let namespace = place.and_then(|place| opened.get(place)).map_or(-1, JoinFd::raw);
    Passage::prepare(plan, exec, namespace).map(Some).map_err(|errno| match errno {
        Errno::EMFILE | Errno::ENFILE => clone_error(plan, errno),
        errno => Error::Step { step: "setns", detail: join_text(join), errno },
    })
}

/// Waits until the program in between, where there is one, has made room for the one that was meant.
fn through(plan: &Plan, report: &Report, passage: Option<Passage>, process: Process) -> Result<Process, Error> {
    let Some(passage) = passage else { return Ok(process) };
    let (passing, executing) = (plan.steps_of_child() - 1, plan.steps_of_child());
    let now = || sys::clock(libc::CLOCK_MONOTONIC);
    report.times[passing][1].store(now(), Relaxed);
    report.times[executing][0].store(now(), Relaxed);
    let stopped = passage.outcome();
    report.times[executing][1].store(now(), Relaxed);
    let Some(stopped) = stopped else { return Ok(process) };
    let signal = process.kill_and_reap();
    let (index, errno) = match stopped {
        Stopped::Setns(errno) => (passing, errno),
        Stopped::Execve(errno) => (executing, errno),
        Stopped::Died => return Err(died(plan, &report.child, Side::Child, signal)),
    };
    let (_, step) = &plan.steps[index];
    Err(Error::Step { step: step.name(), detail: step.detail(), errno })
}

/// A namespace file to join: opened for this run, or the caller's own.
enum JoinFd {
    Opened(OwnedFd),
    Callers(RawFd),
}

impl JoinFd {
    fn raw(&self) -> RawFd {
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

fn changes_credentials(plan: &Plan) -> bool {
    let enters_user = plan.options.join.iter().any(|join| join.types.contains(NamespaceSet::USER));
    enters_user || plan.steps.iter().any(|(_, step)| matches!(step, Step::Setuid(_) | Step::Setgid(_)))
}

/// Reads the report after the first process has given up the memory, and leaves nothing behind on failure.
fn outcome(run: &Run<'_>, first: i32, socket: Option<OwnedFd>) -> Result<Process, Error> {
    let (plan, report) = (run.plan, run.report);
    let child = sys::adopt(report.pidfd.load(Acquire));
    let mut pid = first;
    if plan.has_intermediate() {
        let status = sys::wait_for(first).unwrap_or(0);
        pid = report.pid.load(Acquire);
        if status != 0 {
            // It was killed; the child may still run, on memory that is about to be used again.
            reap(child.as_ref(), true);
            return Err(died(plan, &report.intermediate, Side::Intermediate, status & 0x7f));
        }
        while report.held.load(Acquire) != 0 {
            sys::futex_wait(&report.held, 1);
        }
        if let Some(error) = failed(plan, &report.intermediate) {
            let signal = reap(child.as_ref(), false);
            return Err(if signal == 0 { error } else { died(plan, &report.child, Side::Child, signal) });
        }
    }
    if let Err(error) = program_runs(plan, report, child.as_ref()) {
        reap(child.as_ref(), false);
        return Err(error);
    }
    let refused = |errno| clone_error(plan, errno);
    let child = child.ok_or_else(|| refused(Errno::EMFILE)).and_then(|fd| sys::above_stdio(fd).map_err(refused))?;
    let Some(socket) = socket else { return Ok(Process::new(pid, child, None)) };
    match sys::receive_fd(socket.as_fd()) {
        Ok((pid, pidfd)) => Ok(Process::new(pid, pidfd, Some(AboveProgram { pidfd: child, socket }))),
        Err(errno) => {
            reap(Some(&child), true);
            Err(refused(errno))
        }
    }
}

/// Whether the child came to its execve, and the init above it too.
fn program_runs(plan: &Plan, report: &Report, child: Option<&OwnedFd>) -> Result<(), Error> {
    if let Some(error) = failed(plan, &report.child) {
        return Err(error);
    }
    let unfinished = |progress: &Progress, steps| progress.stage.load(Acquire) as usize != steps;
    let killed = report.program_status.load(Acquire) & 0x7f;
    if killed != 0 {
        return Err(died(plan, &report.child, Side::Child, killed));
    }
    if plan.has_init() {
        if let Some(error) = failed(plan, &report.init) {
            return Err(error);
        }
        if unfinished(&report.init, plan.steps.len()) {
            return Err(died(plan, &report.init, Side::Init, reap(child, false)));
        }
    }
    if unfinished(&report.child, plan.steps_of_child()) {
        return Err(died(plan, &report.child, Side::Child, reap(child, false)));
    }
    Ok(())
}

/// Waits for a child that has failed; returns the signal that ended it, if one did.
fn reap(child: Option<&OwnedFd>, kill: bool) -> i32 {
    let Some(pidfd) = child else { return 0 };
    if kill {
        let _ = sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    }
    loop {
        match sys::waitid(pidfd.as_fd(), 0) {
            Ok(Some(waited)) if waited.code != libc::CLD_EXITED => return waited.status,
            Err(Errno::EINTR) => {}
            Err(_) => return sys::pidfd_exit_status(pidfd.as_fd()).ok().flatten().unwrap_or(0) & 0x7f,
            Ok(_) => return 0,
        }
    }
}

fn failed(plan: &Plan, progress: &Progress) -> Option<Error> {
    let errno = progress.errno.load(Acquire);
    let stage = progress.stage.load(Acquire) as usize;
    let (_, step) = plan.steps.get(stage.wrapping_sub(1)).filter(|_| errno != 0)?;
    let errno = Errno::from_raw(errno);
    if matches!(errno, Errno::EMFILE | Errno::ENFILE) {
        // The child's table is a copy of ours: it is ours that is full, whichever step noticed it.
        return Some(clone_error(plan, errno));
    }
    let too_long = errno == Errno::E2BIG && matches!(step, Step::EnterTime(_));
    // The program in between gets the arguments of the one that is meant.
    let step = plan.steps.get(stage).filter(|_| too_long).map_or(step, |(_, execve)| execve);
    Some(Error::Step { step: step.name(), detail: step.detail(), errno })
}

fn died(plan: &Plan, progress: &Progress, side: Side, signal: i32) -> Error {
    let stage = progress.stage.load(Acquire) as usize;
    let own = plan.steps.iter().find(|(owner, _)| *owner == side);
    let step = plan.steps.get(stage.wrapping_sub(1)).or(own).map(|(_, step)| step);
    Error::Died { step: step.map_or("clone", Step::name), detail: step.map_or(String::new(), Step::detail), signal }
}

/// Adds what newuidmap(1) said to the error of its step.
fn with_complaint(error: Error, pipe: Option<(OwnedFd, OwnedFd)>) -> Error {
    let (Error::Step { step, detail, errno }, Some((read, write))) = (&error, pipe) else { return error };
    drop(write);
    let mut text = Vec::new();
    let _ = File::from(read).take(4096).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let detail = if text.is_empty() { detail.clone() } else { format!("{detail}: {}", text.trim()) };
    Error::Step { step, detail, errno: *errno }
}

/// `shift` turns the child's clock into the monotonic one.
fn timeline(plan: &Plan, report: &Report, shift: u64, [began, cloning, resumed]: [u64; 3]) -> Vec<(u64, u64)> {
    let child = |clock: u64| clock.wrapping_add(shift);
    let clone = plan.clone_index();
    let times = &report.times[..plan.steps.len()];
    let first =
        times.iter().map(|[clock, _]| clock.load(Relaxed)).filter(|clock| *clock != 0).min().map_or(cloning, child);
    let last = plan.steps.len() - 1;
    let steps = plan.steps.iter().zip(times).enumerate();
    steps
        .map(|(index, ((side, _), [started, ended]))| {
            let (started, ended) = (child(started.load(Relaxed)), child(ended.load(Relaxed)));
            let (start, end) = match side {
                Side::Parent if index == clone => (cloning, first),
                Side::Parent => (began, cloning),
                _ if index == last => (started, resumed),
                _ => (started, ended),
            };
            (start, end.saturating_sub(start))
        })
        .collect()
}
