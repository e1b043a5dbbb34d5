"""Frames stored once, and the stacks made of them again."""

import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core import stacks


def test_stacking_by_hand():
    frames = np.arange(2 * 1 * 2 * 2).reshape(2, 1, 2, 2)  # two frames [H=1, W=2, C=2]
    beside = [[[0, 1, 4, 5], [2, 3, 6, 7]]]  # at each pixel the old frame's channels, then the new one's
    np.testing.assert_array_equal(stacks.stack(frames, axis=0), beside)
    np.testing.assert_array_equal(stacks.newest(stacks.stack(frames, axis=0), 2), frames[1])
    np.testing.assert_array_equal(stacks.stack(jnp.asarray(frames), axis=0), beside)


def test_a_single_frame_is_the_observation_whatever_its_shape():
    for obs in (np.ones((2, 3)), np.ones(2)):
        assert stacks.newest(obs, 1) is obs
        np.testing.assert_array_equal(stacks.stack(obs[:, None], axis=1), obs)
    assert stacks.frame_shape((), 1) == () and stacks.frame_shape((4, 4, 12), 4) == (4, 4, 3)


@pytest.mark.parametrize("obs_shape", [(), (4, 4, 3)])
def test_what_does_not_divide_is_refused(obs_shape):
    with pytest.raises(ValueError, match="are no stack of 2 frames: give EnvSpec.frame_stack"):
        stacks.frame_shape(obs_shape, 2)


def test_a_day_is_packed_by_hand():
    """One copy, k = 2, frames 0 1 2 | 7 8 and before them, in another day, 9: the bar is an end."""
    obs, next_obs = np.array([[9, 0], [0, 1], [7, 7]]), np.array([[0, 1], [1, 2], [7, 8]])
    ended = np.array([False, True, False])
    obs, next_obs, ended = obs[:, None], next_obs[:, None], ended[:, None]
    frames = stacks.pack(obs, next_obs, ended, 2)
    np.testing.assert_array_equal(frames.first, [[9, 0]])
    np.testing.assert_array_equal(frames.led_to[:, 0, 0], [1, 2, 8])
    np.testing.assert_array_equal(frames.begun, [[7]])
    for made, given in zip(stacks.unpack(frames, ended, 2), (obs, next_obs), strict=True):
        np.testing.assert_array_equal(made, given)


@pytest.mark.parametrize("end_prob", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("num_steps", [1, 9])
def test_random_days_come_back_bit_for_bit(end_prob, num_steps):
    obs, next_obs, ended = random_day(np.random.default_rng(0), num_steps, 3, end_prob)
    frames = stacks.pack(obs, next_obs, ended, 3)
    assert frames.begun.shape == (ended[:-1].sum(), 2, 2, 1)
    for made, given in zip(stacks.unpack(frames, ended, 3), (obs, next_obs), strict=True):
        assert made.dtype == given.dtype and made.tobytes() == given.tobytes()


def test_what_is_no_stack_is_not_packed():
    obs, next_obs, ended = random_day(np.random.default_rng(0), 5, 2, 0.5)
    for spoil in ("obs", "next_obs"):
        day = {"obs": obs.copy(), "next_obs": next_obs.copy()}
        day[spoil][3, 1, 0, 0, 0] ^= 1
        with pytest.raises(ValueError, match="is no stack of 3 frames that moves on"):
            stacks.pack(**day, ended=ended, num_frames=3)


def random_day(rng, num_steps, num_envs, end_prob):
    """Returns obs and next_obs [T, E, 2, 2, 3] of stacks of three frames, and ends [T, E]; copies begin in mid-life."""
    ended = rng.random((num_steps, num_envs)) < end_prob
    draw = lambda: rng.integers(0, 256, (2, 2, 1), dtype=np.uint8)  # noqa: E731
    now = [np.concatenate([draw(), draw(), draw()], axis=-1) for _ in range(num_envs)]
    obs, next_obs = [], []
    for tick in range(num_steps):
        obs.append(np.stack(now))
        now = [np.concatenate([stack[..., 1:], draw()], axis=-1) for stack in now]
        next_obs.append(np.stack(now))
        for copy in np.flatnonzero(ended[tick]):
            now[copy] = np.concatenate([draw()] * 3, axis=-1)
    return np.stack(obs), np.stack(next_obs), ended
