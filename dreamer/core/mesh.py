"""Many devices, one program: which arrays are spread over them, and which lie on every one.

Rows are spread: those of a sampled batch, the roots of its searches, the copies of an environment. Everything else is
whole on every device: parameters, optimiser, replay, the pending day. XLA's partitioner derives from that who computes
what, and where gradients are summed. Keys are functions of counters, so the same things get the same randomness on any
number of devices; sums over rows are rounded in another order.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from dreamer.core.types import PyTree

AXIS = "data"


class Devices(NamedTuple):
    """Where programs run."""

    num: int
    jit: Callable
    """`jax.jit`, of programs whose arguments and results lie whole on every device."""
    spread: Callable[[PyTree], PyTree]
    """Within such a program: the leading axis of every leaf over the devices, an equal share each."""
    whole: Callable[[PyTree], PyTree]
    """Arrays of this process as such programs return them, or they would be compiled a second time for their own
    results."""

    def require_shares(self, sizes: dict[str, int]) -> None:
        """Refuses numbers of rows, by what they are called, that cannot be spread evenly.

        Raises:
          ValueError: names the first of them, its value and what to give.
        """
        for name, size in sizes.items():
            if size % self.num:
                raise ValueError(
                    f"{name} is {size}, which {self.num} devices cannot share evenly: make it a multiple of "
                    f"{self.num}, or give another --devices"
                )


ONE = Devices(1, jax.jit, lambda tree: tree, lambda tree: tree)
"""One device: programs as they are."""


def over(num_devices: int | None) -> Devices:
    """Returns the devices to run on.

    Args:
      num_devices: None takes one, or where several processes were joined all that they have.

    Raises:
      ValueError: there are not that many, or they would leave a joined process without work.
    """
    there, processes = jax.device_count(), jax.process_count()
    if num_devices is None:
        num_devices = 1 if processes == 1 else there
    if not 1 <= num_devices <= there:
        raise ValueError(
            f"devices is {num_devices}, but there are {there} ({jax.devices()[0].platform}): give 1 to {there}. More "
            "can be made of one CPU by XLA_FLAGS=--xla_force_host_platform_device_count=N"
        )
    if processes > 1 and num_devices != there:
        raise ValueError(
            f"devices is {num_devices}, but the {processes} processes have {there} together: leave --devices out to "
            "take them all"
        )
    if num_devices == 1:
        return ONE
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:num_devices]), (AXIS,))
    whole, rows = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))

    def jit(program: Callable, **options: object) -> Callable:
        return jax.jit(program, in_shardings=whole, out_shardings=whole, **options)

    return Devices(num_devices, jit, lambda tree: jax.lax.with_sharding_constraint(tree, rows), jit(lambda tree: tree))


def join(coordinator: str | None, *, num_processes: int | None, process_id: int | None) -> None:
    """Joins this process to the others of a run over several hosts, before JAX computes anything.

    Args:
      coordinator: `host:port` of process 0; None takes `JAX_COORDINATOR_ADDRESS`, and without that runs alone.
      num_processes: of the run; None takes `JAX_NUM_PROCESSES`, and without that what the cluster says.
      process_id: from 0; None takes `JAX_PROCESS_ID`, and without that what the cluster says.

    Raises:
      ValueError: a number that does not fit, or one that is missing.
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    if coordinator is None:
        if num_processes is not None or process_id is not None:
            raise ValueError(
                "--num-processes and --process-id are of a run over several hosts: name process 0 by --coordinator "
                "host:port, or leave them out"
            )
        return
    jax.distributed.initialize(
        coordinator,
        _from_environment("JAX_NUM_PROCESSES") if num_processes is None else num_processes,
        _from_environment("JAX_PROCESS_ID") if process_id is None else process_id,
    )
    # The processes meet here, at the same time. On a CPU the first sum over all devices makes their connections, and
    # gives up after 30 seconds: too few to wait for whoever compiles longest.
    multihost_utils.sync_global_devices("joined")


def _from_environment(name: str) -> int | None:
    value = os.environ.get(name)
    if value is not None and not value.isdecimal():
        raise ValueError(f"the environment variable {name} is {value!r}: give a whole number")
    return None if value is None else int(value)


def writes() -> bool:
    """Whether this process writes what the run leaves on disk: of several, the first does."""
    return jax.process_index() == 0
