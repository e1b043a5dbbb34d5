"""Calls as tasks of a Ray cluster: `workers.call_each` on other machines."""

import itertools
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Any

from experiments.workers import Call, Ended, Tell, first_line

try:
    import ray
    from ray.util.queue import Queue
except ImportError as missing:
    raise ImportError(
        f"sweeps on a cluster need an extra that is not installed ({missing}): pip install -r requirements-ray.txt"
    ) from missing

_PATIENCE = 0.5
"""Seconds between two looks at what was told."""


def call_each(call: Call, items: Iterable[Any], *, tell: Tell) -> Iterator[Ended]:
    """Calls once for each item, each time as a task with a CPU, or a GPU where there are some; yields them as they end.

    The cluster is the one that $RAY_ADDRESS names, or the newest on this machine, or one that is started for the
    while. Its machines need this code and its packages, and a folder of the same name as this one, where calls work.

    Args:
      call: importable by name.
      items: an item is drawn when the cluster has room for it.
      tell: hears what the calls tell, in this process.

    Close the iterator, or exhaust it, and no task is left.

    Raises:
      ValueError: the cluster has no CPU, for which every call would wait.
    """
    with ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR"):
        num_slots, num_gpus = _slots(ray.cluster_resources())
        # A task that dies is not tried again unseen: its run goes on with the next sweep, as everywhere.
        serve = ray.remote(num_cpus=1, num_gpus=min(1, num_gpus), max_retries=0)(_serve)
        told = Queue(actor_options={"num_cpus": 0})
        items, running = iter(items), {}
        try:
            while True:
                for item in itertools.islice(items, num_slots - len(running)):
                    running[serve.remote(call, item, told, os.getcwd())] = item
                if not running:
                    return
                over, _ = ray.wait(list(running), timeout=_PATIENCE)
                for message in told.get_nowait_batch(told.qsize()):
                    tell(message)
                for task in over:
                    yield Ended(running.pop(task), *_outcome(task))
        finally:
            for task in running:
                ray.cancel(task, force=True)


def _slots(resources: dict[str, float]) -> tuple[int, int]:
    """Returns how many calls a cluster has room for side by side, and its GPUs."""
    num_cpus, num_gpus = (int(resources.get(name, 0)) for name in ("CPU", "GPU"))
    if not num_cpus:
        raise ValueError("the Ray cluster has no CPU, and every run takes one: start a machine of it that has some")
    return num_gpus or num_cpus, num_gpus


def _serve(call: Call, item: Any, told: Queue, folder: str) -> tuple[Any, str | None]:
    """What a task does; returns outcome and error."""
    try:
        _enter(folder)
        return call(item, told.put), None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _enter(folder: str) -> None:
    """Works in the folder: anywhere else nobody would look for the runs."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise ValueError(
            f"{socket.gethostname()} cannot work in {folder} ({error}): make it there, or sweep in a folder that all "
            "machines of the cluster have"
        ) from error


def _outcome(task: ray.ObjectRef) -> tuple[Any, str | None]:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        return None, f"its task died ({first_line(error)})"
