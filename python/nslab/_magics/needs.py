"""``%ns needs``: a lesson says what it takes, and a machine that refuses it explains instead of failing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

import nslab

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_NAMES = {str(member.name).lower() for member in nslab.Namespace}


def needs(shell: InteractiveShell, words: Sequence[str]) -> None:
    """Skip the cells below, with a sentence, if one of these namespaces or programs is not to be had here."""
    if not words:
        raise UsageError("usage: %ns needs NAMESPACE or PROGRAM ...")
    found = nslab.probe([word for word in words if word in _NAMES])
    lacks = [f"no {name} namespace can be made here: {probe.reason}" for name, probe in found.items() if not probe.ok]
    lacks += [f"there is no program {word}" for word in words if word not in _NAMES and not shutil.which(word)]
    transformers = shell.input_transformers_cleanup
    transformers[:] = [one for one in transformers if not isinstance(one, _Skip)]
    if lacks:
        print(f"This machine cannot show it: {'; '.join(lacks)}.")
        print("`%ns doctor` says what helps. The cells below are skipped; what they would show is in the text.")
        transformers.append(_Skip())


class _Skip:
    """Replaces every cell but one that asks again."""

    def __call__(self, lines: list[str]) -> list[str]:
        if any(line.lstrip().startswith(("%ns needs", "%ns doctor", "%load_ext", "%reload_ext")) for line in lines):
            return lines
        return ["print('skipped')\n"]
