//! Every `unsafe` line of the crate: one system call a function.
//!
//! # Safety
//!
//! Calls go to the kernel directly and hand errno back as a value. libc's wrappers will not do: the child shares the
//! memory of the thread that cloned it, so libc's `errno` would be that thread's, `setuid` would signal threads that
//! the child does not have, and some wrappers allocate or take locks. All functions that a child may call are marked
//! "child-safe" by living above the line that says so; they touch nothing but their arguments.
#![allow(unsafe_code)]

use std::arch::asm;
use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicU32, Ordering};

use nix::errno::Errno;

/// What a system call answers.
pub type Result<T> = std::result::Result<T, Errno>;

/// Turns the kernel's answer (`-4095..=-1` is `-errno`) into a `Result`.
fn answer(value: c_long) -> Result<usize> {
    match i32::try_from(value) {
        Ok(n @ -4095..=-1) => Err(Errno::from_raw(-n)),
        _ => Ok(register(value)),
    }
}

/// Any system call. An argument that is a pointer must be valid for what this call does with it.
#[cfg(target_arch = "x86_64")]
unsafe fn syscall(number: c_long, a: [usize; 6]) -> Result<usize> {
    let value: c_long;
    // SAFETY: the kernel clobbers rax, rcx and r11 only; the caller vouches for the arguments.
    unsafe {
        asm!("syscall", inlateout("rax") number => value,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer(value)
}

/// Any system call. An argument that is a pointer must be valid for what this call does with it.
#[cfg(target_arch = "aarch64")]
unsafe fn syscall(number: c_long, a: [usize; 6]) -> Result<usize> {
    let value: c_long;
    // SAFETY: the kernel clobbers x0 only; the caller vouches for the arguments.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a[0] => value,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    answer(value)
}

/// `call!(libc::SYS_x, args…)`: the call with its arguments widened to registers.
macro_rules! call {
    ($number:path $(, $arg:expr)* $(,)?) => {{
        let given = [$(register($arg)),*];
        let mut all = [0usize; 6];
        all[..given.len()].copy_from_slice(&given);
        // SAFETY: each caller below passes integers, or references that outlive the call.
        unsafe { syscall($number, all) }
    }};
}

/// An argument as a register holds it: integers sign-extended, pointers as addresses.
trait Register {
    fn register(self) -> usize;
}
fn register(value: impl Register) -> usize {
    value.register()
}
macro_rules! integers {
    ($($int:ty)*) => {$(impl Register for $int {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless, trivial_numeric_casts)]
        fn register(self) -> usize { self as usize }
    })*};
}
integers!(i32 u32 i64 u64 usize);
impl<T> Register for *const T {
    fn register(self) -> usize {
        self.addr()
    }
}
impl<T> Register for *mut T {
    fn register(self) -> usize {
        self.addr()
    }
}

fn fd(value: Result<usize>) -> Result<RawFd> {
    value.map(|n| RawFd::try_from(n).unwrap_or(-1))
}

fn done(value: Result<usize>) -> Result<()> {
    value.map(|_| ())
}

// ------------------------------------------------------------------------------------------------------------- clone

/// The stack pointer, flags and result addresses of a clone.
#[derive(Clone, Copy)]
pub struct CloneArgs<'a> {
    /// `CLONE_*`, without the exit signal.
    pub flags: u64,
    /// The signal that the parent gets at the end.
    pub exit_signal: i32,
    /// The child's stack: its lowest address and size.
    pub stack: (usize, usize),
    /// Where the pidfd goes, with `CLONE_PIDFD`.
    pub pidfd: &'a AtomicI32,
    /// Cleared, and woken as a futex, when the child gives up the memory, with `CLONE_CHILD_CLEARTID`.
    pub held: &'a AtomicU32,
    /// clone(2) instead of clone3(2), which some seccomp profiles answer with ENOSYS.
    pub legacy: bool,
}

/// The first function on the new stack. Both arguments come in registers: the caller may run on, so nothing may be left
/// on its stack.
#[allow(improper_ctypes_definitions)] // only the assembly below calls it, which does not look at the function pointer
extern "C" fn start<A>(entry: fn(&A) -> i32, arg: *const A) -> ! {
    // SAFETY: `clone` passes the address of a reference that outlives the child's use of it.
    exit(entry(unsafe { &*arg }))
}

/// `clone3(2)` or `clone(2)`: runs `entry(arg)` in a child on its own stack and exits with what it returns.
///
/// The child may share the memory of this process while the caller goes on, so `entry` must not allocate, lock,
/// unwind or use thread-local storage, and `arg` must live until the child has given up the memory: that is
/// `child.rs`'s and `spawn.rs`'s promise, which no signature can express.
///
/// See <https://man7.org/linux/man-pages/man2/clone.2.html>.
pub fn clone<A>(args: CloneArgs<'_>, entry: fn(&A) -> i32, arg: &A) -> Result<i32> {
    let function = start::<A> as extern "C" fn(fn(&A) -> i32, *const A) -> !;
    let start = [function as usize, entry as usize, ptr::from_ref(arg).addr()];
    let (pidfd, held) = (args.pidfd.as_ptr().addr(), args.held.as_ptr().addr());
    let pid = if args.legacy {
        let flags = args.flags | u64::from(args.exit_signal.cast_unsigned());
        let top = args.stack.0 + args.stack.1;
        // The last two arguments of clone(2) are swapped between the architectures.
        let (fourth, fifth) = if cfg!(target_arch = "x86_64") { (held, 0) } else { (0, held) };
        // SAFETY: `top` is the end of a mapped stack.
        unsafe { clone_onto_stack(libc::SYS_clone, [flags.register(), top, pidfd, fourth, fifth], start) }
    } else {
        let signal = u64::from(args.exit_signal.cast_unsigned());
        // struct clone_args, up to `tls`: the size that every kernel with clone3 takes.
        let clone_args: [u64; 8] =
            [args.flags, pidfd as u64, held as u64, 0, signal, args.stack.0 as u64, args.stack.1 as u64, 0];
        let registers = [(&raw const clone_args).addr(), size_of_val(&clone_args), 0, 0, 0];
        // SAFETY: the stack is mapped, and the kernel copies `clone_args`.
        unsafe { clone_onto_stack(libc::SYS_clone3, registers, start) }
    };
    pid.map(|pid| i32::try_from(pid).unwrap_or(-1))
}

