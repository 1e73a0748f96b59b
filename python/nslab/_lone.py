"""A thread that runs at most once, whatever interrupts its start."""

from __future__ import annotations

import _thread
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class LoneThread:
    """A daemon thread. Of `threading.Thread` nobody knows, after its start was interrupted, whether it runs."""

    def __init__(self, name: str) -> None:
        self._name = name
        # Who it is, or that there will be none: asked and answered in one call of C, so nothing comes in between.
        self._who: dict[str, threading.Thread | None] = {}

    def start(self, run: Callable[[], object]) -> None:
        """Have it call ``run``, unless it runs; after an exception from here, that is unknown: it may be called again.

        Raises `RuntimeError` where no thread can be made.
        """
        if not self._who:
            decided, failed = threading.Lock(), list[RuntimeError]()
            decided.acquire()
            thread = threading.Thread(target=self._body, args=(run, decided), name=self._name, daemon=True)
            # By a thread of its own, to which no signal handler comes: it would leave a lock of `threading` locked, for
            # which the new thread waits.
            _thread.start_new_thread(self._begin, (thread, decided, failed))
            decided.acquire()
            if failed:
                raise failed[0]

    @staticmethod
    def _begin(thread: threading.Thread, decided: threading.Lock, failed: list[RuntimeError]) -> None:
        try:
            thread.start()
        except RuntimeError as error:
            failed.append(error)
            decided.release()

    def _body(self, run: Callable[[], object], decided: threading.Lock) -> None:
        me = threading.current_thread()
        is_first = self._who.setdefault("who", me) is me
        decided.release()
        if is_first:
            run()

    def prevent(self) -> bool:
        """Return whether it has not run; then it never will."""
        return self._who.setdefault("who", None) is None

    def join(self) -> None:
        """Wait until it has ended, if it runs and is not the caller."""
        thread = self._who.get("who")
        if thread and thread is not threading.current_thread():
            thread.join()
