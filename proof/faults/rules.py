"""Where something else than the error of the call's step is right, and why: one row a reason, the first that covers."""

from __future__ import annotations

import dataclasses
import re

from .cells import Cell

KILL = "KILL"
# What libc and the core read to know who calls.
NAMES = "/etc/(nsswitch.conf|passwd)"
FACTS = "/(ngroups_max|timens_offsets|subuid|subgid|uid_map|gid_map)"
HELPER = r"(access|statx|newfstatat)\(.*new[ug]idmap"
HELPS = r"clone3\(\{flags=CLONE_VM\|CLONE_VFORK|wait4\("
THREAD = r"mmap\(.*MAP_STACK|mprotect\(0x\w+, 262144|clone3\(.*CLONE_THREAD"
CALLER = "parent|keeper"

# What is expected; else the name of a step: `SpawnError` with this step, and the errno or signal of the fault.
STEP = "its step"  # The step that the call belongs to.
SAME = "same"  # As without the fault.
LAST = "clone|uid_map|setgroups|gid_map|newuidmap|newgidmap"  # Of the process in between.
ENDED = "ended -9"  # A process that was killed.
SIG9 = "SIG9"
HOST_ENDED = "host ended"  # A host that is not alive any more.


@dataclasses.dataclass(frozen=True)
class Rule:
    """One reason."""

    reason: str
    #: Alternatives are separated by |.
    expected: str
    #: What the call begins with, as strace prints it.
    call: str = ""
    faults: str = r"E\w+"
    process: str = ".*"
    plan: str = ""
    #: The errno, where it is not the fault's.
    errno: str = ""
    #: What may be left behind, or changed.
    changed: str = ""
    #: What may be different in a program that runs.
    differs: str = ""
    #: Whether the call is made only if another process is slower.
    races: bool = False

    def covers(self, cell: Cell) -> bool:
        return bool(
            re.fullmatch(self.process, cell.fault.process)
            and re.fullmatch(self.faults, cell.fault.how)
            and re.match(self.plan, cell.plan.name)
            and re.match(self.call, cell.call)
        )


