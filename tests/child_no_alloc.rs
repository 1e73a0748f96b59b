//! Nothing is allocated or freed between clone and execve: proved by an allocator that ends every process that does,
//! except the one that runs the plans.

mod lab;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CString;
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::{fs, io};

use lab::{Living, apart, c, nothing, output, plan, program, refuse_clone3, run, shell, types};
use nix::errno::Errno;
use nslab::{
    Caller, ClockOffset, Error, IdRange, Join, JoinSource, MapRequest, Options, Plan, Propagation, Step, spawn,
};

/// The process that may allocate; 0 while everybody may.
static OWNER: AtomicI64 = AtomicI64::new(0);

struct Guarded;

#[global_allocator]
static ALLOCATOR: Guarded = Guarded;

/// Ends a process that is not the owner. By system calls only: it may share the owner's memory, libc's state included.
fn guard() {
    let owner = OWNER.load(Relaxed);
    // SAFETY: getpid(2) has no arguments, never fails, and so leaves errno alone.
    #[allow(unsafe_code)]
    let here = unsafe { libc::syscall(libc::SYS_getpid) };
    if owner == 0 || owner == here {
        return;
    }
    let none = 0u64;
    // SAFETY: `none` is the kernel's signal mask of 8 bytes.
    #[allow(unsafe_code)]
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, 0, 8);
        libc::syscall(libc::SYS_kill, here, libc::SIGABRT);
        // PID 1 of a namespace ignores it.
        libc::syscall(libc::SYS_exit_group, 134);
    }
}

// SAFETY: the system's allocator, behind a check that touches no memory.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        guard();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        guard();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        guard();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, size) }
    }
}

fn only_this_process_may_allocate() {
    assert_ne!(std::process::id(), 1, "PID 1 could not be told from a child in a new pid namespace");
    OWNER.store(i64::from(std::process::id()), Relaxed);
}

/// The wait status of a fork that does this.
fn in_a_fork(job: fn(Vec<u8>)) -> i32 {
    let memory = vec![1; 10];
    let mut status = 0;
    // SAFETY: the child makes no call but the job and exit.
    #[allow(unsafe_code)]
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            job(memory);
            libc::_exit(0);
        }
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
    }
    status
}

#[test]
fn the_detector_sees_what_another_process_allocates_and_frees() {
    only_this_process_may_allocate();
    let jobs: [fn(Vec<u8>); 3] = [
        |memory| {
            std::mem::forget(memory);
            std::mem::forget(black_box(Box::new(1)));
        },
        |memory| drop(black_box(memory)),
        |mut memory| {
            memory.reserve(100);
            std::mem::forget(black_box(memory));
        },
    ];
    for job in jobs {
        let status = in_a_fork(job);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "{status:#x}");
    }
    assert_eq!(in_a_fork(std::mem::forget), 0);
}

#[test]
fn no_step_allocates_or_frees() {
    apart("every_step_with_clone3", own_mounts);
}

#[test]
fn no_step_allocates_or_frees_where_clone3_is_refused() {
    apart("every_step_without_clone3", || own_mounts().and_then(|()| refuse_clone3()));
}

#[test]
#[ignore = "run by another test, in mounts of its own"]
fn every_step_with_clone3() {
    let seen = run_all();
    let unseen: Vec<_> = (0..STEPS).filter(|number| !seen.contains(number)).collect();
    assert_eq!(unseen, ONLY_WITHOUT_CLONE3);
}

#[test]
#[ignore = "run by another test, without clone3"]
fn every_step_without_clone3() {
    let seen = run_all();
    assert!((0..STEPS).all(|number| seen.contains(&number)), "{seen:?}");
}

const STEPS: usize = 32;
const ONLY_WITHOUT_CLONE3: [usize; 2] = [3, 4];

/// A number for each kind of step: a new one must be added here, and to a plan below.
fn number(step: &Step) -> usize {
    match step {
        Step::OpenNs(_) => 0,
        Step::Clone(_) => 1,
        Step::Setns(_) => 2,
        Step::ClearHandlers => 3,
        Step::Unshare(_) => 4,
        Step::AwaitMaps => 5,
        Step::WriteMap(..) => 6,
        Step::MapHelper(..) => 7,
        Step::TimensOffsets(_) => 8,
        Step::Propagation(..) => 9,
        Step::MakePrivate(_) => 10,
        Step::MountProc(_) => 11,
        Step::Loopback => 12,
        Step::Sethostname(_) => 13,
        Step::Setdomainname(_) => 14,
        Step::Stdio => 15,
        Step::PassFds(_) => 16,
        Step::Chdir(_) => 17,
        Step::Umask(_) => 18,
        Step::RestoreSignals => 19,
        Step::Setsid => 20,
        Step::Setpgid(_) => 21,
        Step::ExtraGroups(_) => 22,
        Step::Setgid(_) => 23,
        Step::Setuid(_) => 24,
        Step::UnshareFiles => 25,
        Step::NoteNamespaces(..) => 26,
        Step::ParentDeathSignal(_) => 27,
        Step::CloseFds(_) => 28,
        Step::SignalMask => 29,
        Step::Execve(_) => 30,
    }
}
