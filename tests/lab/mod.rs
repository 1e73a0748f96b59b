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
use nslab::{Caller, Error, Exit, NAMESPACES, NamespaceSet, Options, Plan, Process, Spawned, spawn};

pub fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// `"uts pid"`, `"all"` or `""`.
pub fn types(names: &str) -> NamespaceSet {
    let all = names == "all";
    let rows = NAMESPACES.iter().filter(|row| all || names.split(' ').any(|name| name == row.name));
    NamespaceSet::from_bits(rows.map(|row| row.flag).sum()).unwrap()
}

/// This program in these namespaces, with what `subprocess` takes as defaults.
pub fn program(names: &str, argv: &[&str]) -> Options {
    Options {
        flags: types(names),
        executable: c(argv[0]),
        argv: argv.iter().map(|argument| c(argument)).collect(),
        close_fds: true,
        restore_signals: true,
        ..Options::default()
    }
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
            Ok(exit) => return exit.unwrap(),
            Err(errno) => assert_eq!(errno, Errno::EINTR),
        }
    }
}

/// The step and the errno of a spawn that must fail.
pub fn refused(options: Options) -> (&'static str, Errno) {
    match spawn(&plan(options), [-1; 3]) {
        Err(Error::Step { step, errno, .. }) => (step, errno),
        Err(other) => panic!("{other}"),
        Ok(spawned) => panic!("it runs, and ended with {}", wait(&spawned.process).returncode),
    }
}

/// A child that lives until it is dropped.
pub struct Living(pub Spawned);

impl Living {
    pub fn new(mut options: Options) -> Self {
        options.argv = vec![c("sleep"), c("600")];
        options.executable = c("sleep");
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

/// Runs one ignored test of this program in a process of its own, after `prepare` has changed that; fails if it fails.
///
/// `prepare` runs between fork and exec, so it may only make system calls.
pub fn apart(test: &str, prepare: fn() -> io::Result<()>) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    // SAFETY: it makes system calls only, which is safe after a fork.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare);
    }
    let done = command.output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(done.status.success(), "{test}: {}\n{text}", done.status);
    assert!(text.contains("1 passed"), "{text}");
}

/// What some container profiles do: clone3(2) answers ENOSYS. It cannot be taken back.
pub fn refuse_clone3() -> io::Result<()> {
    const NUMBER: u32 = libc::SYS_clone3 as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let op = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // the number of the call
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, NUMBER),
        op(libc::BPF_RET | libc::BPF_K, 0, ENOSYS),
        op(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its filter live during the calls.
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

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
