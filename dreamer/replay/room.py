"""Whether the replay fits, said before anything of it is allocated."""

import os
from pathlib import Path

import jax

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container says what it may take, by either version of control groups; `max` is no limit."""


def host_bytes() -> int:
    """Returns the bytes of memory that this host has, or that its container may take."""
    said = [path.read_text().strip() for path in LIMITS if path.exists()]
    limits = [int(limit) for limit in said if limit.isdigit()]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits])


def device_bytes(device: jax.Device) -> int:
    """Returns the bytes that arrays on the device may take: its allocator's limit, or a share of the host's."""
    return (device.memory_stats() or {}).get("bytes_limit") or host_bytes() // jax.local_device_count()


def require_room(needed: int, there: int, *, capacity: int, where: str) -> None:
    """Refuses a replay that is larger than the memory it is to lie in.

    Args:
      needed: bytes, from `num_bytes`.
      there: bytes, from `device_bytes` or `host_bytes`.
      capacity: the setting that asked for so much.
      where: `device` or `host`.

    Raises:
      ValueError: it does not fit; the message says what would.
    """
    usable = there * 9 // 10
    if needed > usable:
        otherwise = ", or keep frames on the host by replay.placement host" if where == "device" else ""
        raise ValueError(
            f"replay.capacity is {capacity}, which takes {needed:,} bytes of the {there:,} that the {where} has, and "
            f"networks and search need some too: give at most {capacity * usable // needed}{otherwise}"
        )
