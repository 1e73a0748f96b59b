//! Runs a plan: memory, descriptors, signal mask, clone; then reads what the child reported.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use nix::errno::Errno;

use crate::arena::Arena;
use crate::child::Run;
use crate::error::Error;
use crate::extras::{Extras, NOTHING, keep_dumpable};
use crate::inspect::{self, Namespaces};
use crate::keeper;
use crate::namespace::{NAMESPACES, NamespaceType};
use crate::plan::{Plan, Side};
use crate::process::{AboveProgram, Process};
use crate::report::{Progress, Report};
use crate::step::Step;
use crate::sys::{self, SignalMask};
use crate::time::{Passage, Stopped};
use crate::timeline::Timeline;

/// A child that executes its program, and how it came to be.
pub struct Spawned {
    /// The child.
    pub process: Process,
    /// What was run: the plan as given, or its variant for clone(2).
    pub plan: Arc<Plan>,
    timeline: Timeline,
    noted: Option<[[u64; 2]; NAMESPACES.len()]>,
    /// Descriptors of the new namespaces, where the plan keeps them.
    pub kept: Kept,
    thread: i32,
}

impl Spawned {
    /// When each step began and how long it took, in nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn timeline(&self) -> Vec<(u64, u64)> {
        self.timeline.of_steps(&self.plan)
    }

    /// The namespaces the program got.
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        let types = self.plan.steps.iter().find_map(|(_, step)| match step {
            Step::NoteNamespaces(types, _) => Some(*types),
            _ => None,
        });
        let mut found = inspect::of_child(types.unwrap_or_default(), &self.noted.unwrap_or_default(), self.thread);
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
pub fn spawn(plan: &Arc<Plan>, stdio: [RawFd; 3]) -> Result<Box<Spawned>, Error> {
    if plan.options.kill_child.is_none() {
        return spawn_here(plan, stdio, None);
    }
    let mask = sys::signal_mask().map_err(|errno| clone_error(plan, errno))?;
    let job = Arc::clone(plan);
    keeper::run(move || spawn_here(&job, stdio, Some(mask))).unwrap_or_else(|errno| Err(clone_error(plan, errno)))
}

