"""Images shifted and dimmed: by hand, alike where they must be, and untouched where nothing was asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.sleep import augment as augments
from dreamer.sleep.augment import AugmentConfig
from tests import tiny

K = 3
augment = jax.jit(augments.augment, static_argnums=0, static_argnames="unroll_steps")


def images(num_rows=5, size=6, batch_size=8, dtype="uint8"):
    """Sequences that stand still: every state [size, size, 2] of a sample shows the same, so draws can be compared."""
    shown = np.random.default_rng(0).integers(0, 256, (batch_size, 1, size, size, 2)).astype(dtype)
    obs = np.broadcast_to(shown, (batch_size, num_rows + 1, size, size, 2))
    return tiny.sequence(obs, np.zeros((batch_size, num_rows)))


def test_a_shift_by_hand():
    image = jnp.arange(9).reshape(1, 3, 3, 1)
    seen = augments._shifted(image, jnp.array([1, -1]))[0, ..., 0]  # one row further down, one column further left
    np.testing.assert_array_equal(seen, [[3, 3, 4], [6, 6, 7], [6, 6, 7]])
    np.testing.assert_array_equal(augments._shifted(image, jnp.array([0, 0])), image)
    np.testing.assert_array_equal(
        augments._shifted(image, jnp.array([-5, 5]))[0, ..., 0], np.full((3, 3), 2)
    )  # all border


def test_neutral_settings_change_nothing():
    batch = images()
    same = augment(AugmentConfig(), batch, jax.random.key(0), unroll_steps=K)
    np.testing.assert_array_equal(same.obs, batch.obs[:, : K + 1])
    assert same.obs.dtype == jnp.uint8
    np.testing.assert_array_equal(same.valid, batch.valid[:, :K])
    vectors = tiny.sequence(np.zeros((2, 4, 5)), np.zeros((2, 3)))
    assert augment(AugmentConfig(), vectors, jax.random.key(0), unroll_steps=K).obs.shape == (2, 4, 5)


@pytest.mark.parametrize("config", [AugmentConfig(shift=2), AugmentConfig(intensity=0.05), AugmentConfig(2, 0.05)])
def test_the_future_is_drawn_once_the_start_apart_and_samples_apart(config):
    batch = images(batch_size=32)
    obs = np.asarray(augment(config, batch, jax.random.key(1), unroll_steps=K).obs)
    assert obs.shape == (32, K + 1, 6, 6, 2)
    np.testing.assert_array_equal(obs[:, 1:], np.broadcast_to(obs[:, 1:2], obs[:, 1:].shape))
    apart = (obs[:, 0] != obs[:, 1]).any(axis=(1, 2, 3))
    assert apart.mean() > 0.8
    one = augment(config, jax.tree.map(lambda x: jnp.stack([x[0]] * 32), batch), jax.random.key(1), unroll_steps=K)
    assert len({image.tobytes() for image in np.asarray(one.obs[:, 0])}) > 10


def test_shifts_are_all_that_happens_to_bytes_and_all_are_drawn():
    batch = images(batch_size=256)
    obs = np.asarray(augment(AugmentConfig(shift=1), batch, jax.random.key(2), unroll_steps=1).obs)
    assert obs.dtype == np.uint8
    drawn = set()
    for before, after in zip(np.asarray(batch.obs[:, 0]), obs[:, 0], strict=True):
        padded = np.pad(before, ((1, 1), (1, 1), (0, 0)), mode="edge")
        crops = {(y, x): padded[y : y + 6, x : x + 6] for y in range(3) for x in range(3)}
        (found,) = [place for place, crop in crops.items() if np.array_equal(crop, after)]
        drawn.add(found)
    assert len(drawn) == 9


def test_intensity_scales_bytes_to_shares_and_is_clipped():
    batch = images(batch_size=512)
    obs = augment(AugmentConfig(intensity=0.05), batch, jax.random.key(3), unroll_steps=1).obs
    assert obs.dtype == jnp.float32
    shown = np.maximum(np.asarray(batch.obs[:, :2], np.float32), 1) / 255
    factor = np.median(np.asarray(obs) / shown, axis=(2, 3, 4))
    np.testing.assert_allclose(obs, np.asarray(batch.obs[:, :2]) / 255 * factor[..., None, None, None], atol=1e-5)
    assert abs(factor.mean() - 1) < 0.01 and 0.04 < factor.std() < 0.05
    np.testing.assert_allclose([factor.min(), factor.max()], [0.9, 1.1], atol=1e-6)  # two deviations


def test_flags_are_images_too():
    batch = images(dtype="bool")
    obs = augment(AugmentConfig(shift=1), batch, jax.random.key(0), unroll_steps=1).obs
    assert obs.dtype == jnp.bool_
    obs = augment(AugmentConfig(intensity=0.1), batch, jax.random.key(0), unroll_steps=1).obs
    assert 0.799 < float(jnp.where(obs > 0, obs, 1).min()) < float(obs.max()) < 1.201


@pytest.mark.parametrize("bad", [dict(shift=-1), dict(intensity=-0.1), dict(intensity=0.6), dict(intensity=np.nan)])
def test_impossible_settings_are_refused(bad):
    with pytest.raises(ValueError, match=f"augment.{next(iter(bad))} is"):
        AugmentConfig(**bad)


def test_vectors_are_refused():
    vectors = tiny.sequence(np.zeros((2, 4, 5)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"augment.shift is 4.* shape \(5,\) are no images .* give 0"):
        augment(AugmentConfig(shift=4), vectors, jax.random.key(0), unroll_steps=K)