RULES = [
    # Killed.
    Rule("a helper that was killed has failed like one that refuses", STEP, "", KILL, "new.idmap", errno="EPERM"),
    Rule("killed once execve has begun is a program that was killed, as in subprocess", ENDED, r"execve\(", KILL),
    Rule(
        "the program runs when the init above it becomes that: what ends the init ends the program",
        ENDED,
        r"(dup3|fcntl|close|close_range|execveat|chdir|prctl|wait4)\((?!PR_SET_PDEATHSIG)",
        KILL,
        process="init",
        plan="init",
    ),
    Rule(
        "the host was ready: that it has ended is told by what uses it",
        f"{HOST_ENDED}|bind ESRCH",
        r"(close\(4<pipe|ppoll\()",
        KILL,
        plan="Host",
    ),
    Rule(
        "the init is killed while the program in between is on its way, or already through",
        f"setns {SIG9}|execve ENOENT|{ENDED}",
        r"(dup3|fcntl|close|close_range|execveat|chdir|prctl|wait4)\((?!PR_SET_PDEATHSIG)",
        KILL,
        process="init",
        plan=".*join time, init",
    ),
    Rule("the first failure is the one that is told", SAME, r"(exit_group|wait4)\(", KILL, plan="missing"),
    Rule(
        "what is killed with the reason in its hands has not told it",
        ENDED,
        r'write\(\d+<pipe:\[\d+\]>, "\\1',
        KILL,
        process="child",
        plan="missing program, join time",
    ),
    Rule("the last step that it took", LAST, r"(unshare\(CLONE_FILES|futex\()", KILL, process="intermediate"),
    Rule("the helper's step", "newuidmap|newgidmap", rf"({HELPS})", KILL, process="intermediate"),
    Rule("before it makes the program", "clone", r"rt_sigaction\(SIGCHLD, NULL", f"E\\w+|{KILL}", process="init"),
    Rule(
        "the maps may be there before anybody waits for them",
        STEP,
        r"futex\(.*FUTEX_WAIT",
        KILL,
        "child|init",
        races=True,
    ),
    Rule("killed in a step", STEP, "", KILL),
    # What is done in another way, or again.
    Rule("the call is made again", SAME, r"wait4\(", "EINTR"),
    Rule(
        "the helper's step, before which another clone has shown what there is",
        "newuidmap|newgidmap",
        rf"({HELPS})",
        process="intermediate",
    ),
    Rule("clone(2) where there is no clone3(2)", SAME, r"clone3\(", "ENOSYS"),
    Rule("what /proc/self/fd lists is closed one by one", SAME, r"close_range\(", "ENOSYS|EPERM"),
    Rule("a file without a name, where no memory can be executed", SAME, r"memfd_create\(", "ENOSYS"),
    Rule("/proc/self/ns shows the namespaces too", SAME, r"ioctl\(\d+<anon_inode:\[pidfd\]>", process="child|init"),
    Rule("ioctl_nsfs(2) tells the number too", SAME, r"name_to_handle_at\(", process="child|init"),
    Rule("stat(2) does not say which mount a file is on", "bind", r"statx\(.*, STATX_MNT_ID,", "ENOSYS"),
    Rule("stat(2) where there is no statx(2)", SAME, r"statx\(", "ENOSYS"),
    Rule("the thread waits again", SAME, r"futex\(.*FUTEX_WAIT", "EINTR", races=True),
    Rule("the call is made again", SAME, r"(wait4|waitid|read|ppoll)\(", "EINTR", process=CALLER),
    Rule("Python opens it again", SAME, r'openat\(.*("(/dev/null|/proc)", O_RD|kept(/|", O_RD))', "EINTR", CALLER),
    # What nothing else could do.
    Rule(
        "nothing else puts a signal mask back, and nothing but a filter refuses to",
        SAME,
        r"rt_sigprocmask\(SIG_SETMASK, \[USR1\], ~",
        process=CALLER,
        changed="signals",
        differs="status",
    ),
    Rule(
        "nothing else makes a process dumpable again, and nothing but a filter refuses to",
        SAME,
        r"prctl\(PR_SET_DUMPABLE",
        changed="dumpable",
    ),
    Rule(
        "only by the pipe it could have told why",
        "ended 127",
        r'write\(\d+<pipe:\[\d+\]>, "\\1',
        process="child",
        plan="missing program, join time",
    ),
    Rule(
        "what follows is told",
        SAME,
        r'write\(\d+<pipe:\[\d+\]>, "\\2',
        process="child",
        plan="missing program, join time",
    ),
    Rule(
        "who cannot tell that it has come to the program is not let there",
        f"setns {SIG9}",
        r'write\(\d+<pipe:\[\d+\]>, "\\2',
        process="child",
        plan="join time",
    ),
    Rule(
        "who cannot tell that it is ready is ended",
        f"init {SIG9}",
        r'write\(4<pipe:\[\d+\]>, "\\0',
        process="child",
        plan="Host",
    ),
    # What the plan can do without.
    Rule("only to know what to put back", SAME, r"prctl\(PR_GET_DUMPABLE"),
    Rule("only a name, for those who look", SAME, r"prctl\(PR_SET_NAME", differs="parent"),
    Rule("a complaint of the helper is lost, no more", SAME, r"dup3\(", process="new.idmap"),
    Rule(
        "the helper does what it did, and may be killed later",
        SAME,
        r"rt_sigprocmask\(SIG_SETMASK, \[USR1\]",
        process="new.idmap",
    ),
    Rule(
        "the helper's own affair: it goes on without, or fails",
        f"{STEP}|{SAME}",
        r"(?!execve\()",
        process="new.idmap",
        errno="EPERM",
    ),
    Rule("to buffer a pipe Python need not know more of it", SAME, r"(newfstatat|ioctl|lseek)\(\d+<(pipe|/dev/null)"),
    Rule(
        "libc looks for the user's name, and the id will do",
        SAME,
        rf"\w+\(.*({NAMES})|newfstatat\(AT_FDCWD[^,]*, \"/\"|connect\(|socket\(AF_UNIX, SOCK_STREAM",
        process=CALLER,
    ),
    Rule(
        "what the caller may map and has set only serves to refuse early what the kernel would",
        SAME,
        rf"\w+\(.*({FACTS})|getgroups\(",
        process=CALLER,
    ),
    Rule(
        "what a hint looks at",
        SAME,
        r'newfstatat\(AT_FDCWD<[^>]*>, "/(nonexistent|usr/bin/no-such-program)"',
        process=CALLER,
    ),
    Rule("root needs no helper, and others find it in the next directory of PATH", SAME, HELPER, process=CALLER),
    Rule(
        "who does not know its capabilities asks the helper, which has nothing for root",
        "newuidmap",
        r"capget\(",
        process=CALLER,
        plan=".*ids from outside",
    ),
    Rule("who does not know its capabilities has none to use or to pass on", SAME, r"(capget|prctl)\(", process=CALLER),
    Rule(
        "root needs no capability passed on",
        SAME,
        r"capget\(.*inheritable=0\}|capset\(.*inheritable=1<<|prctl\(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE",
        process="child",
        plan=".*join time",
    ),
    Rule("which type a file is of is then left to setns(2)", SAME, r"ioctl\(.*NS_GET_NSTYPE.*(UTS|NET)\)"),
    Rule(
        "which type a file is of is then left to setns(2), which refuses time to who shares memory",
        "setns",
        r"ioctl\(.*NS_GET_NSTYPE",
        errno="EUSERS",
    ),
    Rule(
        "a file of a namespace that may be a pidfd",
        SAME,
        r"(openat|statx|read)\(.*fdinfo",
        process="parent",
        plan=".*join time",
    ),
    Rule(
        "without it the steps that need /proc open it themselves",
        SAME,
        r'openat\(.*"/proc", .*O_PATH',
        "E(?!MFILE)\\w+",
        CALLER,
    ),
    Rule(
        "a descriptor more in the caller for as long as this takes",
        SAME,
        r"unshare\(CLONE_FILES",
        process="intermediate",
    ),
    Rule("it is not waited for: it ends by itself", SAME, r"pidfd_send_signal\(", plan="missing"),
    Rule(
        "a convenience of the inits",
        SAME,
        r"chdir\(\"/\"|rt_sigaction\(SIGCHLD, \{sa_handler=SIG_IGN",
        plan="Host|.*init",
        process="child|init",
        differs="directory|status",
    ),
    Rule("what is blocked already", SAME, r"rt_sigprocmask\(SIG_SETMASK, ~\[\], NULL", plan="Host", process="child"),
    Rule("it is ready, and asks again", SAME, r"ppoll\(", plan="Host", process="child"),
    # What libc does for a thread.
    Rule(
        "libc answers EAGAIN for a thread without a stack, see pthread_create(3)",
        "clone",
        rf"({THREAD})",
        "ENOMEM",
        errno="EAGAIN",
    ),
    Rule("no thread without a stack", "clone", rf"({THREAD})"),
    Rule(
        "libc looks at none of it",
        SAME,
        r"rt_sig(action\(SIGRT|procmask\(SIG_UNBLOCK|procmask\(SIG_BLOCK, ~|procmask\(SIG_SETMASK, ~\[KILL)",
        process=CALLER,
    ),
    Rule("libc takes the memory from elsewhere", SAME, r"(mmap|mprotect|madvise)\(", process="keeper"),
    Rule("a pidfd of the process where threads have none", SAME, r"pidfd_open\(\d+, 0x", "ENOSYS"),
    # Steps of the caller with a name of their own.
    Rule(
        "the streams",
        "stdio",
        r'pipe2\(.*O_CLOEXEC|openat\(.*"/dev/null"',
        process=CALLER,
        plan="process options|all$|missing program$",
    ),
    Rule("the streams of the host", "stdio", r'openat\(.*"/dev/null"', process=CALLER, plan="Host"),
    Rule("the memory for the stacks", "mmap", r"(mmap|mprotect)\(", process=CALLER),
    Rule(
        "the namespaces to join",
        "open_ns",
        r'openat\(.*"/proc/\d+/ns/',
        process=CALLER,
        plan="join|missing program, join",
    ),
    Rule("whether the host is alive", "setns", r"(waitid|ppoll)\(", process="parent", plan="join before new"),
    Rule(
        "the child has noted what it made, and all else is the caller's",
        f"{SAME}|note_namespaces|bind",
        r"(openat|fstat|ioctl)\(.*(/self/task/|<\w+:\[)",
        process="parent",
        plan="Host",
    ),
    Rule("a process that is in it shows it too", SAME, r"open_by_handle_at\(", process="parent", plan="Host"),
    Rule("the list has been read, and is closed next", SAME, r"lseek\(.*kept", process="parent", plan="Host, persist"),
    Rule(
        "the directory of the files",
        "bind",
        r"(mkdir|mount|umount2|getdents64|fcntl|newfstatat|openat|write|close|statx|readlink)\(.*(kept|/proc/self/fd/)",
        process="parent",
        plan="Host, persist",
    ),
    Rule("which namespaces the host got", "note_namespaces", r"(openat|statx)\(.*/ns\b", process="parent", plan="Host"),
    Rule(
        "what a host is told by, and its name",
        "init",
        r"(socket|bind|pidfd_open|openat)\(",
        process="parent",
        plan="Host",
    ),
    Rule(
        "the init's program",
        "init",
        r"memfd_create\(|write\(\d+</memfd:nslab-init",
        process=CALLER,
        plan="(?!.*join time)",
    ),
    Rule("what is left there is of no use any more", SAME, r"recvfrom\(", process=CALLER),
    Rule(
        "the program in between, or the init's, whichever is written first",
        "init|setns",
        r"memfd_create\(|write\(\d+</memfd:nslab-init",
        process=CALLER,
        plan=".*join time, init",
    ),
    Rule(
        "the program in between",
        "setns",
        r"(memfd_create|pipe2|fcntl|ioctl|write|read)\(",
        process=CALLER,
        plan=".*join time",
    ),
    # Everything else.
    Rule("a step of the child, or of a process on its way", STEP, process="(?!parent|keeper).*"),
    Rule("before the clone, or the clone", "clone", process=CALLER),
]