/// In the child the return address is not on the new stack, so the call and what follows it are one piece of assembly.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_onto_stack(number: c_long, a: [usize; 5], start: [usize; 3]) -> Result<usize> {
    let value: c_long;
    // SAFETY: the parent's half clobbers what a system call does; the child's half never returns here.
    unsafe {
        asm!("syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp", // the outermost frame, for unwinders
            "mov rdi, r13",
            "mov rsi, r14",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") number => value,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4],
            in("r12") start[0], in("r13") start[1], in("r14") start[2], lateout("rcx") _, lateout("r11") _);
    }
    answer(value)
}

/// In the child the return address is not on the new stack, so the call and what follows it are one piece of assembly.
#[cfg(target_arch = "aarch64")]
unsafe fn clone_onto_stack(number: c_long, a: [usize; 5], start: [usize; 3]) -> Result<usize> {
    let value: c_long;
    // SAFETY: the parent's half clobbers x0 only; the child's half never returns here.
    unsafe {
        asm!("svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr", // the outermost frame, for unwinders
            "mov x30, xzr",
            "mov x0, x21",
            "mov x1, x22",
            "br x20",
            "2:",
            in("x8") number, inlateout("x0") a[0] => value,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x20") start[0], in("x21") start[1], in("x22") start[2]);
    }
    answer(value)
}

/// `clone(2)`: the calling process, which has one thread, goes on as another one, born in the namespaces that are meant
/// for its children, and ends. The new process is a child of the same parent; it has the memory, the stack and the
/// descriptors, and returns from here as if nothing had happened. Its pid, as the parent knows it, is in `pid` before it
/// runs.
///
/// A fork would do, but copies the page tables, and then every page that is written to.
pub fn go_on_as_child(pid: &AtomicI32) -> Result<()> {
    let kept = OfThread::note();
    // No exit signal: with CLONE_PARENT it is that of the calling process.
    let shared = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID;
    let flags = shared | if kept.is_tid { libc::CLONE_CHILD_SETTID } else { 0 };
    // The last two arguments of clone(2) are swapped between the architectures.
    let tid = kept.tid_address;
    let (fourth, fifth) = if cfg!(target_arch = "x86_64") { (tid, 0) } else { (0, tid) };
    // A handler would run on the stack that is the child's already, and the end of this process clear the child's id.
    let mask = set_signal_mask(SignalMask::MAX)?;
    let _ = call!(libc::SYS_set_tid_address, 0);
    // SAFETY: who shares the memory with the child ends without touching it; `pid` is mapped.
    let gone_on = unsafe { clone_and_exit([flags.register(), 0, pid.as_ptr().addr(), fourth, fifth]) };
    kept.restore();
    restore_signal_mask(mask);
    done(gone_on)
}

/// The parent's half has no memory, as the stack is the child's: it ends with what registers can do.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_and_exit(a: [usize; 5]) -> Result<usize> {
    let value: c_long;
    // SAFETY: only the child, or an error, comes past the label.
    unsafe {
        asm!("syscall",
            "test rax, rax",
            "jle 2f",
            "xor edi, edi",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit_group,
            inlateout("rax") libc::SYS_clone => value,
            inlateout("rdi") a[0] => _, in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4],
            lateout("rcx") _, lateout("r11") _);
    }
    answer(value)
}

/// The parent's half has no memory, as the stack is the child's: it ends with what registers can do.
#[cfg(target_arch = "aarch64")]
unsafe fn clone_and_exit(a: [usize; 5]) -> Result<usize> {
    let value: c_long;
    // SAFETY: only the child, or an error, comes past the label.
    unsafe {
        asm!("svc 0",
            "cmp x0, 0",
            "b.le 2f",
            "mov x0, 0",
            "mov x8, {exit}",
            "svc 0",
            "brk 0",
            "2:",
            exit = const libc::SYS_exit_group,
            inlateout("x8") libc::SYS_clone => _, inlateout("x0") a[0] => value,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4]);
    }
    answer(value)
}

/// What libc has told the kernel about a thread, and the kernel forgets in a clone that shares memory.
struct OfThread {
    /// What the kernel clears when the thread ends.
    tid_address: usize,
    /// Whether that is where libc keeps the thread's id; musl keeps a lock there.
    is_tid: bool,
    robust_list: [usize; 2],
    /// `stack_t` of the alternate signal stack.
    altstack: [usize; 3],
}

impl OfThread {
    fn note() -> Self {
        const PR_GET_TID_ADDRESS: i32 = 40;
        let (mut tid_address, mut robust_list, mut altstack) = (0usize, [0usize; 2], [0usize; 3]);
        let (head, length) = robust_list.split_at_mut(1);
        let _ = call!(libc::SYS_get_robust_list, 0, head.as_mut_ptr(), length.as_mut_ptr());
        let _ = call!(libc::SYS_sigaltstack, 0, altstack.as_mut_ptr());
        // A kernel without checkpoint/restore does not tell: then libc goes on with the old id.
        let _ = call!(libc::SYS_prctl, PR_GET_TID_ADDRESS, &raw mut tid_address, 0, 0, 0);
        // SAFETY: the kernel would write there when this thread ends.
        let is_tid = tid_address != 0 && unsafe { *ptr::with_exposed_provenance::<i32>(tid_address) } == gettid();
        Self { tid_address, is_tid, robust_list, altstack }
    }

    fn restore(&self) {
        let _ = call!(libc::SYS_set_tid_address, self.tid_address);
        let _ = call!(libc::SYS_set_robust_list, self.robust_list[0], self.robust_list[1]);
        let _ = call!(libc::SYS_sigaltstack, self.altstack.as_ptr(), 0);
        register_rseq();
    }
}

/// `rseq(2)`, where libc (glibc 2.35) has one for each thread, at a fixed distance from the thread pointer.
fn register_rseq() {
    const SIGNATURE: u32 = if cfg!(target_arch = "x86_64") { 0x5305_3053 } else { 0xd428_bc00 };
    const LEAST: u32 = 32;
    // SAFETY: both are names of glibc's; what they stand for never changes.
    let (offset, size) = unsafe {
        let symbol = |name: &CStr| libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        let (offset, size) = (symbol(c"__rseq_offset"), symbol(c"__rseq_size"));
        if offset.is_null() || size.is_null() {
            return;
        }
        (*offset.cast::<isize>(), *size.cast::<u32>())
    };
    if size != 0 {
        let _ = call!(libc::SYS_rseq, thread_pointer().wrapping_add_signed(offset), size.max(LEAST), 0, SIGNATURE);
    }
}

