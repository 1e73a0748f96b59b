//! Nothing is allocated or freed between clone and execve, nor in a visit: proved by an allocator that ends every process that does,
//! except the one that runs the plans.

mod lab;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::hint::black_box;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::{fs, io};

use lab::{
    EVERYTHING, Living, SHOW_MAP, apart, by_path, by_pidfd, c, everything, failing, is_root, own_mounts, plan, proc_at,
    program, refuse_clone3, refused, run_plan, several_ids, shell, types, with_init,
};
use nix::errno::Errno;
use nslab::inspect::{Target, cgroup, ipc, network, uts};
use nslab::{Caller, IdRange, MapRequest, Options, Plan, Propagation, Step, hold, spawn};

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
    if !is_root() {
        return;
    }
    apart("every_step_with_clone3", own_mounts);
}

#[test]
fn no_step_allocates_or_frees_where_clone3_is_refused() {
    if !is_root() {
        return;
    }
    apart("every_step_without_clone3", || own_mounts().and_then(|()| refuse_clone3()));
}

#[test]
fn no_visit_allocates_or_frees() {
    only_this_process_may_allocate();
    let other = Living::new("visited");
    let open = |name: &str| fs::File::open(format!("/proc/{}/ns/{name}", other.pid())).unwrap();
    assert_eq!(uts::names(open("uts").as_raw_fd()).unwrap()[0], b"visited");
    assert_eq!(network::network(open("net").as_raw_fd()).unwrap().links[0].name, b"lo");
    let objects = ipc::objects(open("ipc").as_raw_fd()).unwrap();
    assert!([objects.message_queues, objects.semaphore_sets, objects.shared_memory].iter().all(Result::is_ok));
    assert!(objects.posix_queues.is_ok());
    let (paths, refused) = cgroup::paths(&Target::of_pid(other.pid()).unwrap()).unwrap();
    assert!(refused.is_none() && paths.iter().all(|path| path.inside.is_some()));
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

/// Runs every plan below, and returns the steps that were taken.
fn run_all() -> BTreeSet<usize> {
    only_this_process_may_allocate();
    give_subordinate_ids();
    let other = Living::new("joined");
    let mut seen = BTreeSet::new();
    for (plan, stdio, expected) in plans(&other) {
        let ran = run_plan(&plan, stdio).unwrap_or_else(|error| panic!("{error}\n{plan}"));
        assert_eq!((ran.status, ran.text.trim()), (0, expected.as_str()), "{plan}");
        seen.extend(ran.plan.steps.iter().map(|(_, step)| number(step)));
    }
    for flags in ["", "all"] {
        let keeping = Arc::new(plan(program(flags, &["true"])).keeping());
        let spawned = spawn(&keeping, [-1; 3]).unwrap();
        assert_eq!(spawned.kept.len(), if flags.is_empty() { 0 } else { 8 });
        lab::wait(&spawned.process);
    }
    let keep = plan(Options { keep: true, ..program("net ipc user", &["-"]) });
    assert_eq!(hold(&keep).unwrap().len(), 3);
    seen.extend(keep.steps.iter().map(|(_, step)| number(step)));
    for (plan, expected) in failing(&other) {
        assert_eq!(refused(&plan), expected, "{plan}");
    }
    if let [Some(allowed), Some(beyond)] = [100_000, 5].map(plan_for_newuidmap) {
        let ran = run_plan(&allowed, OWN).unwrap();
        assert_eq!(ran.text.trim(), "0 100000 9");
        seen.extend(ran.plan.steps.iter().map(|(_, step)| number(step)));
        assert_eq!(refused(&beyond), ("newuidmap", Errno::EPERM));
    } else {
        eprintln!("newuidmap(1) is not installed: its step is not seen");
        seen.insert(MAP_HELPER);
    }
    seen
}

/// Only in mounts that are not those of the process that started this one.
fn give_subordinate_ids() {
    let mounts = |process: &dyn std::fmt::Display| fs::read_link(format!("/proc/{process}/ns/mnt")).unwrap();
    assert_ne!(mounts(&"self"), mounts(&std::os::unix::process::parent_id()), "run it by `no_step_allocates_or_frees`");
    let file = std::env::temp_dir().join(format!("subids-{}", std::process::id()));
    fs::write(&file, "root:100000:65536\n").unwrap();
    for target in ["/etc/subuid", "/etc/subgid"] {
        let (source, target) = (CString::new(file.as_os_str().as_encoded_bytes()).unwrap(), c(target));
        let none = std::ptr::null();
        // SAFETY: the strings live during the call.
        #[allow(unsafe_code)]
        let mounted = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), none, libc::MS_BIND, none.cast()) };
        assert_eq!(mounted, 0, "{}", io::Error::last_os_error());
    }
    fs::remove_file(file).unwrap();
}

