"""What really happened: real transitions on the device, and samplers of them. Never runs a network."""

from dreamer.replay.buffer import ReplayState, eventful, init, insert, num_bytes, num_stored, sample, set_priorities
from dreamer.replay.draw import ReplayConfig
from dreamer.replay.room import memory_bytes, require_room

__all__ = [
    "ReplayConfig",
    "ReplayState",
    "eventful",
    "init",
    "insert",
    "memory_bytes",
    "num_bytes",
    "num_stored",
    "require_room",
    "sample",
    "set_priorities",
]
