import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.classic_control.cartpole import EnvState
from jax.flatten_util import ravel_pytree

from agents.acting import make_planner, make_student
from dreamer.core.ports import Agent
from dreamer.core.types import Evaluation, Params
from dreamer.sleep.search import SearchConfig, make_search
from dreamer.wake import Deployed
from dreamer.wake.envs import EnvConfig, make_jax, showing_state
from dreamer.wake.session import begin, episode_returns, live
from experiments import run
from tests import runs, tiny, toys
from world_models.efficientzero import make_efficientzero
from world_models.oracle import make_oracle, make_seen_oracle

NUM_ENVS, NUM_STEPS, LIMIT = 3, 60, 25


def cartpole_state(obs):
    """The state that CartPole shows in full, but for its clock."""
    return EnvState(time=jnp.int32(0), x=obs[0], x_dot=obs[1], theta=obs[2], theta_dot=obs[3])


def lived_cartpole():
    """Returns the environment and [E, T] transitions of a policy that balances for a while, with both kinds of end."""
    env = make_jax(EnvConfig("CartPole-v1", "gymnax", num_envs=NUM_ENVS, max_steps=LIMIT))

    def act(params, keys, obs, action_mask, memory):
        balances = (obs[:, 2] + obs[:, 3] > 0).astype(jnp.int32)
        return jnp.where(jnp.arange(NUM_ENVS) < 2, balances, 1), memory  # the last copy always goes right and falls

    @jax.jit
    def run():
        state = begin(env, seed=0, num_envs=NUM_ENVS)
        return live(env, act, None, state, seed=0, num_steps=NUM_STEPS)[1]

    return env, jax.tree.map(lambda leaf: np.swapaxes(leaf, 0, 1), run())


def test_dreams_what_really_happened_in_cartpole():
    env, real = lived_cartpole()
    assert real.terminated.any() and real.truncated.any()
    model = make_oracle(env, cartpole_state, num_unroll_steps=5)

    @jax.jit
    def dream(obs, action):
        return model.step({}, model.observe({}, obs), action)

    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), real)
    latent, reward, continuation = dream(flat.obs, flat.action)
    np.testing.assert_allclose(reward, flat.reward)
    np.testing.assert_array_equal(continuation, 1.0 - flat.terminated)  # 1 at truncations
    shown = np.stack([latent.x, latent.x_dot, latent.theta, latent.theta_dot], axis=1)
    np.testing.assert_allclose(shown, flat.next_obs, atol=1e-5)

    rows = slice(0, 5)  # no episode is shorter
    batch = tiny.sequence(np.concatenate([real.obs[:, rows], real.next_obs[:, 4:5]], axis=1), real.action[:, rows])
    latents, loss, metrics = jax.jit(model.unroll)({}, None, batch)
    np.testing.assert_allclose(latents.theta, batch.obs[..., 2], atol=1e-5)
    np.testing.assert_array_equal(loss, np.zeros(NUM_ENVS))
    assert metrics == {}


def test_an_end_is_told_and_a_time_limit_is_not():
    env = toys.corridor(2)
    model = make_oracle(env, lambda obs: (jnp.argmax(obs).astype(jnp.int32), jnp.int32(0)), num_unroll_steps=1)
    latent = model.observe({}, jnp.eye(2))
    (cell, _), reward, continuation = model.step({}, latent, jnp.array([1, 1]))
    np.testing.assert_array_equal(cell, [1, 2])
    np.testing.assert_array_equal(reward, [0, 1])
    np.testing.assert_array_equal(continuation, [1, 0])
    clock = (jnp.zeros(1, jnp.int32), jnp.full(1, 7, jnp.int32))  # the eighth decision is the last
    np.testing.assert_array_equal(model.step({}, clock, jnp.array([0]))[2], [1])


def test_a_world_of_chance_is_refused():
    def state_of(obs):
        return (jnp.stack([obs[0], obs[2], obs[3]]), obs[1])

    with pytest.raises(ValueError, match="chance decides the observation of counting's first step"):
        make_oracle(toys.counting(), state_of, num_unroll_steps=1)


def test_a_state_read_wrongly_is_refused():
    env = toys.obs_and_action()
    with pytest.raises(ValueError, match="the observation of obs-and-action's first step differs from the state"):
        make_oracle(env, lambda obs: (-obs, jnp.int32(0)), num_unroll_steps=1)


