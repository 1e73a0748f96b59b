"""The command: every verb, its exit statuses, and what the keyboard does."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from commands import COMMAND, command, on_terminal, output, usage_error
from conftest import ROOT, sh

import nslab

# What an ordinary user needs for any other namespace.
AS_ROOT = [] if ROOT else ["-r"]
PACKAGE = Path(nslab.__file__).parent


# ---------------------------------------------------------------------------------------------------------------- run


@pytest.mark.unprivileged
@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
        (["--wd", "/nonexistent", "true"], 125),
        (["--join", "/proc/self/ns/nothing", "true"], 125),
        (["/etc/passwd"], 126),
        (["/"], 126),
        (["no-such-program"], 127),
        (["/nonexistent/program"], 127),
        (["--timeout", "0.05", "sleep", "60"], 124),
        (["--timeout", "60", "sh", "-c", "exit 3"], 3),
    ],
)
def test_exit_status(words: list[str], status: int) -> None:
    done = command("run", *words)
    assert done.returncode == status
    assert "Traceback" not in done.stderr


@pytest.mark.unprivileged
def test_a_refusal_is_one_line_and_a_hint() -> None:
    plain = command("run", "no-such-program").stderr.splitlines()
    assert len(plain) == 1
    assert re.match(r"nslab: .*execve.*No such file or directory.*no-such-program", plain[0])
    message, hint = command("run", "/etc/passwd").stderr.splitlines()
    assert "Permission denied" in message
    assert hint.startswith("hint: ")


@pytest.mark.unprivileged
@pytest.mark.parametrize("name", ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"])
def test_every_namespace_has_the_switches_of_unshare(name: str) -> None:
    long = "--mount" if name == "mnt" else f"--{name}"
    short = {"cgroup": "-C", "time": "-T", "user": "-U"}.get(name, f"-{name[0]}")
    unshare = subprocess.run(["unshare", "--help"], capture_output=True, text=True, check=True).stdout
    assert re.search(rf"{short}, {long}\b", unshare)
    for switch in (long, short):
        inside = output("run", *AS_ROOT, switch, "readlink", f"/proc/self/ns/{name}")
        assert re.fullmatch(rf"{name}:\[\d+\]", inside)
        assert inside != os.readlink(f"/proc/self/ns/{name}")


@pytest.mark.unprivileged
def test_no_switch_is_no_namespace() -> None:
    assert output("run", "readlink", "/proc/self/ns/uts") == os.readlink("/proc/self/ns/uts")


@pytest.mark.unprivileged
def test_all_options_together() -> None:
    words = ["--all", "-r", "--mount-proc", "--hostname", "lab", "--domainname", "home", "--loopback"]
    words += ["--monotonic", "60", "--boottime", "-1.5", "--propagation", "slave", "--wd", "/", "--kill-child"]
    script = "echo $$ $(uname -n) $(cat /proc/sys/kernel/domainname) $(id -u) $PWD; cat /proc/self/timens_offsets"
    pid, *rest = output("run", *words, "sh", "-c", script).split()
    assert (pid, rest) == ("1", ["lab", "home", "0", "/", "monotonic", "60", "0", "boottime", "-2", "500000000"])


@pytest.mark.unprivileged
def test_switches_cluster_as_unshares_do() -> None:
    # -f has to be given to unshare(1), so habit gives it here too.
    assert output("run", "-Urfpm", "--mount-proc", "sh", "-c", "echo $$") == "1"
    assert output("run", "-Urw/", "pwd") == "/"


@pytest.mark.unprivileged
def test_a_value_that_may_be_left_out_does_not_take_the_program() -> None:
    # argparse alone would mount the new proc on "echo".
    assert output("run", *AS_ROOT, "-p", "--mount-proc", "echo", "-n", "x") == "x"
    assert output("run", *AS_ROOT, "-p", "--mount-proc=/proc", "echo", "x") == "x"
    assert output("run", "--kill-child", "echo", "x") == "x"


@pytest.mark.unprivileged
def test_the_programs_own_options_are_its_own() -> None:
    assert output("run", "echo", "-u", "--uts", "--", "--json") == "-u --uts -- --json"
    assert output("run", "--", "printf", "%s", "-h") == "-h"


@pytest.mark.unprivileged
def test_without_a_program_the_shell_of_the_user() -> None:
    env = {**os.environ, "SHELL": "/bin/echo"}
    assert output("run", env=env) == ""
    done = command("run", env={**os.environ, "SHELL": ""}, input="exit 5")
    assert done.returncode == 5


@pytest.mark.unprivileged
def test_a_map_implies_the_user_namespace_and_a_proc_the_mount_namespace() -> None:
    assert output("run", "-r", "id", "-u") == "0"
    assert output("run", "-c", "id", "-u") == str(os.geteuid())
    flags = json.loads(output("plan", "--json", "-r", "-p", "--mount-proc", "true"))["flags"]
    assert sorted(flags) == ["mnt", "pid", "user"]


def test_ranges_of_ids() -> None:
    words = ["--map-users", "0:100000:1000", "--map-users", "5000:200000:1", "--map-groups=0:100000:1000"]
    uid_map = output("run", *words, "--setuid", "0", "--setgid", "0", "cat", "/proc/self/uid_map").split()
    assert uid_map == ["0", "100000", "1000", "5000", "200000", "1"]


@pytest.mark.unprivileged
def test_join_a_namespace_by_its_file() -> None:
    flags, options = ("uts", {}) if ROOT else ("user uts", {"map_root_user": True})
    with nslab.spawn(flags, ["cat"], hostname="lab", stdin=nslab.PIPE, **options) as child:  # type: ignore[arg-type]
        files = ["uts"] if ROOT else ["user", "uts"]
        words = [word for kind in files for word in ("--join", f"/proc/{child.pid}/ns/{kind}")]
        assert output("run", *words, "uname", "-n") == "lab"


@pytest.mark.unprivileged
def test_standard_streams_are_the_callers() -> None:
    done = command("run", "sh", "-c", "cat; echo err >&2", input="in")
    assert (done.stdout, done.stderr) == ("in", "err\n")


@pytest.mark.unprivileged
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the following arguments are required: VERB"),
        (["walk"], "invalid choice: 'walk'"),
        (["run", "--bogus", "true"], "nslab run: error: unrecognized arguments: --bogus"),
        (["run", "--hostname", "x", "true"], "error: --hostname needs the uts namespace (add --uts)"),
        (["run", "-u", "--hostname", "x" * 65, "true"], "64"),
        (["run", "-m", "--mount-proc", "true"], "(add --pid)"),
        (["run", "-p", "--kill-child=TERM", "true"], "(use --kill-child)"),
        (["run", "-S", "nobody-at-all", "true"], "name not found: 'nobody-at-all'"),
        (["plan", "-G", "99999999999", "true"], "out of range"),
        (["run", "-S", "4294967295", "true"], "4294967295 is no id"),
        (["run", "-m", "--propagation", "public", "true"], "invalid choice: 'public'"),
        (["run", "--map-users", "1:2", "true"], "'1:2' is neither INSIDE:OUTSIDE:COUNT nor auto"),
        (["run", "--map-users", "0:0:1", "--map-users", "auto", "true"], "either 'auto' or ranges"),
        (["run", "-T", "--monotonic", "soon", "true"], "'soon' is not a number of seconds"),
        (["run", "--kill-child=SIGNOTHING", "true"], "'SIGNOTHING' is not a signal"),
        (["run", "--timeout", "soon", "true"], "must be a number of seconds above 0, not 'soon'"),
        (["run", "--timeout", "nan", "true"], "must be a number of seconds above 0, not 'nan'"),
        (["run", "--timeout"], "expected one argument"),
        (["plan", "--loopback", "true"], "(add --net)"),
        (["plan", "--c", "--json", "true"], "not allowed with"),
        (["doctor", "--for", "usr"], "did you mean 'user'?"),
        (["tour", "uts", "nuts"], "no experiment 'nuts'"),
    ],
)
def test_usage_errors(words: list[str], sentence: str) -> None:
    assert sentence in usage_error(*words)


# ------------------------------------------------------------------------------------------------------- the keyboard


@pytest.mark.unprivileged
def test_interrupt_belongs_to_the_program() -> None:
    said, status = on_terminal("run", "sh", "-c", "echo ready; exec sleep 60", ready=b"ready", keys=b"\x03")
    assert status == 128 + signal.SIGINT
    assert b"Traceback" not in said


@pytest.mark.unprivileged
def test_a_program_that_handles_interrupts_lives_as_long_as_it_wants() -> None:
    script = "trap 'n=$((n + 1)); echo got $n; test $n -lt 4 || exit 9' INT; echo ready; while :; do read line; done"
    said, status = on_terminal("run", *AS_ROOT, "-p", "--kill-child", "sh", "-c", script, ready=b"ready", keys=b"\x03")
    assert b"got 4" in said
    assert status == 9


@pytest.mark.unprivileged
def test_an_init_that_ignores_interrupts_is_killed_by_the_second() -> None:
    words = ["run", *AS_ROOT, "-p", "--kill-child", "sh", "-c", "echo ready; exec sleep 60"]
    said, status = on_terminal(*words, ready=b"ready", keys=b"\x03")
    assert status == 128 + signal.SIGKILL
    assert b"Traceback" not in said


@pytest.mark.unprivileged
def test_sigterm_is_passed_on() -> None:
    argv = [*COMMAND, "run", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait() == 9


@pytest.mark.unprivileged
def test_an_ignored_interrupt_stays_ignored() -> None:
    # As a shell without job control starts what it puts into the background.
    script = f"trap '' INT; exec {' '.join(COMMAND)} run grep SigIgn /proc/self/status"
    status, said = sh(0, script)
    assert status == 0
    assert int(said.split()[1], 16) >> (signal.SIGINT - 1) & 1


# --------------------------------------------------------------------------------------------------------------- plan


@pytest.mark.unprivileged
def test_plan_prints_what_the_api_says_and_does_nothing() -> None:
    words = ["-U", "-r", "-u", "--hostname", "lab", "/nonexistent/program"]
    plan = nslab.plan("user uts", ["/nonexistent/program"], map_root_user=True, hostname="lab")
    said = output("plan", *words).splitlines()
    # The environment is another's: the number of its variables is in the line of execve.
    assert said[:-1] == str(plan).splitlines()[:-1]
    assert said[-1].startswith('child   execve("/nonexistent/program"')


@pytest.mark.unprivileged
def test_plan_as_json() -> None:
    plan = nslab.plan("uts", ["true", "x"], hostname="lab")
    found = json.loads(output("plan", "--json", "--uts", "--hostname", "lab", "true", "x"))
    assert (found["flags"], found["argv"]) == (["uts"], ["true", "x"])
    assert [step["name"] for step in found["steps"]] == [step.name for step in plan.steps]
    assert found["steps"][0] == plan.steps[0]._asdict()


@pytest.mark.unprivileged
def test_plan_as_unshare_and_as_c() -> None:
    plan = nslab.plan("uts", ["true"])
    assert output("plan", "--unshare", "-u", "true") == plan.unshare_command()
    assert "unshare --uts" in plan.unshare_command()
    assert output("plan", "--c", "-u", "true") == plan.c_source().rstrip("\n")
    assert "CLONE_NEWUTS" in plan.c_source()


# ------------------------------------------------------------------------------------------------------------- doctor


@pytest.mark.unprivileged
def test_doctor_finds_what_is_possible() -> None:
    found = json.loads(output("doctor", "--json"))
    assert sorted(found) == sorted(nslab.probe())
    assert all(row["ok"] for row in found.values())
    lines = output("doctor").splitlines()
    assert [line.split()[:2] for line in lines[:8]] == [[name, "yes"] for name in sorted(found)]


@pytest.mark.unprivileged
def test_doctor_says_why_not() -> None:
    # The limits are each user namespace's own.
    refuse = "echo 0 > /proc/sys/user/max_net_namespaces && exec"
    words = [*COMMAND, "doctor", "--for", "'net uts'"]
    status, said = sh("user", f"{refuse} {' '.join(words)}", map_root_user=True)
    assert status == 1
    net, *_, summary = said.splitlines()
    assert re.match(r"net  no   clone: ENOSPC: .*user.max_net_namespaces is 0", net)
    assert "1 of 2 possible" in summary
    status, said = sh("user", f"{refuse} {' '.join(words)} --json", map_root_user=True)
    found = json.loads(said)
    assert status == 1
    assert (found["net"]["ok"], found["net"]["step"], found["uts"]["ok"]) == (False, "clone", True)
    assert found["net"]["fix"]


# ---------------------------------------------------------------------------------------------------------- the whole


@pytest.mark.unprivileged
def test_help_and_version() -> None:
    assert output("--version") == f"nslab {nslab.__version__}"
    for verb in ("run", "plan", "doctor", "tour"):
        assert verb in output("--help")
        assert output(verb, "--help").startswith(f"usage: nslab {verb} ")


@pytest.mark.unprivileged
def test_a_reader_that_goes_away() -> None:
    status, said = sh(0, f"{{ {' '.join(COMMAND)} plan --all -r true; echo $? >&2; }} | true")
    assert (status, said) in [(0, "141"), (0, "0")]  # 0 where all was written before the reader went


@pytest.mark.unprivileged
def test_a_refusal_keeps_the_kernels_words_and_the_users() -> None:
    done = command("run", "-r", "-p", "--mount-proc=/nonexistent/map_users", "true")
    said = "nslab: [Errno 2] mount_proc: No such file or directory: '/nonexistent/map_users'"
    assert (done.returncode, done.stderr.splitlines()[0]) == (125, said)


@pytest.mark.unprivileged
def test_a_terminal_without_the_characters() -> None:
    done = command("show", str(os.getpid()), env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "?" in done.stdout


@pytest.mark.unprivileged
def test_without_a_standard_output() -> None:
    assert sh(0, f"{' '.join(COMMAND)} hosts >&-") == (0, "")
    status, said = sh(0, f"{' '.join(COMMAND)} ls --svg /nonexistent/x.svg >&-")
    assert (status, said) == (1, "nslab: [Errno 2] No such file or directory: '/nonexistent/x.svg'")


@pytest.mark.unprivileged
def test_output_that_cannot_be_written() -> None:
    status, said = sh(0, f"{' '.join(COMMAND)} tour pid > /dev/full")
    assert (status, said) == (1, "nslab: [Errno 28] No space left on device")
    assert sh(0, f"{' '.join(COMMAND)} tour pid >&-") == (0, "")


@pytest.mark.unprivileged
def test_colours_only_on_a_terminal() -> None:
    assert "\033" not in output("tour", "pid")
    assert b"\033[" in on_terminal("tour", "pid", TERM="xterm", NO_COLOR="")[0]
    assert b"\033[" not in on_terminal("tour", "pid", TERM="xterm", NO_COLOR="1")[0]


def test_the_command_imports_the_public_package_only() -> None:
    for path in [PACKAGE / "__main__.py", *(PACKAGE / "_cli").glob("*.py"), *(PACKAGE / "experiments").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = path.parent.joinpath(*[".."] * (node.level - 1))
                assert folder.name in ("_cli", "experiments") or node.module == "_cli", ast.unparse(node)
            elif isinstance(node, ast.ImportFrom | ast.Import):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                assert not any(name.startswith("nslab._") for name in names), ast.unparse(node)
