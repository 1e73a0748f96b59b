//! The core without Python: what `spawn` returns, how it fails, what it leaves behind.

mod lab;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use lab::{
    EVERYTHING, Living, alone, apart, by_path, everything, is_root, nothing, output, plan, program, refuse_clone3,
    run_plan, several_ids, shell, types, wait,
};
use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use nslab::{NAMESPACES, Options, Side, spawn};

const LONG: Duration = Duration::from_secs(60);

// ------------------------------------------------------------------------------------------------------ it works

#[test]
fn a_program_runs_in_its_namespaces() {
    let options = Options { hostname: Some(b"lab".to_vec()), ..shell("uts pid", "echo $(uname -n) $$; exit 3") };
    let ran = run_plan(&plan(options), [-1, -1]).unwrap();
    assert_eq!((ran.status, ran.text.as_str()), (3, "lab 1\n"));
}

#[test]
fn a_plan_runs_any_number_of_times() {
    let plan = plan(everything());
    for _ in 0..20 {
        assert_eq!(run_plan(&plan, [-1, -1]).unwrap().text.trim(), EVERYTHING);
    }
}

#[test]
fn what_is_kept_are_the_namespaces_of_a_program_that_has_ended() {
    for names in ["", "uts", "all"] {
        let spawned = spawn(&Arc::new(plan(shell(names, "exit 0")).keeping()), [-1; 3]).unwrap();
        wait(&spawned.process);
        let inode = |fd: &OwnedFd| File::from(fd.try_clone().unwrap()).metadata().unwrap().ino();
        let found: Vec<_> = spawned.kept.iter().map(|(row, fd)| (row.name, inode(fd))).collect();
        let told = NAMESPACES.iter().zip(spawned.namespaces()).map(|(row, id)| (row.name, id.unwrap().inode));
        let new = spawned.plan.options.flags;
        assert_eq!(found, told.filter(|(name, _)| new.contains(types(name))).collect::<Vec<_>>());
    }
}

#[test]
fn the_namespaces_are_those_of_the_program() {
    let script = "for n in cgroup ipc mnt net pid time user uts; do stat -L -c %i /proc/self/ns/$n; done";
    for names in ["", "uts", "all"] {
        let (mut read, write) = io::pipe().unwrap();
        let spawned = spawn(&plan(shell(names, script)), [-1, write.as_raw_fd(), -1]).unwrap();
        drop(write);
        let mut seen = String::new();
        read.read_to_string(&mut seen).unwrap();
        wait(&spawned.process);
        let told = spawned.namespaces().map(|id| id.unwrap().inode.to_string());
        assert_eq!(told.join("\n"), seen.trim());
        for (row, inode) in NAMESPACES.iter().zip(told) {
            let own = fs::metadata(format!("/proc/self/ns/{}", row.name)).unwrap();
            let is_new = spawned.plan.options.flags.contains(types(row.name));
            assert_eq!(inode != std::os::unix::fs::MetadataExt::ino(&own).to_string(), is_new, "{}", row.name);
        }
    }
}

#[test]
fn the_timeline_has_every_step_in_its_order() {
    if !is_root() {
        return;
    }
    for options in [everything(), several_ids(), program("", &["true"])] {
        let before = now();
        let spawned = spawn(&plan(options), [-1; 3]).unwrap();
        let after = now();
        wait(&spawned.process);
        assert_eq!(spawned.timeline().len(), spawned.plan.steps.len());
        for side in [Side::Parent, Side::Intermediate, Side::Child] {
            let steps = spawned.plan.steps.iter().zip(spawned.timeline());
            let mut last = before;
            for ((_, step), (start, duration)) in steps.filter(|((owner, _), _)| *owner == side) {
                assert!(last <= start && start + duration <= after, "{}: {:?}", step.name(), spawned.timeline());
                last = start;
            }
        }
    }
}

fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    #[allow(unsafe_code)]
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
    }
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

#[test]
fn many_threads_spawn_at_once() {
    if !is_root() {
        return;
    }
    let one = |thread: usize| {
        for round in 0..20 {
            let name = format!("lab-{thread}-{round}");
            let kill_child = (round % 4 == 0).then_some(libc::SIGKILL);
            let named = Options { hostname: Some(name.clone().into()), kill_child, ..program("uts", &["uname", "-n"]) };
            assert_eq!(output(named).trim(), name);
            assert_eq!(output(several_ids()).trim(), "0 0 1 1 1000 9");
        }
    };
    thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || one(thread));
        }
    });
}

