"""What really happened: real transitions, on the device but for frames asked onto the host, and samplers of them.

Never runs a network.
"""

from dreamer.replay.buffer import ReplayState, eventful, init, insert, num_bytes, num_stored, sample, set_priorities
from dreamer.replay.draw import ReplayConfig
from dreamer.replay.frames import HostFrames
from dreamer.replay.room import device_bytes, host_bytes, require_room

__all__ = [
    "HostFrames",
    "ReplayConfig",
    "ReplayState",
    "device_bytes",
    "eventful",
    "host_bytes",
    "init",
    "insert",
    "num_bytes",
    "num_stored",
    "require_room",
    "sample",
    "set_priorities",
]
