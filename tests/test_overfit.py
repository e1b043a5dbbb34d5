"""One batch, learned by heart: with every part of a preset on, all that its loss can lose is lost.

The preset's own replay weights, search, targets, losses and optimiser, on networks small enough for a CPU. A batch of
images that nobody sees twice can be told apart, so what remains above the floor would be a loss that fights another.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.actor_critic import make_actor_critic
from dreamer.core import supports
from dreamer.core.types import DreamTargets
from dreamer.sleep.augment import augment
from dreamer.sleep.fit import fit_loss
from dreamer.sleep.search import make_search
from dreamer.sleep.targets import make_targets
from dreamer.sleep.update import init_learner, init_params, make_optimizer, update
from experiments import PRESETS
from tests import tiny
from world_models.efficientzero import make_efficientzero
from world_models.efficientzero.dynamics import prefix_targets

NUM_ROWS, NUM_ACTIONS, SIDE = 8, 3, 3
SMALL = {"latent_size": 64, "hidden_size": 32, "num_channels": 16, "lstm_size": 32, "projection_size": 32}


def small(name, num_updates):
    """The preset with all its parts, narrow, in float32; its step size warms up and falls within a few updates."""
    preset = PRESETS[name]
    return dataclasses.replace(
        preset,
        model=dataclasses.replace(preset.model, **SMALL, predictor_size=16, compute_dtype="float32"),
        agent=dataclasses.replace(preset.agent, hidden_size=32, compute_dtype="float32"),
        update=dataclasses.replace(
            preset.update, warmup_updates=20, fall_after=preset.update.fall_after and num_updates * 3 // 4
        ),
    )


def changed(config, **targets):
    return dataclasses.replace(config, targets=dataclasses.replace(config.targets, **targets))


def batch_of(config):
    """Sequences of random images: some lived to the end, some cut short by one of either kind; old and new."""
    length, rng = config.targets.length, np.random.default_rng(0)
    rows = (NUM_ROWS, length)
    ends = np.where(np.arange(NUM_ROWS) < 4, length, np.arange(NUM_ROWS) - 2)  # rows lived: all, or 2 to 5
    valid = np.arange(length) < ends[:, None]
    terminated = (np.arange(length) == ends[:, None] - 1) & (np.arange(NUM_ROWS)[:, None] % 2 == 0)
    obs = rng.integers(256, size=(NUM_ROWS, length + 1, SIDE, SIDE, 4), dtype=np.uint8)
    batch = tiny.sequence(
        obs > 127 if config.model.torso == "relational" else obs,
        rng.integers(NUM_ACTIONS, size=rows),
        reward=rng.integers(-2, 3, size=rows) * valid,
        terminated=terminated,
        valid=valid,
        num_actions=NUM_ACTIONS,
        age=50_000 * rng.random(NUM_ROWS),
    )
    batch = batch.replace(weight=jnp.linspace(0.5, 1.0, NUM_ROWS))
    return batch.replace(reward=jnp.sign(batch.reward)) if config.targets.clip_rewards else batch


def floor_of(support, x):
    """The entropy of targets between two atoms: no cross-entropy is smaller."""
    probs = supports.two_hot(support, x)
    return -jnp.sum(probs * jnp.log(jnp.where(probs > 0, probs, 1.0)), axis=-1)


def overfit(config, num_updates):
    """Returns each loss above what it cannot fall below, before and after."""
    dtype = "bool" if config.model.torso == "relational" else "uint8"
    spec = tiny.spec(obs_shape=(SIDE, SIDE, 4), obs_dtype=dtype, num_actions=NUM_ACTIONS)
    unroll = config.targets.unroll_steps
    model = make_efficientzero(spec, config.model, num_unroll_steps=unroll)
    agent = make_actor_critic(spec, config.agent)
    search = make_search(model, agent, config.search, gamma=config.targets.gamma)
    make = make_targets(model, agent, search, config.targets)
    optimizer = make_optimizer(config.update, num_updates)
    init = functools.partial(init_params, model, agent)

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def prepare(batch):
        params = init(jax.random.key(0), batch.obs[:, 0])
        keys = jax.random.split(jax.random.key(1), (NUM_ROWS, config.targets.num_roots))
        # Of a network that says something, or all values would be 0 and all policies alike.
        dreams = make(tiny.shaken(params), batch, keys, return_spread=jnp.float32(1.0), progress=jnp.float32(1.0))
        return params, dreams, augment(config.augment, batch, jax.random.key(2), unroll_steps=unroll)

    params, dreams, seen = prepare(batch_of(config))
    loss = functools.partial(fit_loss, model=model, agent=agent, config=config.fit)

    @jax.jit
    def learn(learner):
        def once(learner, _):
            learner, metrics, _ = update(
                learner,
                lambda params: loss(params, jax.random.key(3), seen, dreams),
                dreams.value[:, 0],
                optimizer=optimizer,
                config=config.update,
            )
            return learner, metrics

        return jax.lax.scan(once, learner, length=num_updates)[1]

    metrics = learn(init_learner(params, optimizer))
    reward = prefix_targets(seen.reward, config.model.value_prefix) if config.model.value_prefix else seen.reward
    floors = {
        "reward_loss": (seen.valid * floor_of(config.model.reward_support, reward)).mean(),
        "continuation_loss": 0.0,
        "consistency_loss": -(seen.valid & ~seen.terminated).mean(),
        "policy_loss": 0.0,
        "value_loss": (dreams.value_weight * floor_of(config.agent.value_support, dreams.value)).mean(),
    }
    return dreams, {name: np.asarray(metrics[name] - floor) for name, floor in floors.items()}


@pytest.mark.learn
@pytest.mark.parametrize(
    ("name", "num_updates", "change"),
    [
        ("atari100k-v1", 400, {}),
        ("atari100k-v1", 400, {"bootstrap": "search"}),
        ("atari100k-v2", 400, {}),
        ("atari100k-v2", 400, {"value_prefix": 2}),  # restarted on the way
        ("minatar-100k", 1200, {}),
    ],
)
def test_one_batch_is_learned_by_heart(name, num_updates, change):
    config = small(name, num_updates)
    if "value_prefix" in change:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, **change))
    else:
        config = changed(config, **change)
    dreams, excess = overfit(config, num_updates)
    # The targets ask for something: no two states alike, and policies between certain and uniform.
    assert np.ptp(dreams.value[dreams.value_weight > 0]) > 1
    assert 0.4 < np.asarray(dreams.policy).max(axis=-1).mean() < 0.99
    for loss, above in excess.items():
        assert above[-1] < 0.03 and above[-1] < above[0] / 5, f"{loss} is {above[-1]} above its floor"


@pytest.mark.parametrize(("name", "consistency"), [("atari100k-v1", 2), ("atari100k-v2", 5)])
def test_what_an_untrained_network_loses_is_what_the_papers_weights_say(name, consistency):
    # Sums over positions times 1 / 5, and 601 atoms: five prefixes and similarities, six policies and values.
    config = small(name, 1)
    spec = tiny.spec(obs_shape=(SIDE, SIDE, 4), obs_dtype="uint8", num_actions=NUM_ACTIONS)
    model = make_efficientzero(spec, config.model, num_unroll_steps=5)
    agent = make_actor_critic(spec, config.agent)
    batch = batch_of(config)
    whole = jnp.ones_like(batch.valid)
    batch = batch.replace(valid=whole, terminated=~whole, weight=jnp.ones(NUM_ROWS))
    seen = augment(config.augment, batch, jax.random.key(2), unroll_steps=5)
    positions = (NUM_ROWS, 6)
    certain = jax.nn.one_hot(jnp.ones(positions, jnp.int32), NUM_ACTIONS)
    dreams = DreamTargets(certain, jnp.ones(positions), jnp.full(positions, 1.5), jnp.ones(positions))

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def lost(batch, seen, dreams):
        params = init_params(model, agent, jax.random.key(0), batch.obs[:, 0])
        return fit_loss(params, jax.random.key(3), seen, dreams, model=model, agent=agent, config=config.fit)

    loss, (metrics, _) = lost(batch, seen, dreams)
    told = np.log(601) + 6 / 5 * np.log(NUM_ACTIONS) + 0.25 * 6 / 5 * np.log(601) + np.log(2)  # and going on
    np.testing.assert_allclose(loss, told + consistency * metrics["consistency_loss"], rtol=1e-5)
    assert -1 <= metrics["consistency_loss"] <= 1