#[test]
fn the_program_gets_the_signal_mask_of_the_thread() {
    use nix::sys::signal::{SigSet, Signal};
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGUSR1);
    mask.thread_block().unwrap();
    for kill_child in [None, Some(libc::SIGKILL)] {
        let options = Options { kill_child, ..program("", &["grep", "SigBlk", "/proc/self/status"]) };
        assert_eq!(output(options).trim(), "SigBlk:\t0000000000000200");
    }
    assert_eq!(SigSet::thread_get_mask().unwrap(), mask);
}

// ------------------------------------------------------------------------------------------------------- waiting

#[test]
fn nothing_is_reaped_before_wait() {
    let spawned = spawn(&plan(program("uts", &["true"])), [-1; 3]).unwrap();
    let pid = Pid::from_raw(spawned.process.pid());
    let look = || nix::sys::wait::waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
    assert_eq!([look(), look()], [Ok(WaitStatus::Exited(pid, 0)); 2]);
    let exit = wait(&spawned.process);
    assert_eq!((exit.returncode, exit.rusage.is_some()), (0, true));
    assert_eq!(waitpid(pid, None), Err(Errno::ECHILD));
    assert_eq!(wait(&spawned.process).returncode, 0);
}

#[test]
fn a_wait_ends_with_its_time() {
    let other = Living::new("lab");
    let limit = Duration::from_millis(30);
    let began = Instant::now();
    assert!(other.0.process.wait(Some(limit)).unwrap().is_none());
    assert!(began.elapsed() >= limit);
    assert!(other.0.process.poll().unwrap().is_none());
    assert!(other.0.process.exit().is_none());
}

#[test]
fn signals_reach_the_process_and_only_while_it_lives() {
    let spawned = spawn(&plan(program("uts", &["sleep", "600"])), [-1; 3]).unwrap();
    assert_eq!(spawned.process.send_signal(1000), Err(Errno::EINVAL));
    spawned.process.send_signal(libc::SIGTERM).unwrap();
    assert_eq!(wait(&spawned.process).returncode, -libc::SIGTERM);
    spawned.process.send_signal(libc::SIGTERM).unwrap();
}

#[test]
fn several_threads_wait_for_one_process() {
    let spawned = spawn(&plan(program("pid", &["sleep", "600"])), [-1; 3]).unwrap();
    let process = &spawned.process;
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| wait(process).returncode)).collect();
        process.send_signal(libc::SIGKILL).unwrap();
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap() == -libc::SIGKILL));
    });
}

#[test]
fn a_wait_is_interrupted_by_a_signal() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    extern "C" fn handler(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    #[allow(unsafe_code)]
    unsafe { sigaction(Signal::SIGUSR2, &action) }.unwrap();
    let other = Living::new("lab");
    let (waiter, done) = (nix::unistd::gettid().as_raw(), AtomicBool::new(false));
    thread::scope(|scope| {
        // Again and again: the first may come before the wait.
        scope.spawn(|| {
            while !done.load(Relaxed) {
                // SAFETY: numbers only, and the thread lives.
                #[allow(unsafe_code)]
                unsafe {
                    libc::syscall(libc::SYS_tgkill, std::process::id(), waiter, libc::SIGUSR2);
                }
                thread::yield_now();
            }
        });
        assert_eq!(other.0.process.wait(Some(LONG)).err(), Some(Errno::EINTR));
        done.store(true, Relaxed);
    });
}

#[test]
fn a_status_that_somebody_else_has_taken_is_known_all_the_same() {
    let spawned = spawn(&plan(shell("", "exit 3")), [-1; 3]).unwrap();
    let pid = Pid::from_raw(spawned.process.pid());
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 3)));
    let known = if linux() >= (6, 15) { 3 } else { 0 };
    let exit = wait(&spawned.process);
    assert_eq!((exit.returncode, exit.rusage.is_some()), (known, false));
}

