import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agents.actor_critic import make_actor_critic
from dreamer.core import trees
from dreamer.core.supports import Support
from dreamer.wake import Deployed
from experiments import PRESETS
from tests import tiny
from world_models.efficientzero import EfficientZeroConfig, make_efficientzero

SMALL = dataclasses.replace(
    tiny.MODEL,
    torso="residual",
    num_blocks=1,
    num_channels=8,
    reduced_channels=4,
    hidden_size=16,
    action_embedding=4,
    value_prefix=2,
    lstm_size=16,
    reward_support=Support(-3.0, 3.0, 7, "identity"),
)


once = functools.partial(jax.jit, compiler_options=tiny.QUICK)


def sizes(preset):
    """Parameters of the parts of model and agent at 96 x 96 x 12 and 18 actions, without making any."""
    spec = tiny.spec(obs_shape=(96, 96, 12), obs_dtype="uint8", num_actions=18)
    model = make_efficientzero(spec, preset.model, num_unroll_steps=5)
    agent = make_actor_critic(spec, preset.agent)

    def init(obs):
        params = model.init(jax.random.key(0), obs)
        return params | {"agent": agent.init(jax.random.key(1), model.observe(params, obs))}

    params = jax.eval_shape(init, jnp.zeros((1, 96, 96, 12), jnp.uint8))
    return {name: trees.num_parameters(part) for name, part in params.items()}


CONTINUATION_HEAD = (64 * 16 + 16 + 32) + (576 * 32 + 32 + 64) + 33
LSTM_BIAS = 4 * 512  # the papers' library keeps two of them, which only ever add up
LAYER_NORM_OF_PLANES = 2 * 16 * 6 * 6 - 2 * 16  # theirs has parameters for each cell of planes that are constant


@pytest.mark.parametrize(
    ("preset", "difference", "used", "trained"),
    [
        ("atari100k-v1", CONTINUATION_HEAD - LSTM_BIAS, 2_833_908, 8_350_708),
        ("atari100k-v2", CONTINUATION_HEAD - LSTM_BIAS - LAYER_NORM_OF_PLANES, 2_843_732, 7_835_476),
    ],
)
def test_as_many_parameters_as_in_the_papers(preset, difference, used, trained):
    counted = sizes(PRESETS[preset])
    assert counted["encoder"] == 318_016
    assert counted["agent"] == 133_611
    assert sum(counted.values()) == trained + difference
    assert sum(counted.values()) - counted["projector"] == used + difference


@pytest.mark.parametrize(("side", "cells"), [(3, 3), (10, 10), (16, 8), (64, 8), (84, 6), (96, 6)])
def test_images_are_halved_until_they_fit(side, cells):
    spec = tiny.spec(obs_shape=(side, side, 1), obs_dtype="uint8")
    model = make_efficientzero(spec, SMALL, num_unroll_steps=1)

    def look(obs):
        return model.observe(model.init(jax.random.key(0), obs), obs).state

    assert jax.eval_shape(look, jnp.zeros((2, side, side, 1), jnp.uint8)).shape == (2, cells, cells, 8)


@functools.cache
def small(**changes):
    """A small model for 3 x 2 images with 3 actions, its shaken params, and the latents of two observations."""
    spec = tiny.spec(obs_shape=(3, 2, 1), num_actions=3)
    model = make_efficientzero(spec, dataclasses.replace(SMALL, **changes), num_unroll_steps=3)
    obs = jax.random.normal(jax.random.key(0), (2, 3, 2, 1))
    params = once(lambda key: tiny.shaken(model.init(key, obs), scale=0.1))(jax.random.key(1))
    return model, params, obs


@pytest.mark.parametrize("action_embedding", [0, 4])
def test_every_action_leads_elsewhere_from_the_start(action_embedding):
    spec = tiny.spec(obs_shape=(3, 2, 1), num_actions=3)
    config = dataclasses.replace(SMALL, action_embedding=action_embedding)
    model = make_efficientzero(spec, config, num_unroll_steps=1)
    obs = jnp.ones((3, 3, 2, 1))

    @once
    def run(key):
        params = model.init(key, obs)
        return model.step(params, model.observe(params, obs), jnp.arange(3))

    latent, reward, continuation = run(jax.random.key(0))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(latent.state[one] - latent.state[other]).max() > 1e-2
    np.testing.assert_array_equal(reward, 0)
    np.testing.assert_array_equal(continuation, 0.5)


def test_a_dreamed_step_halves_the_gradient_that_passes_it():
    model, params, obs = small()
    latent = once(model.observe)(params, obs)
    weights, direction = jax.random.normal(jax.random.key(2), (2, *latent.state.shape))

    def read(by):
        moved, reward, continuation = model.step(
            params, latent.replace(state=latent.state + by * direction), jnp.array([1, 2])
        )
        return (weights * moved.state).sum() + reward.sum() + continuation.sum()

    @once
    def run():
        return jax.grad(read)(0.0), (read(1e-3) - read(-1e-3)) / 2e-3

    gradient, differences = run()
    np.testing.assert_allclose(gradient, 0.5 * differences, rtol=0.1)  # differences round the corners of the relus


