"""The cells of the matrix: every call of every process of a plan, with every errno that fits it, and with SIGKILL."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

from .calls import Call
from .plans import Plan
from .supervisor import Fault

# What cannot fail, or has done what it was asked for whatever it answers: no filter refuses what nobody can do without.
UNREFUSED = (
    r"(arch_prctl|brk|close|exit(_group)?|futex|get(pid|tid|uid|gid|euid|egid)|munmap|restart_syscall|rseq|"
    r"rt_sigreturn|set_robust_list|set_tid_address|wait(4|id))\("
)
# The errnos that fit a call, by its manual page; EPERM also fits as the answer of a seccomp filter.
FITTING = {
    "EPERM": rf"(?!{UNREFUSED})",
    "ENOMEM": (
        r"(clone3?|execve(at)?|memfd_create|mmap|mount|mprotect|openat|pipe2|ppoll|pidfd_open|recvmsg|sendmsg|setgroups|"
        r"setns|socket(pair)?|unshare|write|name_to_handle_at|newfstatat|mkdir|sethostname|setdomainname|umount2)\("
        r"|fcntl\(.*F_DUPFD|ioctl\("
    ),
    "EINTR": (
        r"(connect|dup[23]|openat|read|recvmsg|recvfrom|sendmsg|sendto|wait4|write)\(|(waitid|ppoll)\((?!.*WNOHANG)"
        r"|futex\(.*FUTEX_WAIT"
    ),
    "EMFILE": (
        r"(clone3?|dup[23]|memfd_create|openat|open_by_handle_at|pidfd_open|pipe2|recvmsg|socket(pair)?|unshare)\("
        r"|fcntl\(.*F_DUPFD|ioctl\(\d+<anon_inode:\[pidfd\]>"
    ),
    "ENOSPC": r"(clone3?|mount|setns|unshare|write|mkdir)\(",
    # Kernels and filters without the call, for which there is another way.
    "ENOSYS": r"(clone3|close_range|execveat|memfd_create|name_to_handle_at|pidfd_open|open_by_handle_at|statx)\(",
}
# Programs that are followed after their execve: our own, until they rest; and the helpers, of which two faults will do.
OURS = re.compile(r"execveat\(\d+<[^>]*>\(deleted\)")
RESTS = ("wait4", "ppoll")
HELPERS = ("newuidmap", "newgidmap")
OF_HELPERS = ("EPERM", "KILL")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One fault in one plan."""

    plan: Plan
    fault: Fault
    #: The call, as strace prints it.
    call: str

    @property
    def name(self) -> str:
        return self.call.partition("(")[0]


def cells(plan: Plan, traced: list[tuple[str, Call]]) -> list[Cell]:
    """Return the cells of a plan from the calls of its processes."""
    found = []
    seen: Counter[tuple[str, int]] = Counter()
    runs: dict[str, str] = {}
    for process, call in traced:
        if "FUTEX_WAKE" in call.text:
            continue
        seen[process, call.number] += 1
        program = runs.get(process, "none")
        if program == "another":
            continue
        fitting = [how for how in faults(process, call) if program != "helper" or how in OF_HELPERS]
        n = seen[process, call.number]
        found += [Cell(plan, Fault(process, call.number, n, how), call.text) for how in fitting]
        if call.name.startswith("execve") and not call.failed:
            runs[process] = "ours" if OURS.match(call.text) else "helper" if process in HELPERS else "another"
        elif program == "ours" and call.name in RESTS:
            runs[process] = "another"
    return found


def faults(process: str, call: Call) -> list[str]:
    fitting = [errno for errno, calls in FITTING.items() if re.match(calls, call.text)]
    may_die = process not in ("parent", "keeper") and call.name != "exit_group"
    return [*fitting, "KILL"] if may_die else fitting