/// What the offsets of thread-local storage count from.
fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: it only reads a register, or the word that x86-64 keeps there.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, nomem, preserves_flags));
    }
    pointer
}

/// `exit_group(2)`: ends the child without libc's exit handlers, which are the parent's.
pub fn exit(status: i32) -> ! {
    loop {
        let _ = call!(libc::SYS_exit_group, status);
    }
}

// ---------------------------------------------------------------------------------- child-safe: nothing but arguments

/// Strings and the null-terminated array of pointers to them that `execve` wants; copies share them.
#[derive(Clone)]
pub struct CStrArray(Arc<Strings>);

struct Strings {
    /// All strings, each with its NUL: one allocation, however large the environment is.
    _text: Vec<u8>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers go into `_text`, which never changes, or to a slot that outlives the array.
unsafe impl Send for Strings {}
// SAFETY: as above.
unsafe impl Sync for Strings {}

impl Default for CStrArray {
    fn default() -> Self {
        Self::new(std::iter::empty::<&CStr>())
    }
}

impl CStrArray {
    /// Copies the strings and points at the copies.
    pub fn new<S: AsRef<CStr>>(strings: impl IntoIterator<Item = S>) -> Self {
        let (text, pointers) = Self::copied(strings);
        Self(Arc::new(Strings { _text: text, pointers }))
    }

    fn copied<S: AsRef<CStr>>(strings: impl IntoIterator<Item = S>) -> (Vec<u8>, Vec<*const c_char>) {
        let (mut text, mut starts) = (Vec::with_capacity(4096), Vec::with_capacity(64));
        for string in strings {
            starts.push(text.len());
            text.extend_from_slice(string.as_ref().to_bytes_with_nul());
        }
        let mut pointers: Vec<*const c_char> = starts.into_iter().map(|start| text[start..].as_ptr().cast()).collect();
        pointers.push(ptr::null());
        (text, pointers)
    }

    /// A copy of this process's environment, `NAME=value` each.
    #[must_use]
    pub fn environment() -> Self {
        // SAFETY: each points at a string with its NUL.
        Self::new(environment().map(|string| unsafe { CStr::from_ptr(string) }))
    }

    /// Whether it still is this process's environment.
    #[must_use]
    pub fn is_environment(&self) -> bool {
        let mut kept = self.0.pointers.iter().take_while(|pointer| !pointer.is_null());
        // SAFETY: all point at strings with their NUL.
        let same = |string| kept.next().is_some_and(|copy| unsafe { libc::strcmp(string, *copy) } == 0);
        environment().all(same) && kept.next().is_none()
    }

    /// The same as `new`, but the string at `index` is one that will be written later.
    #[must_use]
    pub fn with_slot(strings: Vec<CString>, index: usize, slot: &[AtomicU8]) -> Self {
        let (text, mut pointers) = Self::copied(strings);
        pointers[index] = slot.as_ptr().cast();
        Self(Arc::new(Strings { _text: text, pointers }))
    }

    /// The strings.
    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        let pointers = self.0.pointers.iter().take_while(|pointer| !pointer.is_null());
        // SAFETY: each points at a string with its NUL, see `new` and `with_slot`.
        pointers.map(|pointer| unsafe { CStr::from_ptr(*pointer) })
    }

    fn as_ptr(&self) -> *const *const c_char {
        self.0.pointers.as_ptr()
    }

    /// Copies of the strings.
    #[must_use]
    pub fn strings(&self) -> Vec<CString> {
        self.iter().map(CStr::to_owned).collect()
    }
}

/// `execve(2)`, where `None` is an empty environment: returns only why it could not.
pub fn execve(path: &CStr, argv: &CStrArray, envp: Option<&CStrArray>) -> Errno {
    let nothing: [*const c_char; 1] = [ptr::null()];
    let envp = envp.map_or(nothing.as_ptr(), CStrArray::as_ptr);
    call!(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), envp).err().unwrap_or(Errno::EIO)
}

/// `execveat(2)` of an open file, where `None` is an empty environment: returns only why it could not.
pub fn execveat(file: RawFd, argv: &CStrArray, envp: Option<&CStrArray>) -> Errno {
    let nothing: [*const c_char; 1] = [ptr::null()];
    let envp = envp.map_or(nothing.as_ptr(), CStrArray::as_ptr);
    let empty = libc::AT_EMPTY_PATH;
    call!(libc::SYS_execveat, file, c"".as_ptr(), argv.as_ptr(), envp, empty).err().unwrap_or(Errno::EIO)
}

/// `openat(2)`, close-on-exec.
pub fn openat(dir: RawFd, path: &CStr, flags: i32) -> Result<RawFd> {
    fd(call!(libc::SYS_openat, dir, path.as_ptr(), flags | libc::O_CLOEXEC, 0))
}

/// `close(2)` of a bare number, in a child.
pub fn close(raw: RawFd) {
    let _ = call!(libc::SYS_close, raw);
}

/// `write(2)`.
pub fn write(raw: RawFd, bytes: &[u8]) -> Result<usize> {
    call!(libc::SYS_write, raw, bytes.as_ptr(), bytes.len())
}

/// `dup3(2)` without close-on-exec.
pub fn dup2(from: RawFd, to: RawFd) -> Result<()> {
    done(call!(libc::SYS_dup3, from, to, 0))
}

/// `dup3(2)`, close-on-exec.
pub fn dup_onto(from: RawFd, to: RawFd) -> Result<()> {
    done(call!(libc::SYS_dup3, from, to, libc::O_CLOEXEC))
}

/// `fcntl(F_DUPFD_CLOEXEC)`: a copy at `least` or above.
pub fn dup_above(from: RawFd, least: RawFd) -> Result<RawFd> {
    fd(call!(libc::SYS_fcntl, from, libc::F_DUPFD_CLOEXEC, least))
}

/// `fcntl(F_SETFD)` without close-on-exec.
pub fn set_inheritable(raw: RawFd) -> Result<()> {
    done(call!(libc::SYS_fcntl, raw, libc::F_SETFD, 0))
}

/// `close_range(2)`.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    done(call!(libc::SYS_close_range, first, last, 0))
}

/// `getdents64(2)`.
pub fn getdents(dir: RawFd, buffer: &mut [u8]) -> Result<usize> {
    call!(libc::SYS_getdents64, dir, buffer.as_mut_ptr(), buffer.len())
}

/// `setns(2)`.
pub fn setns(raw: RawFd, types: u32) -> Result<()> {
    done(call!(libc::SYS_setns, raw, types))
}