type Row = (Arc<Plan>, [RawFd; 2], String);

const OWN: [RawFd; 2] = [-1, -1];

fn plans(other: &Living) -> Vec<Row> {
    let row = |options: Options, expected: &str| (plan(options), OWN, expected.to_owned());
    let link = |fd: RawFd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap().display().to_string();
    let swapped = plan(shell("", "readlink /proc/$$/fd/0 /proc/$$/fd/2"));
    let passed = Options { pass_fds: vec![2, 1], ..shell("", "readlink /proc/$$/fd/2") };
    let leader = "read -r pid _ _ _ group _ </proc/self/stat; [ $pid = $group ] && echo leads";
    let ids = "echo $(id -u) $(id -g) $(id -G)";
    vec![
        row(program("", &["echo", "plain"]), "plain"),
        row(everything(), EVERYTHING),
        row(Options { propagation: Some(Propagation::Unchanged), ..proc_at("/sys") }, "1"),
        row(several_ids(), "0 0 1 1 1000 9"),
        row(
            Options { user: Some(65534), group: Some(7), extra_groups: Some(vec![3, 4]), ..shell("uts", ids) },
            "65534 7 7 3 4",
        ),
        row(Options { process_group: Some(0), ..shell("", leader) }, "leads"),
        (swapped, [2, 0], format!("{}\n{}", link(2), link(0))),
        row(passed, &link(2)),
        row(Options { join: vec![by_pidfd(other, "all")], ..shell("", "uname -n") }, "joined"),
        row(Options { join: vec![by_pidfd(other, "user uts pid")], ..shell("ipc net", "uname -n") }, "joined"),
        row(Options { join: vec![by_pidfd(other, "time")], ..shell("", "echo joined") }, "joined"),
        row(Options { join: vec![by_pidfd(other, "time")], ..shell("time", "echo joined") }, "joined"),
        row(Options { join: vec![by_pidfd(other, "time")], user: Some(65534), ..shell("", "id -u") }, "65534"),
        row(Options { join: vec![by_path(other, "uts")], ..shell("", "uname -n") }, "joined"),
        row(with_init(shell("pid uts", "echo $$ $PPID")), "2 1"),
        row(with_init(Options { join: vec![by_path(other, "uts")], ..shell("pid", "uname -n") }), "joined"),
        row(with_init(everything()), &EVERYTHING.replace("dom 1", "dom 2")),
        row(with_init(Options { flags: types("user pid"), ..several_ids() }), "0 0 1 1 1000 9"),
        row(
            Options { join: vec![by_path(other, "uts")], kill_child: Some(libc::SIGKILL), ..several_ids() },
            "0 0 1 1 1000 9",
        ),
    ]
}

/// As for a user whose maps the kernel would not take.
fn plan_for_newuidmap(outside: u32) -> Option<Arc<Plan>> {
    let map = Some(MapRequest::Ranges(vec![IdRange { inside: 0, outside, count: 9 }]));
    let options = Options { map_users: map.clone(), map_groups: map, ..shell("user", SHOW_MAP) };
    let caller = Caller { may_map_users: false, may_map_groups: false, ..Caller::for_options(&options) };
    caller.newuidmap.as_ref()?;
    Some(Arc::new(Plan::new(options, &caller).unwrap()))
}

const STEPS: usize = 36;
const ONLY_WITHOUT_CLONE3: [usize; 2] = [3, 4];
const MAP_HELPER: usize = 7;

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
        Step::MapHelper(..) => MAP_HELPER,
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
        Step::SendPidfd => 31,
        Step::ExecInit(_) => 32,
        Step::Keep(..) => 33,
        Step::EnterTime(_) => 34,
        Step::KeepCapabilities => 35,
    }
}