def test_bfloat16_is_for_the_layers_alone():
    model, params, obs = small(compute_dtype="bfloat16")
    exact, *_ = small()
    batch = tiny.sequence(jnp.repeat(obs[:, None], 4, 1), jnp.zeros((2, 3)), num_actions=3)

    def run(model):
        latent, *told = model.step(params, model.observe(params, obs), jnp.array([1, 2]))
        return latent, told, model.unroll(params, None, batch)[1:]

    latent, *said = once(lambda: run(model))()
    other, *meant = once(lambda: run(exact))()
    assert latent.state.dtype == latent.recurrent.cell[0].dtype == jnp.bfloat16
    assert latent.recurrent.value.dtype == other.state.dtype == jnp.float32
    np.testing.assert_allclose(latent.state.astype(jnp.float32), other.state, atol=0.05)
    for mine, theirs in zip(jax.tree.leaves(said), jax.tree.leaves(meant), strict=True):
        assert mine.dtype == jnp.float32
        np.testing.assert_allclose(mine, theirs, atol=0.05)


def test_one_batch_of_a_deterministic_world_is_learned():
    # Rings of three cells: action 1 goes on, 0 stays; reward = cell - 1 for going on; the world ends at cell 2.
    rng = np.random.default_rng(0)
    obs, action = np.zeros((16, 4), int), rng.integers(2, size=(16, 3))
    obs[:, 0] = np.arange(16) % 3
    for i in range(3):
        obs[:, i + 1] = (obs[:, i] + action[:, i]) % 3
    reward, terminated = action * (obs[:, :3] - 1.0), (action == 1) & (obs[:, :3] == 2)
    valid = np.cumsum(np.pad(terminated, ((0, 0), (1, 0)))[:, :3], axis=1) == 0
    images = np.eye(3, dtype=np.float32)[obs][..., None, None]
    batch = tiny.sequence(images, action, reward=reward * valid, terminated=terminated & valid, valid=valid)
    model = make_efficientzero(tiny.spec(obs_shape=(3, 1, 1)), SMALL, num_unroll_steps=3)
    optimizer = optax.adam(1e-2)

    def loss(params):
        _, loss, metrics = model.unroll(params, None, batch)
        return loss.mean(), metrics

    @jax.jit
    def fit(key):
        def once(carry, _):
            params, state = carry
            gradient, metrics = jax.grad(loss, has_aux=True)(params)
            steps, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, steps), state), metrics

        params = model.init(key, batch.obs[:, 0])
        (params, _), metrics = jax.lax.scan(once, (params, optimizer.init(params)), length=150)
        latent, told = model.observe(params, batch.obs[:, 0]), []
        for i in range(3):
            latent, *outcome = model.step(params, latent, batch.action[:, i])
            told.append(outcome)
        return jax.tree.map(lambda x: x[-1], metrics), told

    metrics, told = fit(jax.random.key(0))
    assert metrics["reward_loss"] < 0.05 and metrics["continuation_loss"] < 0.05
    assert metrics["consistency_loss"] < -0.9 * (valid & ~terminated).mean()
    for i, (told_reward, told_continuation) in enumerate(told):
        real = valid[:, i]
        np.testing.assert_allclose(told_reward[real], reward[real, i], atol=0.15)
        np.testing.assert_allclose(told_continuation[real], 1.0 - terminated[real, i], atol=0.1)


def test_it_is_deployed_without_its_dynamics():
    spec = tiny.spec(obs_shape=(14, 14, 1), obs_dtype="uint8", num_actions=3)
    model = make_efficientzero(spec, dataclasses.replace(SMALL, compute_dtype="bfloat16"), num_unroll_steps=1)
    agent = make_actor_critic(spec, dataclasses.replace(tiny.AGENT, compute_dtype="bfloat16"))
    obs = np.random.default_rng(0).integers(256, size=(5, 14, 14, 1), dtype=np.uint8)

    @once
    def init(key):
        params = model.init(key, obs)
        return {"model": params, "agent": tiny.shaken(agent.init(key, model.observe(params, obs)))}

    def apply(params, obs):
        thought = agent.evaluate(params["agent"], (), model.observe(params["model"], obs))
        return thought.logits, thought.value

    params = init(jax.random.key(0))
    used = trees.only_used(lambda params: apply(params, obs), params)
    assert {name.key for name, *_ in ([*path] for path, _ in jax.tree_util.tree_leaves_with_path(used["model"]))} == {
        "encoder"
    }
    deployed = Deployed.of(apply, used, spec=spec, config={}, version=0, meters={})
    for mine, other in zip(deployed.evaluate(obs), jax.jit(apply)(params, obs), strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, other, atol=1e-2)


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match=r"model.torso is residual, for images .* \(3,\): give dense"):
        make_efficientzero(tiny.spec(), SMALL, num_unroll_steps=1)
    with pytest.raises(ValueError, match="model.torso is 'conv': give one of dense, relational, residual"):
        EfficientZeroConfig(torso="conv")