/// `unshare(2)`.
pub fn unshare(flags: u32) -> Result<()> {
    done(call!(libc::SYS_unshare, flags))
}

/// `mount(2)`.
pub fn mount(source: &CStr, target: &CStr, fstype: Option<&CStr>, flags: u64) -> Result<()> {
    let fstype = fstype.map_or(ptr::null(), CStr::as_ptr);
    done(call!(libc::SYS_mount, source.as_ptr(), target.as_ptr(), fstype, flags, 0))
}

/// `umount2(2)`, of a mount in use too; a link is not followed.
#[cfg(feature = "python")]
pub fn unmount(path: &CStr) -> Result<()> {
    done(call!(libc::SYS_umount2, path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW))
}

/// `sethostname(2)`.
pub fn sethostname(name: &[u8]) -> Result<()> {
    done(call!(libc::SYS_sethostname, name.as_ptr(), name.len()))
}

/// `setdomainname(2)`.
pub fn setdomainname(name: &[u8]) -> Result<()> {
    done(call!(libc::SYS_setdomainname, name.as_ptr(), name.len()))
}

/// `chdir(2)`.
pub fn chdir(path: &CStr) -> Result<()> {
    done(call!(libc::SYS_chdir, path.as_ptr()))
}

/// `umask(2)`, which only a filter refuses.
pub fn umask(mask: u32) -> Result<()> {
    done(call!(libc::SYS_umask, mask))
}

/// `setsid(2)`.
pub fn setsid() -> Result<()> {
    done(call!(libc::SYS_setsid))
}

/// `setpgid(2)` of the caller.
pub fn setpgid(group: i32) -> Result<()> {
    done(call!(libc::SYS_setpgid, 0, group))
}

/// `setgroups(2)`, of this task only.
pub fn setgroups(groups: &[u32]) -> Result<()> {
    done(call!(libc::SYS_setgroups, groups.len(), groups.as_ptr()))
}

/// `setregid(2)` of both ids, of this task only.
pub fn setgid(gid: u32) -> Result<()> {
    done(call!(libc::SYS_setregid, gid, gid))
}

/// `setreuid(2)` of both ids, of this task only.
pub fn setuid(uid: u32) -> Result<()> {
    done(call!(libc::SYS_setreuid, uid, uid))
}

const PR_CAP_AMBIENT: i32 = 47;
const CAP_SYS_ADMIN: i32 = 21;

/// The effective, permitted and inheritable capabilities of this thread, 32 in a word.
fn capabilities(call: c_long, sets: &mut [[u32; 3]; 2]) -> Result<()> {
    let header: [u32; 2] = [0x2008_0522, 0];
    // SAFETY: both are as large as this version of the header says.
    done(unsafe { syscall(call, [(&raw const header).addr(), ptr::from_mut(sets).addr(), 0, 0, 0, 0]) })
}

/// Whether CAP_SYS_ADMIN is in this thread's ambient and in its inheritable set, see capabilities(7).
#[must_use]
pub fn has_sys_admin_to_pass_on() -> (bool, bool) {
    const PR_CAP_AMBIENT_IS_SET: i32 = 1;
    let mut sets = [[0; 3]; 2];
    let _ = capabilities(libc::SYS_capget, &mut sets);
    let ambient = call!(libc::SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SYS_ADMIN, 0, 0);
    (ambient == Ok(1), sets[0][2] & 1 << CAP_SYS_ADMIN != 0)
}

/// Lets CAP_SYS_ADMIN, where the thread has it, survive one execve of who is not root.
pub fn pass_on_sys_admin() {
    const PR_CAP_AMBIENT_RAISE: i32 = 2;
    let mut sets = [[0; 3]; 2];
    if capabilities(libc::SYS_capget, &mut sets).is_err() || sets[0][1] & 1 << CAP_SYS_ADMIN == 0 {
        return;
    }
    sets[0][0] |= 1 << CAP_SYS_ADMIN;
    sets[0][2] |= 1 << CAP_SYS_ADMIN;
    if capabilities(libc::SYS_capset, &mut sets).is_ok() {
        let _ = call!(libc::SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0);
    }
}

/// `prctl(2)` with one argument.
pub fn prctl(option: i32, value: u64) -> Result<usize> {
    call!(libc::SYS_prctl, option, value, 0, 0, 0)
}

/// `madvise(MADV_COLLAPSE)`: one huge page in place of small ones, with their contents.
pub fn collapse(address: usize, length: usize) -> Result<()> {
    const MADV_COLLAPSE: i32 = 25;
    done(call!(libc::SYS_madvise, address, length, MADV_COLLAPSE))
}

/// `getpid(2)`.
#[must_use]
pub fn getpid() -> i32 {
    call!(libc::SYS_getpid).map_or(0, |pid| i32::try_from(pid).unwrap_or(0))
}

/// `gettid(2)`.
#[must_use]
pub fn gettid() -> i32 {
    call!(libc::SYS_gettid).map_or(0, |tid| i32::try_from(tid).unwrap_or(0))
}

/// `wait4(2)` for one child of any kind, by pid.
pub fn wait_for(pid: i32) -> Result<i32> {
    let mut status: c_int = 0;
    loop {
        match call!(libc::SYS_wait4, pid, &raw mut status, libc::__WALL, 0) {
            Err(Errno::EINTR) => {}
            other => return other.map(|_| status),
        }
    }
}

/// `futex(2)` wait, on memory that other processes share; wake-ups may be spurious.
pub fn futex_wait(word: &AtomicU32, expected: u32) {
    let _ = call!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, 0);
}

/// `futex(2)` wake of everybody.
pub fn futex_wake(word: &AtomicU32) {
    let _ = call!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX);
}

/// `pidfd_open(2)` of the caller, in a child.
pub fn pidfd_of_self() -> Result<RawFd> {
    fd(call!(libc::SYS_pidfd_open, getpid(), 0))
}

/// `struct cmsghdr` and one descriptor, see cmsg(3).
#[repr(C)]
struct FdMessage {
    length: usize,
    level: i32,
    kind: i32,
    fd: RawFd,
    padding: i32,
}

/// `sendmsg(2)`: passes a descriptor through a unix(7) socket.
pub fn send_fd(socket: RawFd, passed: RawFd) -> Result<()> {
    let length = size_of::<FdMessage>() - size_of::<i32>();
    let control = FdMessage { length, level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS, fd: passed, padding: 0 };
    let byte = 0u8;
    let part = [(&raw const byte).addr(), 1];
    let header = MessageHeader {
        name: [0; 2],
        parts: (&raw const part).addr(),
        count: 1,
        control: (&raw const control).addr(),
        length: size_of::<FdMessage>(),
        flags: 0,
    };
    done(call!(libc::SYS_sendmsg, socket, &raw const header, libc::MSG_NOSIGNAL))
}

