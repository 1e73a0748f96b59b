//! The system calls of the init, one a function. It is the only file with `unsafe` in it, and it has no libc.
#![allow(unsafe_code)]
#![allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // a register holds any of them

use core::arch::{asm, global_asm};
use core::ffi::CStr;
use core::mem::MaybeUninit;

pub const ENOENT: i32 = 2;
pub const EINTR: i32 = 4;
pub const ENOTDIR: i32 = 20;

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call begin", "ud2");
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "mov x0, sp", "b begin");

/// `argc`, then `argv`, as the kernel leaves them on the stack: where `_start` goes.
#[unsafe(no_mangle)]
extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: `argc` comes first, then the pointers, and a null after them; `_start` passes nothing else.
    crate::begin(Arguments(unsafe { stack.add(1) }.cast()))
}

/// What `CStr` needs of libc.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the string has a NUL.
    while unsafe { *string.add(length) } != 0 {
        length += 1;
    }
    length
}

/// What comparisons need of libc.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    for at in 0..length {
        // SAFETY: both have that length.
        let (a, b) = unsafe { (*a.add(at), *b.add(at)) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// The numbers of the calls.
#[cfg(target_arch = "x86_64")]
mod nr {
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const LSEEK: usize = 8;
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const GETPID: usize = 39;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const FCNTL: usize = 72;
    pub const CHDIR: usize = 80;
    pub const CAPGET: usize = 125;
    pub const CAPSET: usize = 126;
    pub const PRCTL: usize = 157;
    pub const GETDENTS64: usize = 217;
    pub const EXIT_GROUP: usize = 231;
    pub const NEWFSTATAT: usize = 262;
    pub const PPOLL: usize = 271;
    pub const SETNS: usize = 308;
    pub const PIDFD_SEND_SIGNAL: usize = 424;
    pub const PIDFD_OPEN: usize = 434;
}
/// The numbers of the calls.
#[cfg(target_arch = "aarch64")]
mod nr {
    pub const FCNTL: usize = 25;
    pub const CHDIR: usize = 49;
    pub const CLOSE: usize = 57;
    pub const GETDENTS64: usize = 61;
    pub const LSEEK: usize = 62;
    pub const WRITE: usize = 64;
    pub const PPOLL: usize = 73;
    pub const NEWFSTATAT: usize = 79;
    pub const CAPGET: usize = 90;
    pub const CAPSET: usize = 91;
    pub const EXIT_GROUP: usize = 94;
    pub const RT_SIGACTION: usize = 134;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const PRCTL: usize = 167;
    pub const GETPID: usize = 172;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const SETNS: usize = 268;
    pub const PIDFD_SEND_SIGNAL: usize = 424;
    pub const PIDFD_OPEN: usize = 434;
}

/// Any system call; `-errno` on failure. An argument that is a pointer must be valid for what this call does with it.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: [usize; 5]) -> isize {
    let value: isize;
    // SAFETY: the kernel clobbers rax, rcx and r11 only; the caller vouches for the arguments.
    unsafe {
        asm!("syscall", inlateout("rax") number => value,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    value
}

/// Any system call; `-errno` on failure. An argument that is a pointer must be valid for what this call does with it.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: [usize; 5]) -> isize {
    let value: isize;
    // SAFETY: the kernel clobbers x0 only; the caller vouches for the arguments.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a[0] => value,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], options(nostack));
    }
    value
}

/// The strings of `argv` that are left.
#[derive(Clone)]
pub struct Arguments(*const *const core::ffi::c_char);

impl Iterator for Arguments {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<&'static CStr> {
        // SAFETY: not yet past the null that ends the array; the strings live as long as the process.
        unsafe {
            let string = *self.0;
            if string.is_null() {
                return None;
            }
            self.0 = self.0.add(1);
            Some(CStr::from_ptr(string))
        }
    }
}

/// `exit_group(2)`.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: no pointer.
        unsafe { call(nr::EXIT_GROUP, [status as usize, 0, 0, 0, 0]) };
    }
}

/// `prctl(PR_SET_NAME)`: else it would be called after the number of a descriptor.
pub fn set_name(name: &CStr) {
    const PR_SET_NAME: usize = 15;
    // SAFETY: a string with its NUL.
    unsafe { call(nr::PRCTL, [PR_SET_NAME, name.as_ptr().expose_provenance(), 0, 0, 0]) };
}

/// `chdir(2)`.
pub fn chdir(path: &CStr) {
    // SAFETY: a string with its NUL.
    unsafe { call(nr::CHDIR, [path.as_ptr().expose_provenance(), 0, 0, 0, 0]) };
}

