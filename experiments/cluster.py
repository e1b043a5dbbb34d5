"""Calls as tasks of a Ray cluster: `workers.call_each` on other machines."""

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

from experiments.workers import Call, Ended, Tell

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
    while. Its machines need this code and its packages; a call works in a folder of the same name as this one, where
    there is such a folder.

    Args:
      call: importable by name.
      items: an item is drawn when the cluster has room for it.
      tell: hears what the calls tell, in this process.

    Close the iterator, or exhaust it, and no task is left.
    """
    with ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR"):
        resources = ray.cluster_resources()
        num_gpus = int(resources.get("GPU", 0))
        num_slots = num_gpus or max(1, int(resources["CPU"]))
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


def _serve(call: Call, item: Any, told: Queue, folder: str) -> tuple[Any, str | None]:
    """What a task does; returns outcome and error."""
    if os.path.isdir(folder):
        os.chdir(folder)
    try:
        return call(item, told.put), None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _outcome(task: ray.ObjectRef) -> tuple[Any, str | None]:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        return None, f"its task died ({type(error).__name__}: {str(error).splitlines()[0]})"