/// The kernel's `struct msghdr`, with addresses as the numbers they are.
#[repr(C)]
struct MessageHeader {
    name: [usize; 2],
    parts: usize,
    count: usize,
    control: usize,
    length: usize,
    flags: u64,
}

/// `clock_gettime(2)` in nanoseconds. libc's is the vDSO's: no system call, no state.
#[must_use]
pub fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// A set of signals, as the kernel keeps it: bit n-1 is signal n.
pub type SignalMask = u64;

/// `rt_sigprocmask(2)`: sets this thread's mask and returns the one before. Unlike libc's, it can block the signals
/// 32 and 33, by which glibc makes all threads change their ids.
pub fn set_signal_mask(mask: SignalMask) -> Result<SignalMask> {
    let mut before: SignalMask = 0;
    call!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut before, 8).map(|_| before)
}

/// Puts back what was there before. Should a filter refuse that, nothing else could do it.
pub fn restore_signal_mask(before: SignalMask) {
    let _ = set_signal_mask(before);
}

/// `rt_sigprocmask(2)`: this thread's mask.
pub fn signal_mask() -> Result<SignalMask> {
    let mut mask: SignalMask = 0;
    call!(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, 0, &raw mut mask, 8).map(|_| mask)
}

/// The kernel's `struct sigaction`: handler, flags, restorer, mask.
type Sigaction = [usize; 4];

/// `rt_sigaction(2)` to ignore it.
pub fn ignore_signal(signal: i32) -> Result<()> {
    let action: Sigaction = [libc::SIG_IGN, 0, 0, 0];
    done(call!(libc::SYS_rt_sigaction, signal, &raw const action, 0, 8))
}

/// Whether it is ignored.
pub fn ignores_signal(signal: i32) -> Result<bool> {
    let mut action: Sigaction = [0; 4];
    call!(libc::SYS_rt_sigaction, signal, 0, &raw mut action, 8).map(|_| action[0] == libc::SIG_IGN)
}

/// `rt_sigaction(2)` to the default.
pub fn default_signal(signal: i32) -> Result<()> {
    let action: Sigaction = [libc::SIG_DFL, 0, 0, 0];
    done(call!(libc::SYS_rt_sigaction, signal, &raw const action, 0, 8))
}

/// What `CLONE_CLEAR_SIGHAND` does: handlers to the default, what is ignored stays ignored.
pub fn clear_handlers() -> Result<()> {
    for signal in 1..=64 {
        let mut action: Sigaction = [0; 4];
        call!(libc::SYS_rt_sigaction, signal, 0, &raw mut action, 8)?;
        if action[0] != libc::SIG_IGN && action[0] != libc::SIG_DFL {
            default_signal(signal)?;
        }
    }
    Ok(())
}

/// `poll(2)`: whether the fd is readable (for a pidfd: the process has ended) within this time.
pub fn poll_readable(raw: RawFd, timeout: Option<std::time::Duration>) -> Result<bool> {
    let mut entry = libc::pollfd { fd: raw, events: libc::POLLIN, revents: 0 };
    let limit = timeout.map(|t| {
        let seconds = i64::try_from(t.as_secs()).unwrap_or(i64::MAX);
        libc::timespec { tv_sec: seconds, tv_nsec: t.subsec_nanos().into() }
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    call!(libc::SYS_ppoll, &raw mut entry, 1, limit, 0, 0).map(|ready| ready > 0)
}

/// `socket(2)` for interface requests.
pub fn interface_socket() -> Result<RawFd> {
    fd(call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))
}

/// `SIOCGIFFLAGS` and `SIOCSIFFLAGS`, see netdevice(7): sets `IFF_UP`.
pub fn interface_up(socket: RawFd, name: &CStr) -> Result<()> {
    /// `struct ifreq`: the name and a union, of which the flags are the first member.
    #[repr(C, align(8))]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    let mut request = Request { name: [0; 16], flags: 0, rest: [0; 22] };
    for (to, from) in request.name.iter_mut().zip(name.to_bytes()) {
        *to = *from;
    }
    call!(libc::SYS_ioctl, socket, libc::SIOCGIFFLAGS, &raw mut request)?;
    request.flags |= 1; // IFF_UP
    done(call!(libc::SYS_ioctl, socket, libc::SIOCSIFFLAGS, &raw mut request))
}

/// `(device, inode)` of an open file.
pub fn identity(raw: RawFd) -> Result<(u64, u64)> {
    // SAFETY: all-zero is a valid `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    call!(libc::SYS_fstat, raw, &raw mut stat)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Which mount an open file is on, as in mountinfo; see statx(2).
#[cfg(feature = "python")]
pub fn mount_id(raw: RawFd) -> Result<u64> {
    // SAFETY: all-zero is a valid `statx`.
    let mut status: libc::statx = unsafe { std::mem::zeroed() };
    call!(libc::SYS_statx, raw, c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_MNT_ID, &raw mut status)?;
    Ok(status.stx_mnt_id)
}

/// `PIDFD_GET_*_NAMESPACE`, see ioctl_pidfd(2): opens a namespace of the process without `/proc`, whose files of a
/// new process cost ten times as much (Linux 6.11).
pub fn pidfd_namespace(pidfd: RawFd, request: u8) -> Result<RawFd> {
    fd(call!(libc::SYS_ioctl, pidfd, 0xff00 | u32::from(request), 0))
}

/// `(64-bit number, inode)` of a namespace file, open (an empty path) or not: `name_to_handle_at(2)` answers with both
/// (Linux 6.18). Before that there are no numbers, and `newfstatat(2)` will do.
pub fn namespace_numbers(dir: RawFd, path: &CStr) -> Result<(u64, u64)> {
    let mut handle = NamespaceHandle { bytes: 16, kind: 0, id: 0, ns_type: 0, inode: 0 };
    let mut mount = 0u64;
    let empty = if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let follow = empty | libc::AT_SYMLINK_FOLLOW;
    let known = call!(libc::SYS_name_to_handle_at, dir, path.as_ptr(), &raw mut handle, &raw mut mount, follow);
    if known.is_ok() && handle.kind == FILEID_NSFS {
        return Ok((handle.id, u64::from(handle.inode)));
    }
    // SAFETY: all-zero is a valid `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    call!(libc::SYS_newfstatat, dir, path.as_ptr(), &raw mut stat, empty)?;
    // A filter that refuses handles of files says nothing about numbers.
    let id = if path.is_empty() { namespace_id(dir).unwrap_or(0) } else { 0 };
    Ok((id, stat.st_ino))
}

/// `struct file_handle` around `struct nsfs_file_handle`.
#[repr(C)]
struct NamespaceHandle {
    bytes: u32,
    kind: i32,
    id: u64,
    ns_type: u32,
    inode: u32,
}

const FILEID_NSFS: i32 = 0xf1;

/// `NS_GET_ID`, see ioctl_nsfs(2): the namespace's 64-bit number, which is never used again (Linux 6.18).
pub fn namespace_id(raw: RawFd) -> Result<u64> {
    let mut id = 0u64;
    call!(libc::SYS_ioctl, raw, 0x8008_b70d_u32, &raw mut id).map(|_| id)
}

/// `read(2)` into memory that the caller's process looks at later; 0 is the end of the file.
pub fn read_into(raw: RawFd, buffer: &[AtomicU8]) -> Result<usize> {
    call!(libc::SYS_read, raw, buffer.as_ptr(), buffer.len())
}

/// `uname(2)`: `struct new_utsname`, six names of 65 bytes each.
pub fn uname(buffer: &[AtomicU8; 6 * 65]) -> Result<()> {
    done(call!(libc::SYS_uname, buffer.as_ptr()))
}

/// `socket(2)` for rtnetlink(7).
pub fn route_socket() -> Result<RawFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    fd(call!(libc::SYS_socket, libc::AF_NETLINK, kind, libc::NETLINK_ROUTE))
}

/// `fsopen(2)`, close-on-exec (Linux 5.2).
pub fn fsopen(fstype: &CStr) -> Result<RawFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    fd(call!(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC))
}