fn linux() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn a_process_dropped_goes_on() {
    let (mut read, write) = io::pipe().unwrap();
    let (stdin, hold) = io::pipe().unwrap();
    let options = shell("uts", "read -r line; echo still here");
    let spawned = spawn(&plan(options), [stdin.as_raw_fd(), write.as_raw_fd(), -1]).unwrap();
    let pid = Pid::from_raw(spawned.process.pid());
    drop((spawned, write, stdin));
    drop(hold);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here\n");
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
}

// --------------------------------------------------------------------------------------- where clone3 is refused

#[test]
fn the_same_works_without_clone3() {
    if !is_root() {
        return;
    }
    apart("without_clone3", refuse_clone3);
}

#[test]
#[ignore = "run by another test, without clone3"]
fn without_clone3() {
    let ran = run_plan(&plan(everything()), [-1, -1]).unwrap();
    assert_eq!(ran.text.trim(), EVERYTHING);
    let names: Vec<_> = ran.plan.steps.iter().map(|(_, step)| step.name()).collect();
    assert!(names.contains(&"clear_sighand") && names.contains(&"unshare"), "{names:?}");
    assert_eq!(output(several_ids()).trim(), "0 0 1 1 1000 9");
    many_threads_spawn_at_once();
    the_namespaces_are_those_of_the_program();
    the_timeline_has_every_step_in_its_order();
}

// ------------------------------------------------------------------------------------------------ closed streams

#[test]
fn a_caller_without_streams_gets_no_wrong_ones() {
    if !is_root() {
        return;
    }
    apart("closed_stdin", nothing);
}

#[test]
#[ignore = "run by another test, alone in its process"]
fn closed_stdin() {
    nix::unistd::close(0).unwrap();
    // Whatever is opened now gets 0: the pidfd, `/proc`, a namespace file. None of them may become the program's stdin.
    let other = Living::new("joined");
    let script = "[ -e /proc/self/fd/0 ] && echo open || echo closed; uname -n";
    for names in ["", "uts", "user", "mnt pid time"] {
        let join = vec![by_path(&other, "uts")];
        let hostname = (names == "uts").then(|| b"joined".to_vec());
        let kill_child = Some(libc::SIGKILL);
        assert_eq!(output(Options { join, hostname, kill_child, ..shell(names, script) }), "closed\njoined\n");
    }
}

// ---------------------------------------------------------------------------------------------------- kill_child

#[test]
fn the_child_dies_with_its_parent() {
    if !is_root() {
        return;
    }
    let mut parent = alone("parent").stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines().map(Result::unwrap);
    let pids = lines.filter_map(|line| line.strip_prefix("child ")?.parse().ok());
    let children: Vec<_> = pids.take(4).map(pidfd).collect();
    assert_eq!(children.len(), 4);
    assert!(!children.iter().any(|child| ends(child, Duration::ZERO)));
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert!(children.iter().all(|child| ends(child, LONG)));
}

#[test]
#[ignore = "run by another test, which kills it"]
fn parent() {
    let sleep = |names| Options { kill_child: Some(libc::SIGKILL), ..program(names, &["sleep", "600"]) };
    let with_ids = Options { argv: sleep("").argv, executable: sleep("").executable, ..several_ids() };
    let plans = [
        sleep("uts"),
        sleep("pid user"),
        Options { user: Some(65534), kill_child: Some(libc::SIGTERM), ..sleep("") },
        Options { kill_child: Some(libc::SIGKILL), ..with_ids },
    ];
    for options in plans {
        // From a thread that ends at once: the signal follows the process.
        let spawned = thread::spawn(|| spawn(&plan(options), [-1; 3]).unwrap()).join().unwrap();
        println!("\nchild {}", spawned.process.pid());
        assert!(spawned.process.wait(Some(Duration::from_millis(50))).unwrap().is_none());
    }
    let _ = io::stdin().read(&mut [0]);
    thread::sleep(LONG);
}

fn pidfd(pid: i32) -> OwnedFd {
    // SAFETY: the call takes numbers; the kernel has just made the descriptor.
    #[allow(unsafe_code)]
    unsafe {
        let raw = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(raw >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(i32::try_from(raw).unwrap())
    }
}

fn ends(process: &OwnedFd, limit: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut entries = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut entries, PollTimeout::try_from(limit).unwrap()).unwrap() == 1
}
