//! The processes of a run, and how each is made.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use nix::errno::Errno;

use super::{Run, child, init, intermediate};
use crate::arena::{CHILD_STACK, HELPER_STACK, INTERMEDIATE_STACK, PROGRAM_STACK};
use crate::extras::raw;
use crate::namespace::NamespaceSet;
use crate::report::Digits;
use crate::step::MapFile;
use crate::sys::{self, CStrArray, CloneArgs};

/// `CLONE_CLEAR_SIGHAND`, which libc does not name on every target.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
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
    pub(super) fn clone_child(&self, types: NamespaceSet) -> sys::Result<()> {
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
    pub(super) fn clone_program(&self) -> sys::Result<()> {
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

fn write_digits(text: &Digits, number: i32) {
    for (place, digit) in (0..10).zip(text) {
        let value = number.unsigned_abs() / 10u32.pow(9 - place) % 10;
        digit.store(b'0' + u8::try_from(value).unwrap_or(0), Relaxed);
    }
}