/// `fsconfig(FSCONFIG_CMD_CREATE)`.
pub fn fsconfig_create(context: RawFd) -> Result<()> {
    const FSCONFIG_CMD_CREATE: u32 = 6;
    done(call!(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0))
}

/// `fsmount(2)`, close-on-exec: a mount that is nowhere, and gone when its descriptor is closed.
pub fn fsmount(context: RawFd) -> Result<RawFd> {
    const FSMOUNT_CLOEXEC: u32 = 1;
    fd(call!(libc::SYS_fsmount, context, FSMOUNT_CLOEXEC, 0))
}

// ---------------------------------------------------------------------------------------------- the parent's own calls

/// `NS_GET_NSTYPE`, see ioctl_nsfs(2): the `CLONE_NEW*` bit of an open namespace file.
pub fn namespace_type(raw: RawFd) -> Result<u32> {
    call!(libc::SYS_ioctl, raw, 0xb703).map(|bits| u32::try_from(bits).unwrap_or(0))
}

/// `open_by_handle_at(2)` of a namespace by its 64-bit number (Linux 6.18).
pub fn open_namespace_by_id(id: u64, kind: u32, inode: u32) -> Result<OwnedFd> {
    const FD_NSFS_ROOT: i32 = -10003;
    let handle = NamespaceHandle { bytes: 16, kind: FILEID_NSFS, id, ns_type: kind, inode };
    owned(call!(libc::SYS_open_by_handle_at, FD_NSFS_ROOT, &raw const handle, libc::O_RDONLY | libc::O_CLOEXEC))
}

fn owned(value: Result<usize>) -> Result<OwnedFd> {
    let raw = fd(value)?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Opens a file at descriptor 3 or above, so that nothing the child moves to 0, 1 or 2 can overwrite it.
pub fn open_high(path: &CStr, flags: i32) -> Result<OwnedFd> {
    above_stdio(owned(call!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, 0))?)
}

/// `pipe2(2)` with both ends at descriptor 3 or above.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [0; 2];
    call!(libc::SYS_pipe2, &raw mut ends, libc::O_CLOEXEC)?;
    // SAFETY: the kernel has just made both.
    let (read, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    Ok((above_stdio(read)?, above_stdio(write)?))
}

/// `read(2)` of two words of four bytes; `None` at the end of the file.
pub fn read_words(file: BorrowedFd<'_>) -> Result<Option<[[u8; 4]; 2]>> {
    let mut words = [[0; 4]; 2];
    loop {
        match call!(libc::SYS_read, file.as_raw_fd(), &raw mut words, size_of_val(&words)) {
            Err(Errno::EINTR) => {}
            Ok(8) => return Ok(Some(words)),
            other => return other.map(|_| None),
        }
    }
}

/// The same open file at descriptor 3 or above.
pub fn dup_owned(raw: RawFd) -> Result<OwnedFd> {
    owned(dup_above(raw, 3).map(register))
}

/// `socketpair(2)` for whole messages, both ends at descriptor 3 or above; the first learns who sends them.
pub fn socketpair() -> Result<(OwnedFd, OwnedFd)> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    let mut ends: [RawFd; 2] = [0; 2];
    call!(libc::SYS_socketpair, libc::AF_UNIX, kind, 0, &raw mut ends)?;
    // SAFETY: the kernel has just made both.
    let (first, second) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    let (on, size) = (1i32, size_of::<i32>());
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PASSCRED);
    call!(libc::SYS_setsockopt, first.as_raw_fd(), level, option, &raw const on, size)?;
    Ok((above_stdio(first)?, above_stdio(second)?))
}

/// `recvmsg(2)` of what is there: the sender's pid as this process sees it, and the descriptor that was passed.
pub fn receive_fd(socket: BorrowedFd<'_>) -> Result<(i32, OwnedFd)> {
    let mut byte = 0u8;
    let part = [(&raw mut byte).addr(), 1];
    // Room for one header with credentials (28 bytes) and one with a descriptor (20), each in whole words.
    let mut control = [0u64; 8];
    let mut header = MessageHeader {
        name: [0; 2],
        parts: (&raw const part).addr(),
        count: 1,
        control: (&raw mut control).addr(),
        length: size_of_val(&control),
        flags: 0,
    };
    call!(libc::SYS_recvmsg, socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT)?;
    let (mut pid, mut passed, mut rest) = (0, None, &control[..header.length.min(64) / 8]);
    while let [length, kind, first, ..] = rest {
        // Level and type share a word, as do the descriptor and what follows, and the pid and the user id.
        let (kind, first) = (kind.to_ne_bytes(), first.to_ne_bytes());
        let low = |bytes: [u8; 8]| i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        match i32::from_ne_bytes([kind[4], kind[5], kind[6], kind[7]]) {
            libc::SCM_CREDENTIALS => pid = low(first),
            libc::SCM_RIGHTS => passed = adopt(low(first)),
            _ => {}
        }
        let words = usize::try_from(*length).unwrap_or(0).div_ceil(8);
        rest = rest.get(words.max(1)..).unwrap_or(&[]);
    }
    // The kernel leaves out what the table of descriptors has no room for.
    Ok((pid, above_stdio(passed.ok_or(Errno::EMFILE)?)?))
}

