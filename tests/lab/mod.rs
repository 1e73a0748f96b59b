//! What the test programs of the core share: plans in few words, what a child printed, and this program once more in
//! an environment that must not be its own.

#![allow(dead_code)] // each of them needs its part
#![allow(missing_docs)]

use std::env;
use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use nix::errno::Errno;
use nslab::{
    Caller, ClockOffset, Error, Exit, IdRange, Init, Join, JoinSource, MapRequest, NAMESPACES, NamespaceSet, Options,
    Plan, Process, Propagation, Spawned, spawn,
};

pub fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// `"uts pid"`, `"all"` or `""`.
pub fn types(names: &str) -> NamespaceSet {
    let all = names == "all";
    let rows = NAMESPACES.iter().filter(|row| all || names.split(' ').any(|name| name == row.name));
    NamespaceSet::from_bits(rows.map(|row| row.flag).sum()).unwrap()
}

/// This program in these namespaces, with what `subprocess` takes as defaults. For an ordinary user, with the user
/// namespace.
pub fn program(names: &str, argv: &[&str]) -> Options {
    let ordinary = !names.is_empty() && !nix::unistd::geteuid().is_root();
    Options {
        flags: if ordinary { types(names).union(types("user")) } else { types(names) },
        map_root_user: ordinary,
        executable: c(argv[0]),
        argv: argv.iter().map(|argument| c(argument)).collect(),
        close_fds: true,
        restore_signals: true,
        ..Options::default()
    }
}

pub fn with_init(options: Options) -> Options {
    Options { init: Some(Init::AboveProgram), ..options }
}

pub fn shell(names: &str, script: &str) -> Options {
    program(names, &["sh", "-c", script])
}

pub fn plan(options: Options) -> Arc<Plan> {
    let caller = Caller::for_options(&options);
    Arc::new(Plan::new(options, &caller).unwrap())
}

/// What became of a program.
pub struct Ran {
    pub status: i32,
    pub text: String,
    /// The plan as it was run.
    pub plan: Arc<Plan>,
}

/// Runs it with these as 0 and 2, and 1 piped.
pub fn run_plan(plan: &Arc<Plan>, [stdin, stderr]: [RawFd; 2]) -> Result<Ran, Error> {
    let (mut read, write) = io::pipe().unwrap();
    let spawned = spawn(plan, [stdin, write.as_raw_fd(), stderr])?;
    drop(write);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    Ok(Ran { status: wait(&spawned.process).returncode, text, plan: spawned.plan })
}

/// What it printed, once it has ended well.
pub fn output(options: Options) -> String {
    let ran = run_plan(&plan(options), [-1, -1]).unwrap();
    assert_eq!(ran.status, 0, "{}", ran.text);
    ran.text
}

pub fn wait(process: &Process) -> Exit {
    loop {
        match process.wait(None) {
            Ok(ended) => {
                assert!(ended.is_some());
                return process.exit().unwrap();
            }
            Err(errno) => assert_eq!(errno, Errno::EINTR),
        }
    }
}

/// The step and the errno of a spawn that must fail.
pub fn refused(plan: &Arc<Plan>) -> (&'static str, Errno) {
    match spawn(plan, [-1; 3]) {
        Err(Error::Step { step, errno, .. }) => (step, errno),
        Err(other) => panic!("{other}\n{plan}"),
        Ok(spawned) => panic!("it runs, and ended with {}\n{plan}", wait(&spawned.process).returncode),
    }
}

/// A child that lives until it is dropped.
pub struct Living(pub Box<Spawned>);

impl Living {
    /// In namespaces of all types, with this host name.
    pub fn new(hostname: &str) -> Self {
        let hostname = Some(hostname.into());
        let options = Options { hostname, map_root_user: true, ..program("all", &["sleep", "600"]) };
        Self(spawn(&plan(options), [-1; 3]).unwrap())
    }

    pub fn pid(&self) -> i32 {
        self.0.process.pid()
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.process.send_signal(libc::SIGKILL).unwrap();
        wait(&self.0.process);
    }
}

/// One ignored test of this program as a program of its own.
pub fn alone(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command
}

/// Runs it after `prepare` has changed its process, and fails if it fails.
///
/// `prepare` runs between fork and exec, so it may only make system calls.
pub fn apart(test: &str, prepare: fn() -> io::Result<()>) {
    let mut command = alone(test);
    // SAFETY: it makes system calls only, which is safe after a fork.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare);
    }
    let done = command.output().unwrap();
    let printed = [done.stdout, done.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(done.status.success(), "{test}: {}\n{printed}", done.status);
    assert!(printed.contains("1 passed"), "{printed}");
}

/// For a test that needs a process of its own, and nothing else.
#[allow(clippy::unnecessary_wraps)] // as `apart` takes it
pub fn nothing() -> io::Result<()> {
    Ok(())
}

/// What some container profiles do: clone3(2) answers ENOSYS.
pub fn refuse_clone3() -> io::Result<()> {
    filter(libc::SYS_clone3, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned())
}

