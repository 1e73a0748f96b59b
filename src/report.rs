//! What the processes of a run tell each other, in memory that all of them see: no pipe, no system call.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64};

use crate::namespace::NAMESPACES;
use crate::plan::{MAX_STEPS, Plan};

/// What parent, intermediate process and child tell each other: memory that all of them see.
#[repr(C)]
pub struct Report {
    /// How far the intermediate process came.
    pub intermediate: Progress,
    /// How far the child came.
    pub child: Progress,
    /// How far the init above it came.
    pub init: Progress,
    /// Futex: [`WAIT`], [`GO`] or [`ABORT`], for [`crate::Step::AwaitMaps`].
    pub go: AtomicU32,
    /// Futex: 1 while the child of an intermediate process uses this memory; the kernel clears it.
    pub held: AtomicU32,
    /// The child's pid, written by an intermediate process.
    pub pid: AtomicI32,
    /// The child's pidfd, written by the kernel.
    pub pidfd: AtomicI32,
    /// The pid in digits, for newuidmap(1).
    pub pid_text: Digits,
    /// The program's pid as its init knows it, in digits.
    pub program_text: Digits,
    /// 1 where the caller ignores SIGCHLD, which an init may not.
    pub ignored: AtomicU32,
    /// The wait status of a program that its init has reaped, because it was not executed.
    pub program_status: AtomicI32,
    /// When each step began and ended, in nanoseconds.
    pub times: [[AtomicU64; 2]; MAX_STEPS],
    /// The namespaces the program gets, by their position in the table: id, inode.
    pub namespaces: [[AtomicU64; 2]; NAMESPACES.len()],
    /// Their descriptors in the table of the caller, or -1, for [`crate::Step::Keep`].
    pub kept: [AtomicI32; NAMESPACES.len()],
}

/// Ten decimal digits, and NULs.
pub type Digits = [AtomicU8; 16];

/// How far one process came through the plan.
#[repr(C)]
pub struct Progress {
    /// 1 + the index of the step it is in; 0 before the first.
    pub stage: AtomicU32,
    /// Why that step failed, or 0.
    pub errno: AtomicI32,
}

impl Report {
    /// Makes it as good as new for a run of this plan.
    pub fn clear(&self, plan: &Plan) {
        for word in [&self.intermediate.stage, &self.child.stage, &self.init.stage, &self.go, &self.held, &self.ignored]
        {
            word.store(0, Relaxed);
        }
        let errnos = [&self.intermediate.errno, &self.child.errno, &self.init.errno];
        for number in errnos.into_iter().chain([&self.pid, &self.program_status]) {
            number.store(0, Relaxed);
        }
        self.pidfd.store(-1, Relaxed);
        for value in self.times[..plan.steps.len()].iter().flatten() {
            value.store(0, Relaxed);
        }
        if plan.shares_files() {
            self.namespaces.iter().flatten().for_each(|number| number.store(0, Relaxed));
            self.kept.iter().for_each(|fd| fd.store(-1, Relaxed));
        }
    }

    /// Id and inode of the namespaces that the program got, as far as it has noted them.
    pub fn noted(&self) -> [[u64; 2]; NAMESPACES.len()] {
        self.namespaces.each_ref().map(|numbers| numbers.each_ref().map(|number| number.load(Relaxed)))
    }
}

/// The maps are not written yet.
pub const WAIT: u32 = 0;
/// They are.
pub const GO: u32 = 1;
/// They never will be.
pub const ABORT: u32 = 2;