/// `recvfrom(2)` of a number, if it is there.
pub fn receive_number(socket: BorrowedFd<'_>) -> Option<i32> {
    let mut number = 0i32;
    let size = size_of::<i32>();
    let got = call!(libc::SYS_recvfrom, socket.as_raw_fd(), &raw mut number, size, libc::MSG_DONTWAIT, 0, 0);
    (got == Ok(size)).then_some(number)
}

/// `memfd_create(2)` for a program. Kernels before 6.3 make nothing else, and refuse the flag.
pub fn memfd_of_program(name: &CStr) -> Result<OwnedFd> {
    const MFD_EXEC: u32 = 0x10;
    let create = |flags: u32| owned(call!(libc::SYS_memfd_create, name.as_ptr(), flags | libc::MFD_CLOEXEC));
    match create(MFD_EXEC) {
        Err(Errno::EINVAL) => create(0),
        other => other,
    }
    .and_then(above_stdio)
}

/// `openat(2)` of a file without a name, for a program.
pub fn open_unnamed(directory: &CStr) -> Result<OwnedFd> {
    let flags = libc::O_TMPFILE | libc::O_RDWR | libc::O_CLOEXEC;
    owned(call!(libc::SYS_openat, libc::AT_FDCWD, directory.as_ptr(), flags, 0o555)).and_then(above_stdio)
}

/// `faccessat(2)`: fails for what is on a mount with noexec, root or not.
pub fn may_execute(path: &CStr) -> Result<()> {
    done(call!(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::X_OK))
}

/// The same descriptor at 3 or above: what a process has closed among 0, 1 and 2 it may soon open again by number.
pub fn above_stdio(fd: OwnedFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    copy_above_stdio(&fd)
}

/// A copy of it that is none of the standard streams.
pub fn copy_above_stdio(fd: &OwnedFd) -> Result<OwnedFd> {
    owned(dup_above(fd.as_raw_fd(), 3).map(register))
}

/// Takes ownership of a descriptor by its number; of none, -1.
pub fn adopt(raw: RawFd) -> Option<OwnedFd> {
    // SAFETY: only called with what the kernel has just given and nobody else has: by `CLONE_PIDFD`, `openat`, a socket,
    // or a function of `os` that opens.
    (raw >= 0).then(|| unsafe { OwnedFd::from_raw_fd(raw) })
}

/// `pthread_atfork(3)`: has this called in each child of a fork, where only functions that are safe in signal handlers
/// may be called.
pub fn at_fork_in_child(handler: extern "C" fn()) {
    // SAFETY: the handler is a function of this library, which is never unloaded.
    unsafe { libc::pthread_atfork(None, None, Some(handler)) };
}

/// A pidfd of the calling thread (Linux 6.9) or, before that, of the process.
pub fn pidfd_of_thread() -> Result<OwnedFd> {
    const PIDFD_THREAD: i32 = libc::O_EXCL;
    match call!(libc::SYS_pidfd_open, gettid(), PIDFD_THREAD) {
        Err(Errno::EINVAL) => owned(call!(libc::SYS_pidfd_open, getpid(), 0)),
        other => owned(other),
    }
    .and_then(above_stdio)
}

/// `sendto(2)` a peer that needs no address: for netlink, the kernel.
pub fn send(socket: BorrowedFd<'_>, message: &[u8]) -> Result<()> {
    done(call!(libc::SYS_sendto, socket.as_raw_fd(), message.as_ptr(), message.len(), 0, 0, 0))
}

/// `recvfrom(2)`: the length of the whole message, be it longer than the buffer.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    let (raw, length) = (socket.as_raw_fd(), buffer.len());
    call!(libc::SYS_recvfrom, raw, buffer.as_mut_ptr(), length, libc::MSG_TRUNC, 0, 0)
}

/// `pidfd_send_signal(2)`.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    done(call!(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0))
}

/// How a process ended: `CLD_*` and the exit status or signal, and what it used.
#[derive(Clone, Copy)]
pub struct Waited {
    /// `CLD_EXITED`, `CLD_KILLED` or `CLD_DUMPED`.
    pub code: i32,
    /// The exit status or the signal.
    pub status: i32,
    /// What it used.
    pub rusage: libc::rusage,
}

/// `waitid(P_PIDFD)`: reaps, or says that it still runs (`None`, with `WNOHANG`).
pub fn waitid(pidfd: BorrowedFd<'_>, options: i32) -> Result<Option<Waited>> {
    // SAFETY: all-zero is valid for both.
    let (mut info, mut rusage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
    let options = options | libc::WEXITED | libc::__WALL;
    call!(libc::SYS_waitid, libc::P_PIDFD, pidfd.as_raw_fd(), &raw mut info, options, &raw mut rusage)?;
    // SAFETY: waitid fills in the SIGCHLD fields, or leaves the zeros.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((info.si_signo != 0 || pid != 0).then_some(Waited { code: info.si_code, status, rusage }))
}

/// `PIDFD_GET_INFO`: the wait status of a process that somebody else has reaped (Linux 6.15).
pub fn pidfd_exit_status(pidfd: BorrowedFd<'_>) -> Result<Option<i32>> {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    /// `struct pidfd_info`, its first published size.
    #[repr(C)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    let mut info = Info { mask: PIDFD_INFO_EXIT, cgroup: 0, ids: [0; 11], exit_code: 0 };
    call!(libc::SYS_ioctl, pidfd.as_raw_fd(), 0xc040_ff0b_u32, &raw mut info)?;
    Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code))
}

/// `capget(2)`: the effective capabilities of this thread.
#[must_use]
pub fn effective_capabilities() -> u64 {
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut data = [[0u32; 3]; 2];
    let _ = call!(libc::SYS_capget, &raw const header, &raw mut data);
    u64::from(data[0][0]) | u64::from(data[1][0]) << 32
}

// ------------------------------------------------------------------------------------------------------ reading /proc

