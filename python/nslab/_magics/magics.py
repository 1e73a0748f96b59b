"""``%%ns`` and ``%ns``: a cell in new Linux namespaces, and what is to be seen of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.utils.process import arg_split  # type: ignore[attr-defined]

import nslab

from . import views
from .brief import brief
from .cell import Cell, command
from .needs import needs
from .screen import Screen
from .words import Words, parse, parser, usage_error

_STREAMS = ("stdout", "stderr")


@magics_class
class NamespaceMagics(Magics):
    """The two magics, and the last child they made."""

    shell: Any

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self.last: Any = None
        self._background: list[Cell] = []

    @cell_magic("ns")  # type: ignore[arg-type]
    def run_cell(self, line: str, cell: str) -> None:
        """Run a cell; the help of the parser comes here, below."""
        words = parse(arg_split(line, posix=True), self.shell.user_ns)
        if not cell.strip():
            raise UsageError("the cell is empty: the lines below %%ns are what is run")
        try:
            if words.shell is not None:
                self._in_shell(words, cell)
            else:
                self._in_child(words, cell)
        except nslab.SpawnError as error:
            hint = f" ({error.hint})" if error.hint else ""
            raise brief(error, f"{error}{hint}. `%ns doctor` shows what is possible here.") from None
        except (TypeError, ValueError) as error:
            usage_error(error)
        except nslab.ShellEndedError as error:
            raise brief(error) from None
        except (subprocess.SubprocessError, KeyboardInterrupt) as error:
            if words.raise_error:
                raise brief(error, _outcome(error)) from None
            if not isinstance(error, subprocess.CalledProcessError):
                print(_outcome(error), file=sys.stderr)

    @line_magic("ns")  # type: ignore[arg-type]
    def look(self, line: str) -> None:
        """Show a picture; the list of the words comes here, below."""
        words = arg_split(line, posix=True)
        if words[:1] == ["needs"]:
            needs(self.shell, words[1:])
            return
        if not words or words[0] not in views.VIEWS:
            raise UsageError(f"usage: %ns {'|'.join(views.VIEWS)} [variable or pid ...]")
        targets = [self._target(word) for word in words[1:]] or ([] if self.last is None else [self.last])
        try:
            views.VIEWS[words[0]].function(targets, words[1:])
        except (OSError, LookupError) as error:
            raise brief(error) from None

    def _target(self, word: str) -> Any:
        if word.isdecimal():
            return int(word)
        found = self.shell.user_ns.get(word)
        if not hasattr(found, "pid") and not hasattr(found, "added"):
            raise UsageError(f"{word} is neither a pid nor a variable with a process, nor with a diff of mounts")
        return found

    def _in_child(self, words: Words, script: str) -> None:
        flags, options = permitted(words.flags, words.options)
        if words.show:
            views.show(views.plan(nslab.plan(flags, words.program or command(script), **options)))
        # What runs in the background is nobody's, if it has no name: it must not become a zombie.
        self._background = [cell for cell in self._background if cell.poll() is None]
        child = self.last = Cell.start(flags, script, words.program, **options)
        if words.proc:
            self.shell.user_ns[words.proc] = child
        names = {"stdout": words.out, "stderr": words.err}
        if words.bg:
            for stream, name in names.items():
                if name:
                    self.shell.user_ns[name] = getattr(child, stream)
            self._background.append(child)
            child.background(*(stream for stream in _STREAMS if not names[stream]), timeout=words.timeout)
            return
        texts: dict[str, list[str]] = {stream: [] for stream in _STREAMS if names[stream]}
        self._store(names, texts)
        try:
            status = child.run(words.timeout, **{stream: taken.append for stream, taken in texts.items()})
        finally:
            self._store(names, texts)
            if child.poll() is None:  # an interrupt came before it was waited for
                child.end()
        if left := child.left():
            print(f"still running: {views.commands(left)} (their output: %ns show; end them: %ns kill)")
        if status:
            raise subprocess.CalledProcessError(status, script)

    def _in_shell(self, words: Words, script: str) -> None:
        assert words.shell is not None
        shell = self.shell.user_ns.get(words.shell)
        if shell is None or (words.flags and shell.poll() is not None):
            flags, options = permitted(words.flags, words.options)
            shell = self.shell.user_ns[words.shell] = nslab.shell(flags, **options)
        elif not isinstance(shell, nslab.Shell):
            raise UsageError(f"{words.shell} is a {type(shell).__name__}, not a shell of nslab.shell()")
        elif words.flags or words.options:
            raise UsageError(f"the shell {words.shell} has its namespaces already: leave the flags and options out")
        self.last = shell
        texts: list[str] = []
        screen = Screen()

        def show(text: str) -> None:
            screen.write("stdout", text)
            screen.flush_if_due()

        try:
            done = shell.run(script, timeout=words.timeout, output=texts.append if words.out else show)
        finally:
            screen.flush()
            self._store({"stdout": words.out}, {"stdout": texts})
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, script)

    def _store(self, names: dict[str, str | None], texts: dict[str, list[str]]) -> None:
        for stream, name in names.items():
            if name:
                self.shell.user_ns[name] = "".join(texts[stream])


def _outcome(error: BaseException) -> str:
    """Return what to say instead of the whole script, which the cell shows anyway."""
    if isinstance(error, subprocess.CalledProcessError):
        if error.returncode < 0:
            return f"the cell was ended by {signal.Signals(-error.returncode).name}"
        return f"the cell returned non-zero exit status {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"the cell was killed after {error.timeout} seconds"
    return str(error)


def permitted(flags: list[str], options: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return what this user can ask for: without privileges, the user namespace too, in which he is root."""
    if not flags or {"user", "all"} & set(flags) or "join" in options or views.privileged():
        return flags, options
    return ["user", *flags], {"map_root_user": True, **options}


# Magics show their docstring as help.
NamespaceMagics.run_cell.__doc__ = parser()[0].format_help().replace("usage: ", "::\n\n  ", 1)  # type: ignore[assignment]
NamespaceMagics.look.__doc__ = views.HELP  # type: ignore[assignment]
