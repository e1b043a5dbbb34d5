"""Calls in processes of their own, side by side: one that dies takes no other with it, and none outlives its parent."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection
from typing import Any, NamedTuple

Tell = Callable[[Any], None]
Call = Callable[[Any, Tell], Any]
"""(item, tell) -> outcome. What it tells, its caller hears at once."""


class Ended(NamedTuple):
    """A call that is over."""

    item: Any
    outcome: Any
    """What it returned; None if it came to nothing."""
    error: str | None
    """Why it came to nothing, or None."""


def call_each(call: Call, items: Iterable[Any], *, num_processes: int, tell: Tell) -> Iterator[Ended]:
    """Calls once for each item, each time in a fresh process with its share of the cores; yields the calls as they end.

    The share keeps numerical libraries from starting a thread for every core of the machine in every process.

    Args:
      call: importable by name, as a new interpreter has to find it.
      items: an item is drawn when a process is free for it.
      num_processes: calls side by side.
      tell: hears what the calls tell, in this process.

    Close the iterator, or exhaust it, and no process is left.
    """
    if num_processes < 1:
        raise ValueError(f"num_processes is {num_processes}: give 1 or more")
    items, running = iter(items), {}
    try:
        while True:
            for slot in set(range(num_processes)) - running.keys():
                for item in items:
                    running[slot] = _Process(call, item, cores=_share(slot, num_processes))
                    break
            if not running:
                return
            connection.wait([handle for process in running.values() for handle in process.handles])
            for slot, process in list(running.items()):
                is_alive = process.is_alive()  # asked first: after its end nothing more comes
                for message in process.hear():
                    tell(message)
                if not is_alive:
                    del running[slot]
                    yield process.ended()
    finally:
        for process in running.values():
            process.kill()


class _Process:
    """One call on its way."""

    def __init__(self, call: Call, item: Any, *, cores: set[int] | None):
        self._item = item
        self._inbox, outbox = multiprocessing.Pipe(duplex=False)
        self._outcome: tuple[Any, str | None] | None = None
        context = multiprocessing.get_context("spawn")  # JAX does not survive a fork
        self._process = context.Process(target=_serve, args=(call, item, outbox))
        with _bequeathed(cores):
            self._process.start()
        outbox.close()  # or the end of the process would not be the end of its words

    @property
    def handles(self) -> list:
        return [self._process.sentinel] + ([] if self._inbox.closed else [self._inbox])

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def hear(self) -> Iterator[Any]:
        """Yields what the call told since; its outcome is kept."""
        try:
            while not self._inbox.closed and self._inbox.poll():
                is_message, *said = self._inbox.recv()
                if is_message:
                    yield said[0]
                else:
                    self._outcome = tuple(said)
        except (EOFError, OSError):  # it ended, perhaps in the middle of a word
            self._inbox.close()

    def ended(self) -> Ended:
        self._inbox.close()
        if self._outcome is not None:
            return Ended(self._item, *self._outcome)
        code = self._process.exitcode
        if code >= 0:
            return Ended(self._item, None, f"its process ended with exit code {code}")
        name = signal.Signals(-code).name
        hint = " (by hand, or because memory ran out)" if name == "SIGKILL" else ""
        return Ended(self._item, None, f"its process was killed by {name}{hint}")

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def first_line(error: BaseException) -> str:
    """Returns the kind of an error and the first line of what it says, if it says anything."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def _serve(call: Call, item: Any, outbox: connection.Connection) -> None:
    """What the process does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = call(item, lambda message: outbox.send((True, message)))
    except Exception as error:
        outbox.send((False, None, f"{type(error).__name__}: {error}"))
    else:
        outbox.send((False, outcome, None))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _share(slot: int, num_processes: int) -> set[int] | None:
    """Returns the cores of a slot: an even share of those that this process may use, at least one."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return set(cores[slot % len(cores) :: num_processes])


@contextlib.contextmanager
def _bequeathed(cores: set[int] | None) -> Iterator[None]:
    """What starts within is pinned to the cores from its first thread on, and deaf to Ctrl-C, which is its parent's."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    before = None if cores is None else os.sched_getaffinity(0)
    try:
        if cores is not None:
            os.sched_setaffinity(0, cores)
        yield
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
