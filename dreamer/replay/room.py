"""Whether the replay fits, said before anything of it is allocated."""

import os

import jax


def memory_bytes(device: jax.Device | None) -> int:
    """Returns the bytes that arrays on the device may take: its allocator's limit, or a share of the host's.

    Of None, the bytes of the host.
    """
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if device is None:
        return host
    return (device.memory_stats() or {}).get("bytes_limit") or host // jax.local_device_count()


def require_room(needed: int, there: int, *, capacity: int) -> None:
    """Refuses a replay that is larger than the memory it is to lie in.

    Args:
      needed: bytes, from `num_bytes`.
      there: bytes, from `memory_bytes`.
      capacity: the setting that asked for so much.

    Raises:
      ValueError: it does not fit; the message says what would.
    """
    usable = there * 9 // 10
    if needed > usable:
        raise ValueError(
            f"replay.capacity is {capacity}, which takes {needed:,} bytes of the {there:,} there are, and networks and "
            f"search need some too: give at most {capacity * usable // needed}"
        )