/// `getpid(2)`.
pub fn getpid() -> u32 {
    // SAFETY: no argument.
    unsafe { call(nr::GETPID, [0; 5]) as u32 }
}

/// `wait4(2)` for any child of any kind.
pub fn wait(status: &mut i32) -> Result<u32, i32> {
    const WALL: usize = 0x4000_0000;
    let status = core::ptr::from_mut(status).expose_provenance();
    // SAFETY: `status` is writable.
    let pid = unsafe { call(nr::WAIT4, [usize::MAX, status, WALL, 0, 0]) };
    if pid < 0 { Err(-pid as i32) } else { Ok(pid as u32) }
}

/// `execve(2)` with these arguments and what follows them on the stack: the environment. Returns only why it could not.
pub fn execve(path: &CStr, arguments: &Arguments) -> i32 {
    let argv = arguments.0;
    let mut envp = argv;
    // SAFETY: `argv` ends with a null, after which the environment begins; the kernel has put both there.
    unsafe {
        while !(*envp).is_null() {
            envp = envp.add(1);
        }
        -call(
            nr::EXECVE,
            [path.as_ptr().expose_provenance(), argv.expose_provenance(), envp.add(1).expose_provenance(), 0, 0],
        ) as i32
    }
}

/// `setns(2)` into a time namespace.
pub fn setns(fd: i32) -> Result<(), i32> {
    const CLONE_NEWTIME: usize = 0x80;
    // SAFETY: no pointer.
    done(unsafe { call(nr::SETNS, [fd as usize, CLONE_NEWTIME, 0, 0, 0]) })
}

/// `fcntl(F_SETFD, FD_CLOEXEC)`.
pub fn close_on_exec(fd: i32) -> Result<(), i32> {
    const F_SETFD: usize = 2;
    // SAFETY: no pointer.
    done(unsafe { call(nr::FCNTL, [fd as usize, F_SETFD, 1, 0, 0]) })
}

fn done(answer: isize) -> Result<(), i32> {
    if answer < 0 { Err(-answer as i32) } else { Ok(()) }
}

/// Gives `CAP_SYS_ADMIN` up in the ambient set, and in the inheritable one, see capabilities(7).
pub fn lower_sys_admin(ambient: bool, inheritable: bool) -> Result<(), i32> {
    const PR_CAP_AMBIENT: usize = 47;
    const PR_CAP_AMBIENT_LOWER: usize = 3;
    const CAP_SYS_ADMIN: usize = 21;
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    // Effective, permitted, inheritable, for 32 capabilities each.
    let mut sets = [0u32; 6];
    let (header, sets_at) = ((&raw const header).expose_provenance(), (&raw mut sets).expose_provenance());
    // SAFETY: both are as large as the kernel expects for this version.
    unsafe {
        if ambient {
            done(call(nr::PRCTL, [PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, CAP_SYS_ADMIN, 0, 0]))?;
        }
        if inheritable {
            done(call(nr::CAPGET, [header, sets_at, 0, 0, 0]))?;
            sets[2] &= !(1 << CAP_SYS_ADMIN);
            done(call(nr::CAPSET, [header, (&raw const sets).expose_provenance(), 0, 0, 0]))?;
        }
    }
    Ok(())
}

/// `write(2)`.
pub fn write(fd: i32, bytes: &[u8]) {
    // SAFETY: the bytes are readable.
    unsafe { call(nr::WRITE, [fd as usize, bytes.as_ptr().expose_provenance(), bytes.len(), 0, 0]) };
}

/// `close(2)`.
pub fn close(fd: i32) {
    // SAFETY: no pointer.
    unsafe { call(nr::CLOSE, [fd as usize, 0, 0, 0, 0]) };
}

/// `rt_sigprocmask(2)`: all that can be blocked.
pub fn block_signals() {
    const SIG_SETMASK: usize = 2;
    let all = u64::MAX;
    // SAFETY: `all` is the kernel's signal mask of 8 bytes.
    unsafe { call(nr::RT_SIGPROCMASK, [SIG_SETMASK, (&raw const all).expose_provenance(), 0, 8, 0]) };
}

/// `rt_sigaction(SIGCHLD, SIG_IGN)`: children reap themselves, see wait(2).
pub fn ignore_children() {
    const SIGCHLD: usize = 17;
    const SIG_IGN: usize = 1;
    // The kernel's struct: handler, flags, restorer, mask.
    let action = [SIG_IGN, 0, 0, 0];
    // SAFETY: `action` is readable.
    unsafe { call(nr::RT_SIGACTION, [SIGCHLD, (&raw const action).expose_provenance(), 0, 8, 0]) };
}

