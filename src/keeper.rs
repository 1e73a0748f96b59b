//! The thread that clones whatever must die with this process.
//!
//! The parent-death signal follows the *thread* that cloned, see prctl(2): cloned from a pool's worker, the child would
//! be killed when the worker retires. This thread lives as long as the process. Threads do not survive a fork, so a
//! forked process starts its own.

use std::sync::Once;
use std::sync::mpsc::{self, Sender};
use std::thread;

use nix::errno::Errno;

use crate::sys::{self, Published, SignalMask};

type Job = Box<dyn FnOnce() + Send>;

struct Keeper {
    pid: i32,
    jobs: Sender<Job>,
}

static KEEPER: Published<Keeper> = Published::new();

/// A fork may have the same pid, where both are the first process of a namespace.
extern "C" fn forget() {
    KEEPER.clear();
}

/// Runs the job on the keeper thread and waits for its result.
///
/// # Errors
///
/// What pthread_create(3) says when the thread cannot be made.
pub fn run<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Result<T, Errno> {
    let keeper = match KEEPER.get() {
        Some(keeper) if keeper.pid == sys::getpid() => keeper,
        // The thread of one that comes too late ends with its queue.
        old => KEEPER.publish(old, start()?).ok_or(Errno::EAGAIN)?,
    };
    let (answer, result) = mpsc::sync_channel(1);
    let job = Box::new(move || {
        let _ = answer.send(job());
    });
    keeper.jobs.send(job).map_err(|_| Errno::EAGAIN)?;
    result.recv().map_err(|_| Errno::EAGAIN)
}

fn start() -> Result<Keeper, Errno> {
    static IN_FORKS: Once = Once::new();
    IN_FORKS.call_once(|| sys::at_fork_in_child(forget));
    let (jobs, queue) = mpsc::channel::<Job>();
    // A signal meant for the process must find one of the caller's threads, not this one.
    let mask = sys::set_signal_mask(SignalMask::MAX)?;
    let thread = thread::Builder::new().name("nslab-keeper".to_owned()).stack_size(256 * 1024);
    let started = thread.spawn(move || queue.into_iter().for_each(|job| job()));
    sys::restore_signal_mask(mask);
    started.map_err(|error| error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw))?;
    Ok(Keeper { pid: sys::getpid(), jobs })
}
