"""Observations that stack frames: every frame once, and the stacks made of them again.

A stacked observation holds k frames side by side along its last axis, the oldest first, and an episode begins with k
copies of its first frame (`EnvSpec.frame_stack`). What works on one array takes NumPy and JAX ones alike.

Letters: T decisions of a day, E environment copies, N episodes begun within it, k frames of a stack.
"""

import numpy as np
from flax import struct


@struct.dataclass
class Frames:
    """All that the observations of a day show, every frame once."""

    first: np.ndarray
    """[E, *obs_shape] what each copy saw first, whole: the frames before that day are in no other place of it."""
    led_to: np.ndarray
    """[T, E, *frame_shape] the newest frame of each `next_obs`."""
    begun: np.ndarray
    """[N, *frame_shape] the first frame of each episode begun after an end within the day, by tick and then copy."""


def frame_shape(obs_shape: tuple[int, ...], num_frames: int) -> tuple[int, ...]:
    """Returns the shape of one of `num_frames` frames of an observation.

    Raises:
      ValueError: the last axis does not divide into so many.
    """
    if num_frames == 1:
        return tuple(obs_shape)
    if not obs_shape or num_frames < 1 or obs_shape[-1] % num_frames:
        raise ValueError(
            f"observations of shape {tuple(obs_shape)} are no stack of {num_frames} frames: give EnvSpec.frame_stack "
            "the number of frames that lie side by side along the last axis"
        )
    return (*obs_shape[:-1], obs_shape[-1] // num_frames)


def newest(obs, num_frames: int):
    """Returns the newest frame [..., C] of observations [..., k * C]."""
    return obs if num_frames == 1 else obs[..., -(obs.shape[-1] // num_frames) :]


def stack(frames, axis: int):
    """Returns the observation [..., k * C] of frames [..., k, ..., C] whose `axis`, from 0, goes from old to new."""
    if frames.shape[axis] == 1:
        return frames.squeeze(axis)
    others = [other for other in range(frames.ndim) if other != axis]
    beside = frames.transpose(*others[:-1], axis, others[-1])
    return beside.reshape(*beside.shape[:-2], beside.shape[-2] * beside.shape[-1])


def pack(obs: np.ndarray, next_obs: np.ndarray, ended: np.ndarray, num_frames: int) -> Frames:
    """Returns the frames of a day, of which `unpack` makes both arrays again, bit for bit.

    Args:
      obs: [T, E, *obs_shape] what each decision was taken in.
      next_obs: [T, E, *obs_shape] what it led to.
      ended: [T, E] bool, the episode ended there.
      num_frames: k.

    Raises:
      ValueError: the observations are not such stacks.
    """
    frames = Frames(obs[0], newest(next_obs, num_frames), newest(obs[1:][ended[:-1]], num_frames))
    for name, made, given in zip(("obs", "next_obs"), unpack(frames, ended, num_frames), (obs, next_obs), strict=True):
        if made.tobytes() != given.tobytes():
            raise ValueError(
                f"{name} is no stack of {num_frames} frames that moves on by one each decision and begins an episode "
                "with copies of its first: make the environment stack so, or give EnvSpec.frame_stack=1"
            )
    return frames


def unpack(frames: Frames, ended: np.ndarray, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the (obs, next_obs), each [T, E, *obs_shape], of a packed day whose ends [T, E] are known."""
    num_channels = frames.led_to.shape[-1]
    first_stacks = np.concatenate([frames.begun] * num_frames, axis=-1)
    obs, next_obs = (np.empty((*ended.shape, *frames.first.shape[1:]), frames.first.dtype) for _ in range(2))
    now, begun = frames.first, 0
    for tick in range(len(ended)):
        obs[tick] = now
        next_obs[tick] = np.concatenate([now[..., num_channels:], frames.led_to[tick]], axis=-1)
        now = next_obs[tick].copy()
        num_begun = int(ended[tick].sum()) if tick + 1 < len(ended) else 0
        if num_begun:
            now[ended[tick]] = first_stacks[begun : begun + num_begun]
        begun += num_begun
    return obs, next_obs