/// `openat(2)`, close-on-exec.
pub fn open_at(dir: RawFd, path: &CStr, flags: i32) -> Result<OwnedFd> {
    owned(call!(libc::SYS_openat, dir, path.as_ptr(), flags | libc::O_CLOEXEC, 0))
}

/// `read(2)`.
pub fn read(raw: RawFd, buffer: &mut [u8]) -> Result<usize> {
    call!(libc::SYS_read, raw, buffer.as_mut_ptr(), buffer.len())
}

/// `readlinkat(2)`: what fits into the buffer.
pub fn read_link<'a>(dir: RawFd, path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    let length = call!(libc::SYS_readlinkat, dir, path.as_ptr(), buffer.as_mut_ptr(), buffer.len())?;
    Ok(&buffer[..length])
}

/// `newfstatat(2)`: how many links there are to a file.
pub fn link_count(dir: RawFd, path: &CStr) -> Result<u64> {
    // SAFETY: all-zero is a valid `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    call!(libc::SYS_newfstatat, dir, path.as_ptr(), &raw mut stat, 0)?;
    #[allow(clippy::useless_conversion, reason = "it is a u32 on aarch64")]
    Ok(stat.st_nlink.into())
}

/// The contents of a file of `/proc`, whose size is not known before.
pub fn read_file(dir: RawFd, path: &CStr) -> Result<Vec<u8>> {
    read_open(&open_at(dir, path, libc::O_RDONLY)?, usize::MAX)
}

/// The rest of such a file, but not more than so many bytes.
pub fn read_open(file: &OwnedFd, most: usize) -> Result<Vec<u8>> {
    let (mut bytes, mut end) = (Vec::new(), 0);
    while end < most {
        bytes.resize((end + end.clamp(4096, 1 << 16)).min(most), 0);
        match read(file.as_raw_fd(), &mut bytes[end..]) {
            Ok(0) => break,
            Ok(count) => end += count,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    bytes.truncate(end);
    Ok(bytes)
}

/// `NS_GET_USERNS`, see ioctl_nsfs(2): opens the user namespace it belongs to.
pub fn namespace_owner(raw: RawFd) -> Result<OwnedFd> {
    owned(call!(libc::SYS_ioctl, raw, 0xb701, 0))
}

/// `NS_GET_PARENT`: opens the one that a pid or user namespace was made in.
pub fn namespace_parent(raw: RawFd) -> Result<OwnedFd> {
    owned(call!(libc::SYS_ioctl, raw, 0xb702, 0))
}

/// `NS_GET_OWNER_UID`: who made a user namespace.
pub fn namespace_owner_uid(raw: RawFd) -> Result<u32> {
    let mut uid = 0u32;
    call!(libc::SYS_ioctl, raw, 0xb704, &raw mut uid).map(|_| uid)
}

/// `pidfd_open(2)`.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    owned(call!(libc::SYS_pidfd_open, pid, 0))
}

/// `pidfd_send_signal(2)` of no signal: `ESRCH` once the process has been reaped.
pub fn pidfd_probe(pidfd: RawFd) -> Result<()> {
    done(call!(libc::SYS_pidfd_send_signal, pidfd, 0, 0, 0))
}

/// The environment's strings. Who changes it meanwhile without Python's lock breaks getenv(3) everywhere else too.
fn environment() -> impl Iterator<Item = *const c_char> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: `environ` is null or a null-terminated array of strings.
    let mut next = unsafe { environ };
    std::iter::from_fn(move || {
        // SAFETY: as above; the end has not been passed.
        unsafe {
            let string = *next.as_ref().filter(|string| !string.is_null())?;
            next = next.add(1);
            Some(string)
        }
    })
}

/// Anonymous memory with guard pages; unmapped when dropped.
pub struct Mapping {
    start: *mut u8,
    length: usize,
}

// SAFETY: it is plain memory; who writes where is the business of the owner.
unsafe impl Send for Mapping {}
// SAFETY: as above: only atomics are handed out as references.
unsafe impl Sync for Mapping {}

/// A page, for guards and alignment: no supported machine has larger ones.
pub const PAGE: usize = 65536;

/// Plain memory of atomics: any bytes are a valid value.
///
/// # Safety
///
/// Every field must be an atomic integer or an array of such types.
pub unsafe trait Atomics {}

impl Mapping {
    /// `mmap(2)`: zeroed memory, `shared` with a child that copies the rest.
    pub fn new(length: usize, shared: bool) -> Result<Self> {
        let kind = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        let flags = kind | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let address = call!(libc::SYS_mmap, 0, length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)?;
        Ok(Self { start: ptr::with_exposed_provenance_mut(address), length })
    }

    /// `mprotect(2)`: makes a page of it fault.
    pub fn guard(&self, offset: usize) -> Result<()> {
        assert!(offset + PAGE <= self.length);
        done(call!(libc::SYS_mprotect, self.start.addr() + offset, PAGE, libc::PROT_NONE))
    }

    /// The address of a byte in it.
    #[must_use]
    pub fn address(&self, offset: usize) -> usize {
        self.start.addr() + offset
    }

    /// A view of the memory at `offset`.
    #[must_use]
    pub fn view<T: Atomics>(&self, offset: usize) -> &T {
        assert!(offset.is_multiple_of(align_of::<T>()) && offset + size_of::<T>() <= self.length);
        // SAFETY: in bounds, aligned, any bytes are valid, and all access is atomic.
        unsafe { &*self.start.add(offset).cast::<T>() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let _ = call!(libc::SYS_munmap, self.start, self.length);
    }
}

// SAFETY: see the type: atomics only.
unsafe impl Atomics for crate::report::Report {}
// SAFETY: as above.
unsafe impl Atomics for crate::enter::Pids {}

/// A value published once per process: read without a lock, which a fork could leave taken.
pub struct Published<T>(AtomicPtr<T>);

impl<T: Sync> Published<T> {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// What was published last.
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: only `publish` stores here, values that are never freed.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Forgets it.
    pub fn clear(&self) {
        self.0.store(ptr::null_mut(), Ordering::Release);
    }

    /// Publishes a value for the rest of the process's life in place of `old`; if another thread was quicker, drops it
    /// and returns that thread's.
    pub fn publish(&self, old: Option<&'static T>, value: T) -> Option<&'static T> {
        let old = old.map_or(ptr::null_mut(), |old| ptr::from_ref(old).cast_mut());
        let new = Box::into_raw(Box::new(value));
        if self.0.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: nobody else has seen this pointer.
            drop(unsafe { Box::from_raw(new) });
        }
        self.get()
    }
}