/// A descriptor of each namespace.
pub type Kept = Vec<(&'static NamespaceType, OwnedFd)>;

/// Makes the namespaces of a plan to keep, and returns a descriptor of each.
///
/// # Errors
///
/// As for [`spawn`].
pub fn hold(plan: &Arc<Plan>) -> Result<Kept, Error> {
    let made = spawn_here(plan, [-1; 3], None)?;
    // The child has ended, or is about to.
    reap(Some(&made.process.into_pidfd()), false);
    Ok(made.kept)
}

/// `mask` is what the program gets as signal mask, where that is not this thread's.
fn spawn_here(plan: &Arc<Plan>, stdio: [RawFd; 3], mask: Option<SignalMask>) -> Result<Box<Spawned>, Error> {
    match attempt(plan, stdio, mask) {
        Err(Error::Step { step: "clone", errno: Errno::ENOSYS, .. }) if !plan.legacy => {
            attempt(&Arc::new(plan.with_legacy_clone()), stdio, mask)
        }
        result => result,
    }
}

fn attempt(plan: &Arc<Plan>, stdio: [RawFd; 3], mask: Option<SignalMask>) -> Result<Box<Spawned>, Error> {
    let arena = Arena::take(plan.copies_memory()).map_err(no_memory)?;
    let report = arena.report();
    report.clear(plan);
    let began = sys::clock(libc::CLOCK_MONOTONIC);
    let mut extras = if plan.needs_extras() { Some(Box::new(Extras::prepare(plan, report)?)) } else { None };
    let dumpable = if plan.needs_extras() { keep_dumpable(plan) } else { None };
    // Whoever enters a time namespace sees other clocks from then on, but for the wall clock.
    let clock = if plan.copies_memory() { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC };

    let cloning = if plan.needs_extras() { sys::clock(libc::CLOCK_MONOTONIC) } else { began };
    // A handler of this process must not run in the child, on memory that is ours.
    let before = sys::set_signal_mask(SignalMask::MAX).map_err(|errno| clone_error(plan, errno))?;
    let (mask, extra) = (mask.unwrap_or(before), extras.as_deref().unwrap_or(&NOTHING));
    let run = Run { plan, report, arena: &arena, stdio, mask, clock, extras: extra };
    let (args, entry) = run.first_clone();
    let mut outcome = match sys::clone(args, entry, &run) {
        Ok(pid) => outcome(&run, pid),
        Err(errno) => Err(clone_error(plan, errno)),
    };
    if let Some(extras) = &mut extras {
        outcome = finish(plan, report, extras, outcome);
    }
    let resumed = sys::clock(libc::CLOCK_MONOTONIC);
    drop(dumpable);
    sys::restore_signal_mask(before);

    let kept = if plan.keeps() { kept(report) } else { Kept::new() };
    let process = outcome?;
    let noted = plan.shares_files().then(|| report.noted());
    let shift = if clock == libc::CLOCK_MONOTONIC {
        0
    } else {
        sys::clock(libc::CLOCK_MONOTONIC).wrapping_sub(sys::clock(clock))
    };
    let timeline = Timeline::read(plan, report, shift, [began, cloning, resumed]);
    arena.give_back();
    Ok(Box::new(Spawned { process, plan: Arc::clone(plan), timeline, noted, kept, thread: sys::gettid() }))
}

#[cold]
fn no_memory(errno: Errno) -> Error {
    Error::Step { step: "mmap", detail: "stack".to_owned(), errno }
}

/// What the first process has kept, also when a later step failed.
fn kept(report: &Report) -> Kept {
    let kept = NAMESPACES.iter().zip(&report.kept);
    kept.filter_map(|(row, fd)| Some((row, sys::adopt(fd.load(Acquire))?))).collect()
}

/// Waits for what runs on after the clone has returned, and says what it said.
fn finish(
    plan: &Plan,
    report: &Report,
    extras: &mut Extras,
    outcome: Result<Process, Error>,
) -> Result<Process, Error> {
    let outcome = outcome.and_then(|process| above_program(plan, extras, process));
    let mut outcome = outcome.and_then(|process| through(plan, report, extras.passage.take(), process));
    if let Some((read, write)) = extras.ready.take() {
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
    outcome.map_err(|error| extras.complain(error))
}

/// The program below an init, which has sent it.
fn above_program(plan: &Plan, extras: &mut Extras, init: Process) -> Result<Process, Error> {
    let Some((socket, of_init)) = extras.sockets.take() else { return Ok(init) };
    drop(of_init);
    let pidfd = init.into_pidfd();
    match sys::receive_fd(socket.as_fd()) {
        Ok((pid, program)) => Ok(Process::new(pid, program, Some(AboveProgram { pidfd, socket }))),
        Err(errno) => {
            reap(Some(&pidfd), true);
            Err(clone_error(plan, errno))
        }
    }
}

/// No child could be made: that is the clone's error, whichever system call before it has noticed.
#[cold]
pub fn clone_error(plan: &Plan, errno: Errno) -> Error {
    Error::Step { step: "clone", detail: plan.options.flags.to_string(), errno }
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

/// Reads the report after the first process has given up the memory, and leaves nothing behind on failure.
fn outcome(run: &Run<'_>, first: i32) -> Result<Process, Error> {
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
    let pidfd = child.ok_or_else(|| clone_error(plan, Errno::EMFILE))?;
    if pidfd.as_raw_fd() > 2 {
        return Ok(Process::new(pid, pidfd, None));
    }
    match sys::copy_above_stdio(&pidfd) {
        Ok(above) => Ok(Process::new(pid, above, None)),
        Err(errno) => {
            reap(Some(&pidfd), true);
            Err(clone_error(plan, errno))
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
