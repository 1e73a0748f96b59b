//! The code that runs between clone and exec.
//!
//! # READ THIS BEFORE CHANGING A LINE
//!
//! 1. The child shares all memory with a process that has other threads. One of them may hold malloc's lock, or any
//!    other, at the moment of the clone; in the child nobody will ever release it. So nothing here allocates, frees,
//!    locks, formats, prints or panics.
//! 2. What the child writes, the parent sees. So nothing here is dropped, no thread-local (errno!) is touched, and the
//!    only memory written is the child's own stack and the [`Report`].
//! 3. An unwinding child would run the parent's destructors; a returning one, its exit handlers. So the only ways out
//!    are execve and `exit_group`.
//! 4. Signals are blocked and handlers reset: a handler of the parent would run here, on shared memory.
//!
//! Everything that a step needs has been prepared by [`crate::plan`] and [`crate::spawn`].

use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use nix::errno::Errno;

use crate::arena::Arena;
use crate::extras::{Extras, raw};
use crate::namespace::NamespaceSet;
use crate::options::Join;
use crate::plan::{Plan, Side};
use crate::report::{ABORT, Digits, GO, Progress, Report, WAIT};
use crate::step::{Exec, MapFile, OWN_FILES, Step};
use crate::sys::{self, CStrArray, CloneArgs, SignalMask};
use crate::time::Passage;

/// The stacks of an arena, by who uses them.
pub const CHILD_STACK: usize = 0;
/// The intermediate process runs beside the child.
pub const INTERMEDIATE_STACK: usize = 1;
/// newuidmap(1) is started while both others live.
pub const HELPER_STACK: usize = 2;
/// The child of an init, which uses the first.
pub const PROGRAM_STACK: usize = 3;
/// How many there are.
pub const STACKS: usize = 4;

/// One run of a plan: all that the child side may look at.
pub struct Run<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// Where to say how it went.
    pub report: &'a Report,
    /// Where the stacks are.
    pub arena: &'a Arena,
    /// What becomes 0, 1 and 2; -1 leaves it.
    pub stdio: [RawFd; 3],
    /// What the calling thread had blocked.
    pub mask: SignalMask,
    /// The clock of the timeline.
    pub clock: libc::clockid_t,
    /// What only some plans need.
    pub extras: &'a Extras,
}

/// What a child needs to enter a time namespace.
pub struct TimeEntry<'a> {
    /// The namespace.
    pub namespace: RawFd,
    /// The file of the program in between, and its arguments.
    pub image: RawFd,
    /// Where that writes what fails.
    pub report: RawFd,
    /// Its arguments: the descriptors, and the program with its own.
    pub argv: &'a CStrArray,
}

/// The child: its steps, ending in execve.
pub fn child(run: &Run<'_>) -> i32 {
    perform(run, Side::Child, &run.report.child);
    127
}

/// The init above a program: sets the namespaces up, makes the child, becomes what reaps.
pub fn init(run: &Run<'_>) -> i32 {
    perform(run, Side::Init, &run.report.init);
    127
}

/// The process in between: enters the namespaces to join, makes the child there, writes its id maps from outside.
pub fn intermediate(run: &Run<'_>) -> i32 {
    let report = run.report;
    let done = perform(run, Side::Intermediate, &report.intermediate);
    report.go.store(if done { GO } else { ABORT }, Release);
    sys::futex_wake(&report.go);
    // The caller waits until the child has left its memory; a copy of it is the child's for as long as we live.
    while run.plan.copies_memory() && report.held.load(Acquire) != 0 {
        sys::futex_wait(&report.held, 1);
    }
    0
}

fn perform(run: &Run<'_>, side: Side, progress: &Progress) -> bool {
    let report = run.report;
    let mut stage = 0;
    for ((owner, step), [started, ended]) in run.plan.steps.iter().zip(&report.times) {
        stage += 1;
        if *owner != side {
            continue;
        }
        progress.stage.store(stage, Release);
        started.store(sys::clock(run.clock), Relaxed);
        let result = match step {
            Step::Clone(_) if side == Side::Init => run.clone_program(),
            Step::Clone(types) => run.clone_child(*types),
            other => other.run(run),
        };
        if let Err(errno) = result {
            progress.errno.store(errno as i32, Release);
            return false;
        }
        ended.store(sys::clock(run.clock), Relaxed);
    }
    true
}