/// Gives a system call another outcome in this process and its children, for ever, see seccomp(2).
pub fn filter(call: libc::c_long, outcome: u32) -> io::Result<()> {
    #[allow(clippy::cast_possible_truncation)] // the constants fit into their fields
    let op = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let number = u32::try_from(call).unwrap_or(0);
    let mut program = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // the number of the call
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number),
        op(libc::BPF_RET | libc::BPF_K, 0, outcome),
        op(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: the program lives during the calls.
    #[allow(unsafe_code)]
    let done = unsafe {
        if libc::geteuid() != 0 {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        }
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A mount namespace of its own, from which nothing reaches the others.
pub fn own_mounts() -> io::Result<()> {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let (none, root) = (c"none".as_ptr(), c"/".as_ptr());
    // SAFETY: the strings are constants.
    #[allow(unsafe_code)]
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, root, std::ptr::null(), private, std::ptr::null()) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// For tests of what only root may do; says where one is skipped.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

pub const SHOW_MAP: &str = "echo $(cat /proc/self/uid_map)";

pub fn several_ids() -> Options {
    let (zero, others) = (IdRange { inside: 0, outside: 0, count: 1 }, IdRange { inside: 1, outside: 1000, count: 9 });
    let map = Some(MapRequest::Ranges(vec![zero, others]));
    Options { map_users: map.clone(), map_groups: map, ..shell("user", SHOW_MAP) }
}

/// All namespaces and all options; prints [`EVERYTHING`].
pub fn everything() -> Options {
    let script = "echo $(uname -n) $(cat /proc/sys/kernel/domainname) $$ $(umask) $(pwd) $LAB $(id -u) \
                  $(sed -n 's/monotonic *\\([0-9]*\\).*/\\1/p' /proc/self/timens_offsets)";
    Options {
        hostname: Some(b"lab".to_vec()),
        domainname: Some(b"dom".to_vec()),
        map_root_user: true,
        propagation: Some(Propagation::Slave),
        mount_proc: Some(c("/proc")),
        loopback: true,
        monotonic: Some(ClockOffset { seconds: 100, nanoseconds: 5 }),
        boottime: Some(ClockOffset { seconds: 7, nanoseconds: 0 }),
        kill_child: Some(libc::SIGKILL),
        cwd: Some(c("/")),
        umask: Some(0o27),
        start_new_session: true,
        env: Some(vec![c("LAB=yes"), c("PATH=/nonexistent:/usr/bin:/bin")]),
        user: Some(0),
        group: Some(0),
        extra_groups: Some(Vec::new()),
        ..shell("all", script)
    }
}

pub const EVERYTHING: &str = "lab dom 1 0027 / yes 0 100";

pub fn proc_at(path: &str) -> Options {
    Options { mount_proc: Some(c(path)), ..shell("mnt pid", &format!("readlink {path}/self | wc -l")) }
}

pub fn by_pidfd(other: &Living, names: &str) -> Join {
    Join::new(JoinSource::Fd(other.0.process.pidfd().as_raw_fd()), types(names))
}

pub fn by_path(other: &Living, name: &str) -> Join {
    Join::new(JoinSource::Path(c(&format!("/proc/{}/ns/{name}", other.pid()))), types(name))
}

/// A plan for each step that can fail, and how it does. `other` is in namespaces of all types.
pub fn failing(other: &Living) -> Vec<(Arc<Plan>, (&'static str, Errno))> {
    let row = |options: Options, step: &'static str, errno: Errno| (plan(options), (step, errno));
    let yes = || program("uts", &["true"]);
    let own_user = || vec![Join::new(JoinSource::Path(c("/proc/self/ns/user")), types("user"))];
    let myself = || Options { map_current_user: true, ..program("user", &["true"]) };
    output(Options { join: vec![by_pidfd(other, "user")], ..shell("", "echo 0 >/proc/sys/user/max_ipc_namespaces") });
    vec![
        row(program("all", &["no-such-program"]), "execve", Errno::ENOENT),
        row(program("", &["/etc/passwd"]), "execve", Errno::EACCES),
        row(with_init(program("pid", &["no-such-program"])), "execve", Errno::ENOENT),
        row(with_init(proc_at("/nonexistent")), "mount_proc", Errno::ENOENT),
        row(Options { cwd: Some(c("/nonexistent")), ..yes() }, "chdir", Errno::ENOENT),
        row(proc_at("/nonexistent"), "mount_proc", Errno::ENOENT),
        row(Options { join: own_user(), ..program("", &["true"]) }, "setns", Errno::EINVAL),
        row(Options { join: own_user(), ..yes() }, "setns", Errno::EINVAL),
        row(Options { join: vec![by_pidfd(other, "user")], ..program("ipc", &["true"]) }, "clone", Errno::ENOSPC),
        row(Options { user: Some(4_000_000), ..myself() }, "setuid", Errno::EINVAL),
        row(Options { group: Some(4_000_000), ..myself() }, "setgid", Errno::EINVAL),
        row(Options { extra_groups: Some(vec![0]), ..myself() }, "extra_groups", Errno::EPERM),
        row(Options { pass_fds: vec![999], ..yes() }, "pass_fds", Errno::EBADF),
    ]
}
