"""What really happened: real transitions on the device, and samplers of them. Never runs a network."""

from dreamer.replay.buffer import ReplayConfig, ReplayState, init, insert, num_stored, sample, set_priorities

__all__ = ["ReplayConfig", "ReplayState", "init", "insert", "num_stored", "sample", "set_priorities"]
