//! A child that changes its ids or its user namespace clears the "dumpable" flag of the memory it shares with us:
//! no core dumps, no debugger, a `/proc/self` that belongs to root. So the flag is put back, see `PR_SET_DUMPABLE(2const)`.

use std::process;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};
use std::thread;

use crate::sys;

/// The process that has the lock, or 0. A mutex would stay locked in a fork made while another thread has it; this one
/// can tell that its holder is in another process.
static LOCK: AtomicU32 = AtomicU32::new(0);
/// How many children may clear the flag just now, and in which process.
static CHILDREN: AtomicI32 = AtomicI32::new(0);
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// What the flag was before the first of them.
static BEFORE: AtomicU64 = AtomicU64::new(1);

/// Puts the flag back when the last of those that live at the same time is dropped.
pub struct KeepDumpable(());

impl KeepDumpable {
    pub fn new() -> Self {
        locked(|process| {
            if PROCESS.swap(process, Relaxed) != process {
                CHILDREN.store(0, Relaxed);
            }
            if CHILDREN.fetch_add(1, Relaxed) == 0
                && let Ok(flag) = sys::prctl(libc::PR_GET_DUMPABLE, 0)
            {
                BEFORE.store(flag as u64, Relaxed);
            }
        });
        Self(())
    }
}

impl Drop for KeepDumpable {
    fn drop(&mut self) {
        locked(|_| {
            if CHILDREN.fetch_sub(1, Relaxed) == 1 {
                let _ = sys::prctl(libc::PR_SET_DUMPABLE, BEFORE.load(Relaxed));
            }
        });
    }
}

fn locked(change: impl FnOnce(u32)) {
    let process = process::id();
    while let Err(holder) = LOCK.compare_exchange(0, process, Acquire, Relaxed) {
        if holder != process && LOCK.compare_exchange(holder, process, AcqRel, Relaxed).is_ok() {
            break;
        }
        thread::yield_now();
    }
    change(process);
    LOCK.store(0, Release);
}
