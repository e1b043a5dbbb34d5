"""The ring of frames, which are most of a replay's bytes: an array on the device, or NumPy's in the host's memory.

Letters: E environment copies, S slots for frames a copy.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

PLACEMENTS = ("device", "host")


@jax.tree_util.register_static
class HostFrames:
    """A ring [E, S, *frame_shape] in the host's memory, which programs on one device write to and read from in order.

    To JAX it is no data but part of what a program is compiled for, which keeps it as long as the program lives. So
    replays that take turns in the same programs share one, and the frames of a replay of an earlier day are today's.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        """Takes the ring's shape and dtype; memory is taken when the first frame is."""
        self.shape, self.dtype = shape, np.dtype(dtype)

    @functools.cached_property
    def array(self) -> np.ndarray:
        """[E, S, *frame_shape] the frames; slots not yet stored hold zeros."""
        return np.zeros(self.shape, self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that all its slots take."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def release(self) -> None:
        """Gives the memory back; the frames are gone."""
        self.__dict__.pop("array", None)

    def write(self, copies: np.ndarray, slots: np.ndarray, frames: np.ndarray) -> None:
        """Writes frames [E, T, *frame_shape] to slots [E, T] of copies [E, 1]; slot S is nowhere."""
        copies, slots, frames = (np.asarray(given) for given in (copies, slots, frames))
        kept = slots < self.shape[1]
        self.array[np.broadcast_to(copies, slots.shape)[kept], slots[kept]] = frames[kept]

    def read(self, copies: np.ndarray, slots: np.ndarray) -> np.ndarray:
        """Returns the frames [B, W, *frame_shape] in slots [B, W] of copies [B, 1]."""
        return self.array[np.asarray(copies), np.asarray(slots)]


def empty_ring(shape: tuple[int, ...], dtype: np.dtype, placement: str) -> jax.Array | HostFrames:
    """Returns an empty ring of that shape [E, S, *frame_shape], on the `device` or the `host`."""
    return HostFrames(shape, dtype) if placement == "host" else jnp.zeros(shape, dtype)


def put(frames: jax.Array | HostFrames, copies: jax.Array, slots: jax.Array, new: jax.Array) -> jax.Array | HostFrames:
    """Returns the ring with frames `new` [E, T, *frame_shape] in slots [E, T] of copies [E, 1]; slot S is nowhere."""
    if isinstance(frames, HostFrames):
        io_callback(frames.write, None, copies, slots, new, ordered=True)
        return frames
    return frames.at[copies, slots].set(new, mode="drop")


def take(frames: jax.Array | HostFrames, copies: jax.Array, slots: jax.Array) -> jax.Array:
    """Returns the frames [B, W, *frame_shape] in slots [B, W] of copies [B, 1]."""
    if isinstance(frames, HostFrames):
        shape = jax.ShapeDtypeStruct((*slots.shape, *frames.shape[2:]), frames.dtype)
        return io_callback(frames.read, shape, copies, slots, ordered=True)
    return frames[copies, slots]
