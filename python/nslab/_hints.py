"""Why the kernel refuses here, and what helps: one row per confusing (step, errno), loaded only after a failure.

A row applies when its evidence is found; the first that applies wins, so the special ones stand above the general.
Sources: clone(2), user_namespaces(7), mount_namespaces(7), setns(2), execve(2), and the distributions' own switches.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ._errors import SpawnError

_CAP_SETGID = 1 << 6
_CAP_SETUID = 1 << 7
_CAP_SYS_ADMIN = 1 << 21


class Row(NamedTuple):
    """A refusal, the evidence that tells it from others, its reason and its remedy."""

    steps: str
    errnos: str
    applies: Callable[[str], bool]
    reason: str
    fix: str


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _sysctl(name: str) -> str:
    return _read("/proc/sys/" + name.replace(".", "/")).strip()


def _status(field: str) -> str:
    found = re.search(rf"^{field}:\s*(\S+)", _read("/proc/self/status"), re.MULTILINE)
    return found[1] if found else ""


def _capable(wanted: int) -> bool:
    return int(_status("CapEff") or "0", 16) & wanted == wanted


def _always(_: str) -> bool:
    return True


def _needs_user(detail: str) -> bool:
    return "CLONE_NEWUSER" not in detail and not _capable(_CAP_SYS_ADMIN)


def _seccomp(_: str) -> bool:
    return _status("Seccomp") == "2"


def _apparmor(_: str) -> bool:
    return _sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1"


def _masked_proc(_: str) -> bool:
    mounts = [line.split() for line in _read("/proc/self/mountinfo").splitlines()]
    return any(len(fields) > 4 and fields[4].startswith("/proc/") for fields in mounts)


def _is_directory(path: str) -> bool:
    return Path(path).is_dir()


def _exists(path: str) -> bool:
    return "/" in path and Path(path).exists()


def _not_executable(path: str) -> bool:
    return Path(path).is_file() and not os.access(path, os.X_OK)


_UBUNTU = (
    "AppArmor lets programs without a profile make a user namespace, but gives them no rights in it "
    "(kernel.apparmor_restrict_unprivileged_userns is 1, as on Ubuntu 23.10 and later)",
    "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with the rule `userns,`",
)
_SECCOMP = (
    "a seccomp filter is on, as in a container",
    "docker run --security-opt seccomp=unconfined (or --cap-add SYS_ADMIN), or a profile that allows the call",
)
_MASKED = "(docker run --security-opt systempaths=unconfined, podman run --security-opt unmask=ALL)"
_IN_USER = "uid_map gid_map setgroups timens_offsets propagation mount_proc loopback sethostname setdomainname unshare"

ROWS = [
    Row("clone unshare", "EPERM", _needs_user, "without CAP_SYS_ADMIN only a user namespace can be made",
        'add "user" to the flags, and map_root_user=True'),
    Row("clone", "EPERM", lambda _: _sysctl("kernel.unprivileged_userns_clone") == "0",
        "kernel.unprivileged_userns_clone is 0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    Row("clone unshare unshare_files setns", "EPERM", _seccomp, *_SECCOMP),
    Row("clone", "EPERM", _always,
        "the kernel makes no user namespace inside a chroot, nor for a caller whose ids have no mapping in its own",
        "leave the chroot, or map the caller's ids"),
    Row("clone", "EAGAIN", _always,
        "the limit on processes is reached: RLIMIT_NPROC or the cgroup's pids.max",
        "raise it: ulimit -u, systemd's TasksMax=, docker run --pids-limit"),
    Row("clone", "EMFILE", _always, "this process has no free file descriptor (RLIMIT_NOFILE)",
        "close some, or raise the limit: ulimit -n"),
    Row("clone", "ENFILE", _always, "the machine has no free file handle (fs.file-max)", "sysctl -w fs.file-max=…"),
    Row("clone", "ENOMEM", _always,
        "out of memory, or this thread has called unshare(CLONE_NEWPID) and the init of that namespace has ended",
        "do not unshare in this process: give the flag to spawn instead"),
    Row("clone unshare", "EINVAL", _always, "this kernel lacks one of the namespaces (time needs Linux 6.2 here)",
        "`nslab doctor` shows which; leave it out of the flags"),
    Row("clone", "ENOSYS", _always, "neither clone3(2) nor clone(2) is allowed here", _SECCOMP[1]),
    Row(_IN_USER, "EPERM EACCES", _apparmor, *_UBUNTU),
    Row("uid_map gid_map setgroups timens_offsets", "EACCES", lambda _: _status("CapEff") == "0" * 16,
        "the files in /proc belong to root while this process is not dumpable (it has changed its ids)",
        "prctl(PR_SET_DUMPABLE, 1), see prctl(2)"),
    Row("uid_map gid_map", "EPERM", lambda _: _capable(_CAP_SETUID | _CAP_SETGID),
        "each range must lie within one line of the caller's own map",
        "compare with /proc/self/uid_map and gid_map"),
    Row("gid_map", "EPERM", _always,
        "without CAP_SETGID only the caller's own group can be mapped, and only with setgroups denied",
        'setgroups="deny", or install newgidmap (package uidmap) and give the user a range in /etc/subgid'),
    Row("uid_map", "EPERM", _always, "without CAP_SETUID only the caller's own user id can be mapped",
        "install newuidmap (package uidmap) and give the user a range in /etc/subuid, or map_root_user=True"),
    Row("setgroups", "EPERM", _always, "setgroups cannot be allowed again once it is denied, nor denied after gid_map",
        'leave it out, or setgroups="deny"'),
    Row("newuidmap newgidmap", "EPERM", _always, "the helper takes only ids that /etc/subuid and /etc/subgid give",
        "add a range there: usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER"),
    Row("mount_proc", "EPERM", _masked_proc,
        "parts of /proc are masked by other mounts, as in a container, and the kernel shows no more in a new one",
        f"unmask it {_MASKED}"),
    Row("mount_proc", "EPERM", _always,
        "a new proc needs a visible, unmasked proc in the mount namespace, and rights over the pid namespace",
        f"mount /proc, or unmask it {_MASKED}"),
    Row("mount_proc", "ENOENT ENOTDIR", _always, "the mount point must be a directory that exists", "make it first"),
    Row("propagation mount_proc sethostname setdomainname loopback timens_offsets", "EPERM EACCES",
        _seccomp, *_SECCOMP),
    Row("propagation", "EINVAL", _always, "/ is not a mount point, as in a chroot", 'propagation="unchanged"'),
    Row("timens_offsets", "EPERM", _always, "setting clocks needs CAP_SYS_TIME in the owning user namespace",
        'add "user" to the flags, and map_root_user=True'),
    Row("timens_offsets", "ERANGE", _always, "a clock may be neither negative nor beyond about 146 years",
        "take an offset nearer to 0"),
    Row("sethostname setdomainname loopback", "EPERM", _always,
        "the namespace belongs to a user namespace without rights",
        'add "user" to the flags, and map_root_user=True'),
    Row("bind", "EPERM", _always, "mounting needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace",
        "be root there, or hold the namespace open instead: NamespaceId.open()"),
    Row("bind", "EINVAL", _always, "a mount namespace can be bound in an older one only (by the "
        "kernel's number of it, which Linux 6.18 takes from the CPU it was made on), never in itself",
        "leave mnt out of kinds, call persist where the older one is, or make it once more"),
    Row("init", "EACCES", _always,
        "vm.memfd_noexec is 2, and every directory for temporary files is on a mount with noexec",
        "sysctl -w vm.memfd_noexec=1, or TMPDIR=… where programs may be executed"),
    Row("setns", "EINVAL", _always, "not a namespace file or pidfd, or the user namespace the caller is in already",
        "leave the caller's own user namespace out of join"),
    Row("setns", "EPERM", _always, "joining needs CAP_SYS_ADMIN in the namespace's owner and in the caller's own",
        "join the owning user namespace together with it, or be root there"),
    Row("setns", "ESRCH", _always, "the process has ended", "hold its namespaces open: NamespaceId.open()"),
    Row("setns", "EBADF", _always, "join got a number that is no open descriptor", "an int must be an fd, never a pid"),
    Row("open_ns", "ESRCH", _always, "no process that may be inspected is in this namespace any more",
        "hold it open: NamespaceId.open()"),
    Row("open_ns", "EACCES EPERM", _always, "another user's namespaces can be opened only with CAP_SYS_PTRACE",
        "be root in the user namespace of that process"),
    Row("extra_groups", "EPERM", _always, "setting groups needs CAP_SETGID, and setgroups not denied",
        'map_groups with setgroups="allow", or leave extra_groups out'),
    Row("setuid setgid extra_groups", "EINVAL", _always, "this id has no mapping in the new user namespace",
        "add it to map_users or map_groups"),
    Row("setuid setgid", "EPERM", _always, "changing ids needs CAP_SETUID and CAP_SETGID", "be root, or root inside"),
    Row("mmap", "ENOMEM", _always, "no memory for the child's stack (RLIMIT_AS?)", "ulimit -v"),
    Row("execve", "ENOENT", _exists, "the file exists, but its interpreter (the #! line, or the ELF loader) does not",
        "look at its first line, or at `file PROGRAM`"),
    Row("execve", "ENOEXEC", _always, "neither an ELF program nor a script that begins with #!",
        'add a #! line, or run it with a shell: ["sh", PROGRAM]'),
    Row("execve", "EACCES", _is_directory, "a directory is no program", "name a file in it"),
    Row("execve", "EACCES", _not_executable, "the file has no execute permission", "chmod +x, or name its interpreter"),
    Row("execve", "EACCES", _always, "not executable here: a directory on the way is closed to this user, or noexec",
        "namei -l PROGRAM shows the way"),
    Row("execve", "E2BIG", _always,
        "one argument may have 131 071 bytes, all with the environment ¼ of the stack limit",
        "pass the data by a file or by standard input"),
    Row("execve", "ETXTBSY", _always, "somebody has the program open for writing", "close it first"),
]  # fmt: skip


def diagnose(step: str, errno: int, detail: str) -> tuple[str, str] | None:
    """Return (reason, fix) for a refused step, or None where the errno says it all."""
    import errno as errnos

    name = errnos.errorcode.get(errno, "")
    if step in ("clone", "unshare") and name == "ENOSPC":
        return _limits(detail)
    for row in ROWS:
        if step in row.steps.split() and name in row.errnos.split() and row.applies(detail):
            return row.reason, row.fix
    return None


def _limits(detail: str) -> tuple[str, str]:
    """Say which limit ENOSPC means: its text, "No space left on device", misleads."""
    from ._core import table

    kinds = [row[0] for row in table() if re.search(rf"\b{row[2]}\b", detail)]
    names = [f"user.max_{kind}_namespaces" for kind in kinds]
    zero = [name for name in names if _sysctl(name) == "0"]
    if zero:
        return f"{', '.join(zero)} is 0: no such namespace may be made", f"sudo sysctl -w {zero[0]}=10000"
    return (
        f"a limit is reached: {', '.join(names)}, here or in an ancestor, or 32 levels of user or pid namespaces",
        "end some, wait for the kernel to clean up, or raise the sysctl",
    )


def explain(error: SpawnError) -> None:
    """Give the exception its hint."""
    if error.errno is None:
        return
    found = diagnose(error.step, error.errno, error.detail)
    if found:
        error.hint = "; ".join(found)
