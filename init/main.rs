//! The init of nslab: a program of a few KiB without libc, which keeps namespaces alive.
//!
//! The core embeds it (see `build.rs`) and executes it from memory. It never allocates. The inits live by their three
//! first descriptors, all others being closed:
//!
//! - `nslab-init PID`: PID 1 above the program `PID`, its child. It reaps whatever becomes an orphan, writes the
//!   program's wait status to descriptor 0, and ends as the program did; with it the kernel ends the whole namespace.
//! - `nslab-time NAMESPACE REPORT LOWER COUNT PATH… ARGUMENT…`: enters the time namespace that is open as descriptor
//!   `NAMESPACE`, which the kernel allows to nobody who shares memory, and executes the first of `COUNT` paths. The pipe
//!   `REPORT` hears that it has come to the program, and what fails. `LOWER` is what it must give up before of what it
//!   was given to come so far.
//! - `nslab-host NAME TYPE…`: keeps namespaces of these types until the process whose pidfd is descriptor 0 has ended.
//!   As PID 1 it then takes everything along. Otherwise it kills whatever is left in them, as descriptor 2, the owner's
//!   `/proc`, shows it. Descriptor 1 is the socket whose address reserves the name, 4 a pipe that hears when it is ready.
#![no_std]
#![no_main]
// Nothing here may become a call of the libc function that does the same.
#![no_builtins]
#![deny(unsafe_code, clippy::undocumented_unsafe_blocks)]

mod sys;

/// What was killed needs a moment to be gone, in nanoseconds.
const MOMENT: Option<i64> = Some(5_000_000);

/// On a machine where somebody always ends, this many looks in a row that killed nobody are enough.
const LOOKS: u32 = 50;

/// Where `_start` goes, in `sys.rs`.
fn begin(mut arguments: sys::Arguments) -> ! {
    let name = arguments.next().unwrap_or(c"");
    if name == c"nslab-time" {
        enter_time(arguments);
    }
    // What the caller's directory is on must not stay busy.
    sys::chdir(c"/");
    sys::set_name(name);
    match arguments.next() {
        Some(program) if name == c"nslab-init" => init(number(program.to_bytes())),
        Some(_) => host(&arguments),
        None => sys::exit(125),
    }
}

/// Ends as the program does, as far as a PID 1 can.
fn init(program: u32) -> ! {
    loop {
        let mut status = 0;
        match sys::wait(&mut status) {
            Ok(pid) if pid == program => {
                sys::write(0, &status.to_ne_bytes());
                let signal = status & 0x7f;
                sys::exit(if signal == 0 { status >> 8 & 0xff } else { 128 + signal })
            }
            Ok(_) | Err(sys::EINTR) => {}
            Err(_) => sys::exit(125),
        }
    }
}

/// Where it is, or where it fails and why, for `time::Passage` of the core.
fn say(report: i32, place: i32, errno: i32) {
    let [a, b] = [place, errno].map(i32::to_ne_bytes);
    sys::write(report, &[a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]);
}

fn failed(report: i32, place: i32, errno: i32) -> ! {
    say(report, place, errno);
    sys::exit(127)
}

fn enter_time(mut arguments: sys::Arguments) -> ! {
    let mut next = || arguments.next().map_or(0, |digits| number(digits.to_bytes()));
    let (namespace, report) = (next().cast_signed(), next().cast_signed());
    let (lower, count) = (next(), next());
    if let Err(errno) = sys::setns(namespace) {
        failed(report, 0, errno);
    }
    sys::close(namespace);
    // Without either the program would get what was only meant for us.
    let kept_back = sys::close_on_exec(report).and_then(|()| sys::lower_sys_admin(lower & 1 != 0, lower & 2 != 0));
    if let Err(errno) = kept_back {
        failed(report, 0, errno);
    }
    let paths = arguments.clone();
    for _ in 0..count {
        arguments.next();
    }
    say(report, 2, 0);
    // As `os.execvpe` does: the first error that is not "no such file" wins.
    let (mut first, mut last) = (0, sys::ENOENT);
    for path in paths.take(count as usize) {
        last = sys::execve(path, &arguments);
        if first == 0 && last != sys::ENOENT && last != sys::ENOTDIR {
            first = last;
        }
    }
    failed(report, 1, if first == 0 { last } else { first })
}

fn host(types: &sys::Arguments) -> ! {
    // Neither a keyboard nor a friend ends it by mistake, and orphans leave no zombies.
    sys::block_signals();
    sys::ignore_children();
    // Whoever made it waits for this.
    say(4, 0, 0);
    sys::close(4);
    while !sys::readable(0, None) {}
    if sys::getpid() != 1 {
        let mut looks = 0;
        loop {
            match kill_all(types) {
                Look::Killed => looks = 0,
                Look::SomebodyEnded if looks < LOOKS => looks += 1,
                _ => break,
            }
            sys::readable(-1, MOMENT);
        }
    }
    sys::exit(0)
}

/// What one look through `/proc` has found.
enum Look {
    Killed,
    /// And may have forked before, behind our back.
    SomebodyEnded,
    Nobody,
}

/// Kills every process in these namespaces.
fn kill_all(types: &sys::Arguments) -> Look {
    let (mut killed, mut ended) = (false, false);
    sys::each_process(2, |process| {
        if process == sys::getpid() {
            return;
        }
        // By pidfd: when what is looked at next is another process with the same pid, the signal reaches nobody.
        let Ok(pidfd) = sys::pidfd_open(process) else {
            ended = true;
            return;
        };
        let shares =
            |kind| sys::namespace(2, Some(process), kind).is_some_and(|id| Some(id) == sys::namespace(2, None, kind));
        if types.clone().any(shares) {
            killed |= sys::kill(pidfd);
        } else {
            // Also a zombie that nobody reaps: when it ended nobody can say.
            ended |= sys::readable(pidfd, Some(0));
        }
        sys::close(pidfd);
    });
    match (killed, ended) {
        (true, _) => Look::Killed,
        (false, true) => Look::SomebodyEnded,
        (false, false) => Look::Nobody,
    }
}

/// Decimal digits.
fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |n: u32, digit| n.wrapping_mul(10).wrapping_add(u32::from(digit.wrapping_sub(b'0'))))
}

/// Nothing here panics; the language wants to know what would happen.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(125)
}
