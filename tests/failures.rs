//! How `spawn` fails: the step, the errno, the signal; and that nothing is left behind.

mod lab;

use std::fs;

use lab::{
    Living, apart, failing, filter, is_root, nothing, output, plan, program, refuse_clone3, refused, run_plan,
    several_ids, types, with_init,
};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nslab::{Caller, ClockOffset, Error, Join, JoinSource, Options, Plan, spawn};

/// What a spawn must not change in its process.
fn traces() -> (Vec<(String, String)>, usize, usize, String, nix::Result<WaitStatus>) {
    let entries = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let link = |path: std::path::PathBuf| {
        let target = fs::read_link(&path).ok()?;
        Some((path.display().to_string(), target.display().to_string()))
    };
    let mut fds: Vec<_> = entries.filter_map(link).filter(|(_, target)| !target.ends_with("/fd")).collect();
    fds.sort();
    let threads = fs::read_dir("/proc/self/task").unwrap().count();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let stacks = maps.lines().filter(|line| line.contains("---p") && !line.contains('/')).count();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kept = ["SigBlk", "SigIgn", "SigCgt", "Umask"];
    let status = status.lines().filter(|line| kept.iter().any(|word| line.starts_with(word)));
    let children = waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL));
    (fds, threads, stacks, status.collect(), children)
}

#[test]
fn whatever_fails_says_where_and_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    apart("failures", nothing);
    apart("failures", refuse_clone3);
}

#[test]
#[ignore = "run by another test, alone in its process"]
fn failures() {
    let dumpable = nix::sys::prctl::get_dumpable().unwrap();
    let other = Living::new("other");
    let table = failing(&other);
    // The first ones leave a spare arena and the thread that kill_child needs, for the next.
    output(Options { kill_child: Some(libc::SIGKILL), ..program("", &["true"]) });
    for (plan, expected) in &table {
        assert_eq!(refused(plan), *expected, "{plan}");
    }
    let before = traces();
    assert_eq!(before.4, Ok(WaitStatus::StillAlive), "only the one that is joined");
    for (plan, expected) in &table {
        assert_eq!(refused(plan), *expected, "{plan}");
        assert_eq!(traces(), before, "{plan}");
    }
    output(Options { user: Some(65534), ..program("", &["true"]) });
    assert_eq!(nix::sys::prctl::get_dumpable().unwrap(), dumpable);
}

#[test]
fn a_child_killed_in_a_step_is_reported_and_reaped() {
    if !is_root() {
        return;
    }
    apart("killed_in_setsid", || filter(libc::SYS_setsid, libc::SECCOMP_RET_KILL_PROCESS));
    apart("killed_in_sethostname", || filter(libc::SYS_sethostname, libc::SECCOMP_RET_KILL_PROCESS));
    apart("killed_in_setns", || filter(libc::SYS_setns, libc::SECCOMP_RET_KILL_PROCESS));
}

fn killed(options: Options, step: &str) {
    let plan = plan(options);
    for _ in 0..3 {
        match spawn(&plan, [-1; 3]).err() {
            Some(Error::Died { step: died, signal, .. }) => assert_eq!((died, signal), (step, libc::SIGSYS)),
            other => panic!("{other:?}"),
        }
        assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)), Err(Errno::ECHILD));
    }
    assert_eq!(output(program("uts", &["echo", "well"])), "well\n");
}

#[test]
#[ignore = "run by another test, under a filter"]
fn killed_in_setsid() {
    killed(Options { start_new_session: true, ..program("uts", &["true"]) }, "setsid");
    killed(Options { start_new_session: true, ..several_ids() }, "setsid");
    killed(with_init(Options { start_new_session: true, ..program("pid", &["true"]) }), "setsid");
    killed(with_init(Options { flags: types("user pid"), start_new_session: true, ..several_ids() }), "setsid");
}

#[test]
#[ignore = "run by another test, under a filter"]
fn killed_in_setns() {
    let join = vec![Join::new(JoinSource::Path(c"/proc/self/ns/uts".to_owned()), types("uts"))];
    killed(Options { join: join.clone(), ..program("", &["true"]) }, "setns");
    killed(Options { join, ..program("uts", &["true"]) }, "setns");
}

#[test]
#[ignore = "run by another test, under a filter"]
fn killed_in_sethostname() {
    let named = Options { hostname: Some(b"lab".to_vec()), ..program("pid uts", &["true"]) };
    killed(with_init(named), "sethostname");
}

#[test]
fn a_full_descriptor_table_is_an_error_of_clone() {
    if !is_root() {
        return;
    }
    apart("full_table", nothing);
}

#[test]
#[ignore = "run by another test, alone in its process"]
fn full_table() {
    let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let (_, most) = nix::sys::resource::getrlimit(limit).unwrap();
    nix::sys::resource::setrlimit(limit, 40, most).unwrap();
    let init = plan(with_init(program("pid", &["true"])));
    let plans = [plan(program("uts", &["true"])), plan(several_ids()), init];
    let files: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    for plan in &plans {
        assert_eq!(refused(plan), ("clone", Errno::EMFILE));
    }
    drop(files);
    for plan in &plans {
        run_plan(plan, [-1, -1]).unwrap();
    }
}

#[test]
fn arguments_beyond_the_kernels_limit_are_an_error_of_execve() {
    let long = "x".repeat(131_072);
    assert_eq!(refused(&plan(program("uts", &["true", &long]))), ("execve", Errno::E2BIG));
}

#[test]
fn what_could_never_work_is_refused_before_the_clone() {
    let offset = |seconds| Some(ClockOffset { seconds, nanoseconds: 0 });
    let invalid = [
        (Options::default(), "argv must not be empty"),
        (Options { hostname: Some(b"lab".to_vec()), ..program("ipc", &["true"]) }, "hostname needs the uts namespace"),
        (Options { hostname: Some(vec![b'x'; 65]), ..program("uts", &["true"]) }, "at most 64"),
        (Options { hostname: Some(b"a\0b".to_vec()), ..program("uts", &["true"]) }, "NUL"),
        (Options { mount_proc: Some(c"/proc".to_owned()), ..program("mnt", &["true"]) }, "mnt and pid namespaces"),
        (Options { kill_child: Some(65), ..program("", &["true"]) }, "kill_child"),
        (Options { kill_child: Some(15), ..program("pid", &["true"]) }, "kill_child=15"),
        (Options { monotonic: offset(i64::MIN), ..program("time", &["true"]) }, "monotonic"),
        (Options { boottime: offset(i64::MAX), ..program("time", &["true"]) }, "boottime"),
        (Options { pass_fds: vec![-1], ..program("", &["true"]) }, "pass_fds"),
        (Options { map_root_user: true, map_current_user: true, ..program("user", &["true"]) }, "exclude each other"),
    ];
    for (options, words) in invalid {
        let caller = Caller::for_options(&options);
        match Plan::new(options, &caller).err() {
            Some(Error::Invalid(message)) => assert!(message.contains(words), "{message}"),
            other => panic!("{words}: {other:?}"),
        }
    }
}