/// newuidmap(1) or newgidmap(1), without an environment: it is set-user-ID root, and there may be no program whose
/// environment it could have. Everything else of the caller's is closed on exec.
fn helper((run, argv): &(&Run<'_>, &CStrArray)) -> i32 {
    let _ = sys::dup2(raw(run.extras.complaints.as_ref().map(|(_, write)| write)), 2);
    sys::restore_signal_mask(run.mask);
    if let Some(program) = argv.iter().next() {
        let errno = sys::execve(program, argv, None);
        run.report.intermediate.errno.store(errno as i32, Release);
    }
    127
}

/// Closes what `/proc/self/fd` lists.
fn close_listed(ranges: &[(u32, u32)], keep: &[RawFd]) -> sys::Result<()> {
    let dir = sys::openat(libc::AT_FDCWD, c"/proc/self/fd", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut buffer = [0u8; 4096];
    loop {
        let length = sys::getdents(dir, &mut buffer)?;
        if length == 0 {
            break;
        }
        let mut entries = &buffer[..length];
        // struct linux_dirent64: inode, offset (8 each), length (2), type (1), name
        while let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, low, high, _, name @ ..] = entries {
            let digits = name.iter().take_while(|byte| byte.is_ascii_digit());
            let number = digits.fold(0u32, |n, byte| n.wrapping_mul(10).wrapping_add(u32::from(byte - b'0')));
            let is_number = name.first().is_some_and(u8::is_ascii_digit);
            let wanted = ranges.iter().any(|(first, last)| (*first..=*last).contains(&number));
            if is_number && wanted && number != dir.cast_unsigned() && !keep.contains(&number.cast_signed()) {
                sys::close(number.cast_signed());
            }
            entries = entries.get(usize::from(u16::from_le_bytes([*low, *high]))..).unwrap_or(&[]);
        }
    }
    Ok(())
}

impl Run<'_> {
    /// The flags of the child's clone. It begins with the caller's own descriptor table, because only there the kernel
    /// has put its pidfd; its first step copies the table, which clone would have done otherwise.
    fn child_flags(&self, types: NamespaceSet) -> u64 {
        let files = if self.plan.shares_files() { libc::CLONE_FILES as u64 } else { 0 };
        self.base_flags() | files | libc::CLONE_PIDFD as u64 | u64::from(types.bits())
    }

    /// The flags of any clone of ours, whatever it is for.
    fn base_flags(&self) -> u64 {
        let clear = if self.plan.legacy { 0 } else { CLONE_CLEAR_SIGHAND };
        libc::CLONE_VM as u64 | clear
    }

    /// How the calling thread makes its process: the child itself, or the intermediate one.
    pub fn first_clone(&self) -> (CloneArgs<'_>, fn(&Run<'_>) -> i32) {
        let own_memory = if self.plan.copies_memory() { libc::CLONE_VM as u64 } else { 0 };
        let vfork = libc::CLONE_VFORK as u64;
        if self.plan.has_intermediate() {
            // It shares the descriptor table, so that the child's pidfd appears in the caller's; and it has no exit
            // signal, so that only who knows its pid can reap it.
            let flags = (self.base_flags() & !own_memory) | vfork | libc::CLONE_FILES as u64;
            (self.clone_args(flags, 0, INTERMEDIATE_STACK), intermediate)
        } else {
            let flags = self.child_flags(self.plan.clone_flags()) | vfork;
            (self.clone_args(flags, libc::SIGCHLD, CHILD_STACK), self.made())
        }
    }

    /// What begins in the new namespaces.
    fn made(&self) -> fn(&Run<'_>) -> i32 {
        if self.plan.has_init() { init } else { child }
    }

    fn clone_args(&self, flags: u64, exit_signal: i32, stack: usize) -> CloneArgs<'_> {
        let stack = self.arena.stack(stack);
        let (pidfd, held) = (&self.report.pidfd, &self.report.held);
        CloneArgs { flags, exit_signal, stack, pidfd, held, legacy: self.plan.legacy }
    }

    /// The intermediate process makes the child a child of its own parent. Both run until the child has its maps.
    fn clone_child(&self, types: NamespaceSet) -> sys::Result<()> {
        let flags = self.child_flags(types) | (libc::CLONE_PARENT | libc::CLONE_CHILD_CLEARTID) as u64;
        self.report.held.store(1, Release);
        // With CLONE_PARENT the exit signal is the intermediate process's: none, which execve turns into SIGCHLD.
        let pid = sys::clone(self.clone_args(flags, 0, CHILD_STACK), self.made(), self).inspect_err(|_| {
            self.report.held.store(0, Release);
        })?;
        self.report.pid.store(pid, Release);
        write_digits(&self.report.pid_text, pid);
        // What it opens from here on must not stay open in the caller, should it be killed. Without the memory for a
        // table of its own it goes on with the caller's: the child runs already.
        let _ = sys::unshare(libc::CLONE_FILES.cast_unsigned());
        Ok(())
    }

    /// The init makes the program, and is held until that executes.
    fn clone_program(&self) -> sys::Result<()> {
        let flags = self.base_flags() | libc::CLONE_VFORK as u64;
        if sys::ignores_signal(libc::SIGCHLD)? {
            // Children would reap themselves, and take their status along.
            self.report.ignored.store(1, Relaxed);
            sys::default_signal(libc::SIGCHLD)?;
        }
        let pid = sys::clone(self.clone_args(flags, libc::SIGCHLD, PROGRAM_STACK), child, self)?;
        write_digits(&self.report.program_text, pid);
        let program = &self.report.child;
        if program.errno.load(Acquire) != 0 || program.stage.load(Acquire) as usize != self.plan.steps_of_child() {
            self.report.program_status.store(sys::wait_for(pid).unwrap_or(0), Release);
            sys::exit(127);
        }
        let [_, ended] = &self.report.times[self.plan.steps_of_child() - 1];
        ended.store(sys::clock(self.clock), Relaxed);
        Ok(())
    }

    /// The program is not a child of the caller, which learns of it before anybody can reap it: the pidfd, and, as the
    /// kernel translates it for the receiver, the pid.
    pub(crate) fn send_pidfd(&self) -> sys::Result<()> {
        if self.report.ignored.load(Relaxed) != 0 {
            sys::ignore_signal(libc::SIGCHLD)?;
        }
        let pidfd = sys::pidfd_of_self()?;
        sys::send_fd(self.socket(), pidfd)
    }

    /// The init's end; -1 unless it stands above the program.
    fn socket(&self) -> RawFd {
        raw(self.extras.sockets.as_ref().map(|(_, of_init)| of_init))
    }

    /// Its descriptors: what it lives by on 0, 1 and 2, and its own file until it is executed.
    pub(crate) fn exec_init(&self, argv: &CStrArray) -> Errno {
        const IMAGE: RawFd = 3;
        const READY: RawFd = 4;
        let prepare = || {
            if self.socket() >= 0 {
                sys::dup2(self.socket(), 0)?;
                sys::close(1);
                sys::close(2);
            }
            // Out of the way first, as each may be where the other belongs.
            let image = sys::dup_above(raw(self.extras.image.as_ref()), READY + 1)?;
            if let Some((_, ready)) = &self.extras.ready {
                let ready = sys::dup_above(ready.as_raw_fd(), READY + 1)?;
                sys::dup2(ready, READY)?;
            } else {
                sys::close(READY);
            }
            sys::dup_onto(image, IMAGE)?;
            close_fds(&[(READY.cast_unsigned() + 1, u32::MAX)], &[])
        };
        prepare().err().unwrap_or_else(|| sys::execveat(IMAGE, self.extras.init_argv.as_ref().unwrap_or(argv), None))
    }

    /// Becomes the program in between, which must keep the capability to enter also as an ordinary user.
    pub(crate) fn enter_time(&self) -> Errno {
        let (Some(entry), Some(exec)) = (self.time(), self.plan.exec()) else { return Errno::EINVAL };
        sys::pass_on_sys_admin();
        let passed = sys::set_inheritable(entry.namespace).and_then(|()| sys::set_inheritable(entry.report));
        passed.err().unwrap_or_else(|| sys::execveat(entry.image, entry.argv, Some(&exec.envp)))
    }

    /// How to enter a time namespace.
    fn time(&self) -> Option<TimeEntry<'_>> {
        self.extras.passage.as_ref().map(Passage::entry)
    }

    pub(crate) fn close_fds(&self, ranges: &[(u32, u32)]) -> sys::Result<()> {
        let mut keep = [-1; 3];
        if let Some(entry) = self.time() {
            keep = [entry.namespace, entry.image, entry.report];
        }
        close_fds(ranges, &keep)
    }

    /// Enters the namespaces. What the caller may not enter now, it may after it has entered the user namespace; what
    /// it may enter only now, it must before: so twice around the user namespace, as nsenter(1) does.
    pub(crate) fn setns(&self, joins: &[Join]) -> sys::Result<()> {
        let is_user = |join: &Join| join.types == NamespaceSet::USER;
        let is_mnt = |join: &Join| join.types == NamespaceSet::MNT;
        let has_user = joins.iter().any(is_user);
        let mut entered = [false; MAX_JOINS];
        // The mount namespace comes last: it changes the root and the directory.
        for (round, mnt) in [(0, false), (0, true), (1, false), (2, false), (2, true)] {
            for (join, entered) in joins.iter().zip(&mut entered) {
                if *entered || (round == 1) != is_user(join) || (round != 1 && is_mnt(join) != mnt) {
                    continue;
                }
                // There may be more to join than is entered here.
                let opened = self.plan.options.join.iter().zip(&self.extras.joins);
                let fd = opened.rev().find(|(all, _)| all.source == join.source).map_or(-1, |(_, fd)| fd.raw());
                match sys::setns(fd, join.types.bits()) {
                    Ok(()) => *entered = true,
                    Err(Errno::EPERM) if round == 0 && has_user => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    }

    pub(crate) fn await_maps(&self) -> sys::Result<()> {
        loop {
            match self.report.go.load(Acquire) {
                WAIT => sys::futex_wait(&self.report.go, WAIT),
                GO => return Ok(()),
                _ => sys::exit(127),
            }
        }
    }

    /// `path` begins with `/proc/`, which may be missing or another one in a mount namespace that was joined.
    pub(crate) fn write_proc(&self, path: &CStr, text: &[u8]) -> sys::Result<()> {
        let proc = raw(self.extras.proc.as_ref());
        let below = path.to_bytes_with_nul().get("/proc/".len()..).unwrap_or_default();
        let file = match CStr::from_bytes_with_nul(below) {
            Ok(below) if proc >= 0 => sys::openat(proc, below, libc::O_WRONLY)?,
            _ => sys::openat(libc::AT_FDCWD, path, libc::O_WRONLY)?,
        };
        let written = sys::write(file, text);
        sys::close(file);
        written.map(|_| ())
    }

    /// Writes `/proc/PID/<name>` of the child.
    pub(crate) fn write_childs(&self, name: &str, text: &[u8]) -> sys::Result<()> {
        let mut path = [0u8; 32];
        let pid = self.report.pid_text.iter().map(|digit| digit.load(Relaxed)).take(10);
        // /proc has no leading zeros.
        let digits = pid.skip_while(|digit| *digit == b'0');
        let bytes = b"/proc/".iter().copied().chain(digits).chain(*b"/").chain(name.bytes());
        for (to, from) in path.iter_mut().take(31).zip(bytes) {
            *to = from;
        }
        let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::ENAMETOOLONG)?;
        self.write_proc(path, text)
    }

    pub(crate) fn map_helper(&self, file: MapFile) -> sys::Result<()> {
        let Some(argv) = &self.extras.helpers[usize::from(file == MapFile::Groups)] else {
            return Err(Errno::ENOENT);
        };
        let flags = self.base_flags() | libc::CLONE_VFORK as u64;
        let pid = sys::clone(self.clone_args(flags, 0, HELPER_STACK), helper, &(self, argv))?;
        let failed = sys::wait_for(pid)? != 0;
        match self.report.intermediate.errno.load(Acquire) {
            0 if failed => Err(Errno::EPERM),
            0 => Ok(()),
            errno => Err(Errno::from_raw(errno)),
        }
    }

    /// First out of the way, then into place: a source may be another one's target.
    pub(crate) fn move_stdio(&self) -> sys::Result<()> {
        let mut sources = self.stdio;
        for (target, source) in (0..).zip(&mut sources) {
            if (0..3).contains(source) && *source != target {
                *source = sys::dup_above(*source, 3)?;
            }
        }
        for (target, source) in (0..).zip(sources) {
            if source == target {
                sys::set_inheritable(source)?;
            } else if source >= 0 {
                sys::dup2(source, target)?;
            }
        }
        Ok(())
    }

    pub(crate) fn note_namespaces(&self, types: NamespaceSet, by_pidfd: bool) {
        for (index, row) in types.rows() {
            let time = self.time().filter(|_| row.flag == NamespaceSet::TIME.bits());
            let noted = match time {
                // It will be entered last.
                Some(entry) => sys::namespace_numbers(entry.namespace, c""),
                None if by_pidfd => self.own_namespace(row.pidfd_request),
                None => Err(Errno::ENOTTY),
            };
            let by_path = |_| sys::namespace_numbers(libc::AT_FDCWD, OWN_FILES[index]);
            if let Ok((id, inode)) = noted.or_else(by_path) {
                self.report.namespaces[index][0].store(id, Relaxed);
                self.report.namespaces[index][1].store(inode, Relaxed);
            }
        }
    }

    /// The caller closes whatever is there, should a later one fail.
    pub(crate) fn keep(&self, types: NamespaceSet, by_pidfd: bool) -> sys::Result<()> {
        types.rows().try_for_each(|(index, row)| {
            let fd = if by_pidfd {
                sys::pidfd_namespace(self.report.pidfd.load(Acquire), row.pidfd_request)?
            } else {
                sys::openat(libc::AT_FDCWD, OWN_FILES[index], libc::O_RDONLY)?
            };
            self.report.kept[index].store(fd, Release);
            Ok(())
        })
    }

    fn own_namespace(&self, request: u8) -> sys::Result<(u64, u64)> {
        // Left open: it is close-on-exec, and a step that closes it costs as much as execve does.
        let file = sys::pidfd_namespace(self.report.pidfd.load(Acquire), request)?;
        sys::namespace_numbers(file, c"")
    }

    /// The signal follows the thread that cloned; if that is gone already, the signal would never come.
    pub(crate) fn parent_death_signal(&self, signal: i32) -> sys::Result<()> {
        sys::prctl(libc::PR_SET_PDEATHSIG, u64::from(signal.cast_unsigned()))?;
        if sys::poll_readable(raw(self.extras.thread.as_ref()), Some(Duration::ZERO))? {
            sys::exit(128 + signal);
        }
        Ok(())
    }
}

fn write_digits(text: &Digits, number: i32) {
    for (place, digit) in (0..10).zip(text) {
        let value = number.unsigned_abs() / 10u32.pow(9 - place) % 10;
        digit.store(b'0' + u8::try_from(value).unwrap_or(0), Relaxed);
    }
}

/// Closes these ranges, but not what is to keep.
fn close_fds(ranges: &[(u32, u32)], keep: &[RawFd]) -> sys::Result<()> {
    for (first, last) in ranges {
        let mut first = *first;
        while first <= *last {
            let kept = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| (first..=*last).contains(fd));
            let next = kept.min();
            let end = next.map_or(*last, |fd| fd.wrapping_sub(1));
            if next != Some(first) {
                match sys::close_range(first, end) {
                    // Refused by an old container's seccomp profile.
                    Err(Errno::ENOSYS | Errno::EPERM) => return close_listed(ranges, keep),
                    result => result?,
                }
            }
            match next {
                Some(fd) => first = fd + 1,
                None => break,
            }
        }
    }
    Ok(())
}

/// Searches as `os.execvpe` does: the first error that is not "no such file" wins.
pub(crate) fn execve(exec: &Exec) -> Errno {
    let mut first = None;
    let mut last = Errno::ENOENT;
    for path in &exec.candidates {
        last = sys::execve(path, &exec.argv, Some(&exec.envp));
        if first.is_none() && !matches!(last, Errno::ENOENT | Errno::ENOTDIR) {
            first = Some(last);
        }
    }
    first.unwrap_or(last)
}

/// `CLONE_CLEAR_SIGHAND`, which libc does not name on every target.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// More makes no sense: there are eight types.
pub const MAX_JOINS: usize = 64;