def test_a_seen_oracle_knows_the_world_and_shows_what_the_eye_sees():
    env = toys.corridor(4)
    shown = showing_state(env)
    eye = make_efficientzero(env.spec, tiny.MODEL, num_unroll_steps=2)
    model = make_seen_oracle(env, eye, num_unroll_steps=2)
    states = (jnp.array([0, 1, 2, 3]), jnp.zeros(4, jnp.int32))
    whole = jax.vmap(lambda cell, clock: shown.env.step(None, (cell, clock), jnp.int32(0))[1])(*states)  # a step left
    params = tiny.shaken(model.init(jax.random.key(0), whole))
    latent = model.observe(params, whole)
    np.testing.assert_array_equal(latent.recurrent[0], [0, 0, 1, 2])
    np.testing.assert_allclose(latent.state, eye.observe(params, jnp.eye(4)[jnp.array([0, 0, 1, 2])]).state, atol=1e-5)
    after, reward, continuation = model.step(params, latent, jnp.array([1, 1, 1, 1]))
    np.testing.assert_array_equal(after.recurrent[0], [1, 1, 2, 3])
    np.testing.assert_allclose(after.state, eye.observe(params, jnp.eye(4)[jnp.array([1, 1, 2, 3])]).state, atol=1e-5)
    last, reward, continuation = model.step(params, after, jnp.array([0, 1, 1, 1]))
    np.testing.assert_array_equal(reward, [0, 0, 0, 1])
    np.testing.assert_array_equal(continuation, [1, 1, 1, 0])

    batch = tiny.sequence(np.stack([whole] * 3, axis=1), np.array([[1, 0]] + [[1, 1]] * 3))
    latents, loss, metrics = model.unroll(params, None, batch)
    jax.tree.map(
        lambda row, *steps: np.testing.assert_allclose(row, np.stack(steps, axis=1), atol=1e-5),
        latents, latent, after, last,
    )  # fmt: skip
    assert not loss.any() and metrics == {}
    # The eye learns from what is made of its latents, and from nothing else does anything learn.
    slope = jax.grad(lambda params: model.unroll(params, None, batch)[0].state.sum())(params)
    moved = {name: any(leaf.any() for leaf in jax.tree.leaves(part)) for name, part in slope.items()}
    assert moved == {"encoder": True, "dynamics": False, "projector": False}


@pytest.mark.learn
def test_a_run_in_the_true_dynamics_dreams_what_happens(tmp_path):
    env = EnvConfig("CartPole-v1", "gymnax", num_envs=2, oracle=True)
    result = run(runs.config(folder=tmp_path / "run", env=env))
    assert np.all(result.honesty.reward_error == 0) and np.all(result.honesty.continuation_error == 0)
    assert result.honesty.num_compared[-1] > 0 and np.isfinite(result.student).all()
    agent = Deployed.load(result.folder / "deployed.safetensors")
    seen = np.asarray(make_jax(env).reset(jax.random.key(0))[1])
    other = np.concatenate([np.full(len(seen) - 16, 1, np.uint8), seen[-16:]])  # the same observation, another state
    assert agent.act(seen) == agent.act(other)


def shown_whole(env):
    """Returns the environment with its state, laid out flat, for an observation; and what reads it back."""
    state, _ = jax.jit(env.reset)(jax.random.key(0))
    flat, state_of = ravel_pytree(state)

    def reset(key):
        state, _ = env.reset(key)
        return state, ravel_pytree(state)[0]

    def step(key, state, action):
        state, _, *rest = env.step(key, state, action)
        return state, ravel_pytree(state)[0], *rest

    spec = dataclasses.replace(env.spec, obs_shape=flat.shape, obs_dtype=flat.dtype.name)
    return env._replace(spec=spec, reset=reset, restart=lambda key, state: reset(key), step=step), state_of


def glad_to_live(num_actions):
    """An agent that knows nothing of what to do, and of a state only that to be alive in it is worth 1."""

    def evaluate(params, memory, latent):
        value = jnp.ones(len(jax.tree.leaves(latent)[0]))
        return Evaluation(jnp.zeros((len(value), num_actions)), value, value[:, None])

    return Agent(init=None, evaluate=evaluate, value_loss=None, remember=None)


def test_search_in_the_true_dynamics_of_breakout_plays_better_than_its_prior():
    env, state_of = shown_whole(make_jax(EnvConfig("Breakout-MinAtar", "gymnax")))
    model, agent = make_oracle(env, state_of, num_unroll_steps=1), glad_to_live(env.spec.num_actions)
    search = make_search(model, agent, SearchConfig(num_simulations=32, relative_q_range=0.0), gamma=0.99)

    def play(act):
        actor = (Params({}, {}), 0.0, 0.0)
        returns = jax.jit(lambda: episode_returns(env, act, actor, seed=0, num_episodes=16, max_steps=100))()
        return np.asarray(returns)

    # Both explore, or all episodes would be one of two: only the ball's side is drawn.
    student = play(make_student(model, agent, greedy=False))
    planner = play(make_planner(model, agent, search, greedy=False))
    assert student.mean() < 0.75
    assert planner.mean() > 1.5 and planner.mean() > 3 * student.mean()
    assert planner.max() >= 4
