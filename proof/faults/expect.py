"""What must come of a fault: the step to which each call belongs, and where something else than its error is right."""

from __future__ import annotations

import dataclasses
import re
from errno import errorcode

from .cells import HELPERS, Cell
from .rules import HOST_ENDED, RULES, SAME, STEP, Rule
from .supervisor import Outcome

# The step of each call of a child, an init or a process in between; the first that matches.
STEPS = [
    (r"unshare\(CLONE_FILES\)", "unshare_files"),
    (r"unshare\(CLONE_NEW", "unshare"),
    (r"clone3?\(", "clone"),
    (r'\w+\(.*/(uid_map|gid_map|setgroups|timens_offsets)[">]', r"\1"),
    (r"futex\(", "await_maps"),
    (r'mount\("none"', "propagation"),
    (r'mount\("proc"', "mount_proc"),
    # What becomes of the last step of an init: its descriptors in order, then its own program.
    (r"dup3\(\d+<(/memfd:nslab-init|pipe:\[\d+\]>, 4|socket:\[\d+\]>, 0)|fcntl\(.*F_DUPFD|close_range\(5,", "init"),
    (r'execveat\(3<|chdir\("/"|rt_sigaction\(SIGCHLD, \{sa_handler=SIG_IGN|prctl\(PR_SET_NAME|write\(4<pipe', "init"),
    (r"rt_sigprocmask\(SIG_SETMASK, ~\[\], NULL", "init"),
    (r"socket\(AF_INET|ioctl\(.*SIOC[GS]IFFLAGS|close\(\d+<socket", "loopback"),
    (r"(sethostname|setdomainname|chdir|umask|setsid)\(", r"\1"),
    (r"ioctl\(\d+<anon_inode:\[pidfd\]>|name_to_handle_at\(|newfstatat\(", "note_namespaces"),
    (r"prctl\(PR_SET_PDEATHSIG|ppoll\(", "pdeathsig"),
    (r"getpid\(|pidfd_open\(|sendmsg\(", "send_pidfd"),
    (r"setgroups\(", "extra_groups"),
    (r"setregid\(", "setgid"),
    (r"setreuid\(", "setuid"),
    (r"rt_sigaction\(SIG(PIPE|XFSZ), \{sa_handler=SIG_DFL", "restore_signals"),
    (r"rt_sigaction\(", "clear_sighand"),
    (r"dup3\(", "stdio"),
    # To enter a time namespace, by the program in between.
    (r"(execveat|setns|capget|capset|prctl|write|close)\(|fcntl\(\d+<(?!/dev/null).*F_SETFD", "setns"),
    (r"close_range\(", "close_fds"),
    (r"rt_sigprocmask\(", "sigmask"),
    (r"fcntl\(", "pass_fds"),
    (r"execve\(", "execve"),
]


def rule(cell: Cell) -> Rule:
    return next(rule for rule in RULES if rule.covers(cell))


def step(cell: Cell) -> str:
    if cell.fault.process in HELPERS:
        return cell.fault.process
    for pattern, name in STEPS:
        if found := re.match(pattern, cell.call):
            return found.expand(name)
    return "?"


def described(outcome: Outcome, base: Outcome) -> str:
    """Put into a few words what came of a cell."""
    if outcome.trouble:
        return outcome.trouble
    result = outcome.result
    if "error" not in result:
        if outcome.program == base.program and outcome.ended == base.ended:
            return SAME
        if outcome.program is None and isinstance(outcome.ended, int):
            return f"ended {outcome.ended}"
        if outcome.program is None and "ProcessLookupError" in str(outcome.ended):
            return HOST_ENDED
        return f"differs in {', '.join(differing(outcome, base))}"
    if result["error"].startswith("Spawn"):
        why = f"SIG{result['signal']}" if result["errno"] is None else errorcode[result["errno"]]
        return f"{result['step']} {why}"
    return f"{result['error']}: {result['text']}"


def differing(outcome: Outcome, base: Outcome) -> list[str]:
    theirs, ours = base.program or {}, outcome.program or {}
    names = [name for name in theirs if ours.get(name) != theirs[name]]
    return names if outcome.ended == base.ended else [*names, "end"]


def wanted(cell: Cell, rule: Rule, base: Outcome) -> list[str]:
    """Say what is expected, in the words of `described`."""
    return [_wanted(cell, rule, expected, base) for expected in rule.expected.split("|")]


def _wanted(cell: Cell, rule: Rule, expected: str, base: Outcome) -> str:
    if " " in expected and expected != STEP:
        return expected
    if expected == SAME:
        return described(base, base)
    name = step(cell) if expected == STEP else expected
    if cell.fault.how == "KILL" and not rule.errno:
        return f"{name} SIG9"
    errno = rule.errno or cell.fault.how
    return f"{'clone' if errno in ('EMFILE', 'ENFILE') else name} {errno}"


@dataclasses.dataclass
class Verdict:
    """What came of a cell, and whether it is right."""

    rule: Rule
    found: str
    failure: str = ""


def judge(cell: Cell, outcome: Outcome, base: Outcome) -> Verdict:
    """Compare what came of a cell with what its rule expects."""
    covering = rule(cell)
    found, expected = described(outcome, base), wanted(cell, covering, base)
    problems = []
    if not outcome.reached:
        if not covering.races:
            problems.append("the call was not made")
    elif found not in expected and not (SAME in expected and allowed(outcome, base, covering)):
        problems.append(f"{found} instead of {' or '.join(expected)}")
    problems += unexplained(outcome, covering)
    again = outcome.again
    if again and base.again and not outcome.trouble:
        after = described(again, base.again)
        if after != described(base.again, base.again) and not covering.changed:
            problems.append(f"afterwards {after}")
        problems += unexplained(again, covering)
    return Verdict(covering, found, "; ".join(problems))


def allowed(outcome: Outcome, base: Outcome, covering: Rule) -> bool:
    """Whether it differs from what runs without a fault only in what may differ."""
    same = "error" not in outcome.result and not outcome.trouble
    return same and all(re.fullmatch(covering.differs, what) for what in differing(outcome, base))


def unexplained(outcome: Outcome, covering: Rule) -> list[str]:
    """Return what is left behind, or changed, that may not be."""
    changes = outcome.changed.items()
    return [
        f"{what} {before} -> {after}" for what, (before, after) in changes if not re.fullmatch(covering.changed, what)
    ]