/// `ppoll(2)`: whether the descriptor became readable within these nanoseconds, or ever.
pub fn readable(fd: i32, nanoseconds: Option<i64>) -> bool {
    const POLLIN: i16 = 1;
    #[repr(C)]
    struct Entry(i32, i16, i16);
    let mut entry = Entry(fd, POLLIN, 0);
    let time = [0, nanoseconds.unwrap_or(0)];
    let time = if nanoseconds.is_some() { (&raw const time).expose_provenance() } else { 0 };
    // SAFETY: `entry` is writable, `time` readable or null.
    unsafe { call(nr::PPOLL, [(&raw mut entry).expose_provenance(), 1, time, 0, 0]) > 0 }
}

/// `pidfd_open(2)`.
pub fn pidfd_open(pid: u32) -> Result<i32, ()> {
    // SAFETY: no pointer.
    i32::try_from(unsafe { call(nr::PIDFD_OPEN, [pid as usize, 0, 0, 0, 0]) }).ok().filter(|fd| *fd >= 0).ok_or(())
}

/// `pidfd_send_signal(SIGKILL)`; whether it was allowed.
pub fn kill(pidfd: i32) -> bool {
    const SIGKILL: usize = 9;
    // SAFETY: no pointer but null.
    unsafe { call(nr::PIDFD_SEND_SIGNAL, [pidfd as usize, SIGKILL, 0, 0, 0]) == 0 }
}

/// The inode of a namespace of a process, or of this one, by `newfstatat(2)` below the directory `proc`.
pub fn namespace(proc: i32, process: Option<u32>, kind: &CStr) -> Option<u64> {
    /// `struct stat`: of 144 bytes (128 on aarch64), the inode being the second word.
    type Stat = MaybeUninit<[u64; 18]>;
    let mut path = MaybeUninit::<[u8; 48]>::uninit();
    let mut end = 0;
    let mut add = |byte: u8| {
        if end < 47 {
            // SAFETY: in bounds.
            unsafe { path.as_mut_ptr().cast::<u8>().add(end).write(byte) };
            end += 1;
        }
    };
    match process {
        Some(pid) => {
            let mut place = 1_000_000_000;
            while place > 0 {
                // /proc has no leading zeros.
                if pid >= place {
                    add(b'0' + (pid / place % 10) as u8);
                }
                place /= 10;
            }
        }
        None => b"self".iter().copied().for_each(&mut add),
    }
    b"/ns/".iter().chain(kind.to_bytes()).chain(&[0]).copied().for_each(&mut add);
    let mut stat = Stat::uninit();
    // SAFETY: `path` ends with a NUL, as no kind is long enough to reach its end; `stat` is large enough.
    unsafe {
        let answer = call(
            nr::NEWFSTATAT,
            [proc as usize, path.as_ptr().expose_provenance(), stat.as_mut_ptr().expose_provenance(), 0, 0],
        );
        (answer == 0).then(|| stat.as_ptr().cast::<u64>().add(1).read())
    }
}

/// Calls `visit` with each number that is a name in the directory `proc`.
pub fn each_process(proc: i32, mut visit: impl FnMut(u32)) {
    const ROOM: usize = 4096;
    /// `struct linux_dirent64`: inode and offset (8 bytes each), length (2), type (1), name.
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    let mut buffer = MaybeUninit::<[u64; ROOM / 8]>::uninit();
    let start = buffer.as_mut_ptr().cast::<u8>();
    // SAFETY: no pointer.
    unsafe { call(nr::LSEEK, [proc as usize, 0, 0, 0, 0]) };
    loop {
        // SAFETY: the buffer has that room.
        let length = unsafe { call(nr::GETDENTS64, [proc as usize, start.expose_provenance(), ROOM, 0, 0]) };
        if length <= 0 {
            return;
        }
        let mut at = 0;
        while at < length as usize {
            // SAFETY: the kernel has filled the buffer with whole entries up to `length`, each name with its NUL.
            let (entry_length, name) = unsafe {
                let entry = start.add(at);
                (entry.add(LENGTH).cast::<u16>().read_unaligned(), CStr::from_ptr(entry.add(NAME).cast()))
            };
            let name = name.to_bytes();
            if name.iter().all(u8::is_ascii_digit) {
                visit(crate::number(name));
            }
            at += usize::from(entry_length).max(1);
        }
    }
}
