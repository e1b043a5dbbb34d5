import functools
import importlib.util

import gymnasium as gym
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.wake.envs import EnvConfig, HostFromJax, is_jax, make_host, make_jax
from dreamer.wake.host_session import HostSession
from dreamer.wake.session import begin, live
from tests import toys

MINATAR = [f"{game}-MinAtar" for game in ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")]


def balance(params, keys, obs, action_mask, memory):
    """Keeps CartPole up: push towards where the pole falls, and a little towards the middle."""
    x, x_dot, theta, theta_dot = obs.T
    return (theta + 0.5 * theta_dot + 0.02 * x + 0.05 * x_dot > 0).astype(jnp.int32), memory


def push_right(params, keys, obs, action_mask, memory):
    return jnp.ones(obs.shape[0], jnp.int32), memory


def first_end(tape, copy):
    """Returns (decisions of the first episode, terminated, truncated)."""
    ended = np.asarray(tape.terminated[:, copy] | tape.truncated[:, copy])
    last = int(ended.argmax())
    assert ended[last]
    return last + 1, bool(tape.terminated[last, copy]), bool(tape.truncated[last, copy])


@functools.cache
def cartpole_tape(suite, act, num_steps, max_steps=None):
    config = EnvConfig(id="CartPole-v1", suite=suite, num_envs=2, max_steps=max_steps)
    if not is_jax(config):
        session = HostSession(make_host(config, seed=0), jax.jit(act), seed=0)
        session.begin()
        return session.live(None, num_steps)
    env = make_jax(config)
    state = jax.jit(functools.partial(begin, env, seed=0, num_envs=2))()
    return jax.device_get(jax.jit(functools.partial(live, env, act, seed=0, num_steps=num_steps))(None, state)[1])


@pytest.mark.parametrize("suite", ["gymnax", "gymnasium"])
def test_cartpole_is_truncated_by_its_clock_and_terminated_by_its_fall(suite):
    tape = cartpole_tape(suite, balance, 500)
    assert first_end(tape, 0) == first_end(tape, 1) == (500, False, True)
    assert tape.reward.sum() == 1000
    decisions, terminated, truncated = first_end(cartpole_tape(suite, push_right, 20), 0)
    assert decisions < 20 and terminated and not truncated


@pytest.mark.parametrize("suite", ["gymnax", "gymnasium"])
def test_the_last_observation_is_seen_before_the_reset(suite):
    tape = cartpole_tape(suite, push_right, 20)
    decisions, _, _ = first_end(tape, 0)
    assert abs(tape.next_obs[decisions - 1, 0, 2]) > 0.2  # fallen
    assert abs(tape.obs[decisions, 0, 2]) < 0.05  # begun anew
    within = slice(0, decisions - 1)
    np.testing.assert_array_equal(tape.next_obs[within, 0], tape.obs[1:decisions, 0])


@pytest.mark.parametrize("suite", ["gymnax", "gymnasium"])
def test_max_steps_truncates_and_termination_wins_over_it(suite):
    assert first_end(cartpole_tape(suite, balance, 20, max_steps=7), 0) == (7, False, True)
    decisions, _, _ = first_end(cartpole_tape(suite, push_right, 20), 0)
    assert first_end(cartpole_tape(suite, push_right, 20, max_steps=decisions), 0) == (decisions, True, False)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Catch-bsuite", "DeepSea-bsuite", "Acrobot-v1", *MINATAR])
def test_gymnax_types_are_strong_and_keep_from_reset_to_step(env_id):
    env = make_jax(EnvConfig(id=env_id, suite="gymnax"))
    assert env.max_steps is not None
    state, obs = jax.eval_shape(env.reset, jax.random.key(0))
    assert (obs.shape, obs.dtype.name) == (env.spec.obs_shape, env.spec.obs_dtype)
    assert (env.spec.obs_dtype == "bool") == (env_id in MINATAR)
    after = jax.eval_shape(env.step, jax.random.key(0), state, jnp.int32(0))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, obs, after)))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after[:2]) == jax.tree.map(
        lambda x: (x.shape, x.dtype), (state, obs)
    )
    assert [leaf.dtype.name for leaf in after[2:]] == ["float32", "bool", "bool"]
    assert jax.eval_shape(env.action_mask, state).shape == (env.spec.num_actions,)


def test_deep_sea_ends_by_termination_after_size_decisions():
    env = make_jax(EnvConfig(id="DeepSea-bsuite", suite="gymnax", kwargs=(("size", 4),)))
    step = jax.jit(env.step)
    state, obs = env.reset(jax.random.key(0))
    assert obs.shape == (4, 4) and env.max_steps == 4
    rewards = []
    for row in range(4):
        right = state.action_mapping[state.row, state.column]
        state, obs, reward, terminated, truncated = step(jax.random.key(row), state, right)
        rewards.append(reward)
        assert (bool(terminated), bool(truncated)) == (row == 3, False)
    np.testing.assert_allclose(sum(rewards), 0.99, rtol=1e-6)


def test_gymnax_kwargs_reach_constructor_or_parameters():
    kwargs = (("size", 3), ("randomize_actions", False))
    env = make_jax(EnvConfig(id="DeepSea-bsuite", suite="gymnax", kwargs=kwargs))
    state, _ = env.reset(jax.random.key(0))
    assert state.action_mapping.shape == (3, 3) and state.action_mapping.all()
    with pytest.raises(ValueError, match=r"kwargs \{'sice': 3\} do not fit DeepSea-bsuite"):
        make_jax(EnvConfig(id="DeepSea-bsuite", suite="gymnax", kwargs=(("sice", 3),)))


def test_the_installed_gymnax_is_gymnax():
    # stable_gymnax, which some environment packages pull in, overwrites it with a 5-tuple and without truncation.
    env, params = gymnax.make("CartPole-v1")
    obs, state = env.reset(jax.random.key(0), params)
    assert len(env.step(jax.random.key(0), state, 0, params)) == 6


def test_gymnax_grids_can_be_drawn_and_vectors_cannot():
    env = make_jax(EnvConfig(id="Catch-bsuite", suite="gymnax"))
    frame = env.render(env.reset(jax.random.key(0))[0])
    assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) == 3  # grid lines, empty, full
    host = HostFromJax(env, num_envs=2, seed=0)
    host.reset(np.ones(2, bool), [0, 0])
    assert host.render(1).shape == frame.shape
    env = make_jax(EnvConfig(id="CartPole-v1", suite="gymnax"))
    assert env.render(env.reset(jax.random.key(0))[0]) is None


def test_gymnasium_episodes_depend_on_seed_copy_and_episode_only():
    def reset(num_envs, seed, episode):
        env = make_host(EnvConfig(id="CartPole-v1", suite="gymnasium", num_envs=num_envs), seed)
        return env.reset(np.ones(num_envs, bool), np.full(num_envs, episode))

    np.testing.assert_array_equal(reset(1, 3, 5)[0], reset(4, 3, 5)[0])
    starts = np.concatenate([reset(4, 3, 5), reset(4, 3, 6), reset(4, 4, 5)])
    assert len(np.unique(starts, axis=0)) == 12


def test_gymnasium_resets_flagged_copies_only():
    env = make_host(EnvConfig(id="CartPole-v1", suite="gymnasium", num_envs=3), 0)
    with pytest.raises(ValueError, match="first reset must start every copy"):
        env.reset(np.array([True, False, True]), [0, 0, 0])
    env.reset(np.ones(3, bool), [0, 0, 0])
    stepped, *_ = env.step(np.array([0, 1, 0]))
    obs = env.reset(np.array([False, True, False]), [0, 1, 0])
    assert (obs == stepped).all(axis=1).tolist() == [True, False, True]


class Faulty(gym.Env):
    """Does `fault` at its third step; actions are 1 and 2."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float64)
    action_space = gym.spaces.Discrete(2, start=1)

    def __init__(self, fault="none"):
        self.fault = fault

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_count = 0
        return np.zeros(2), {}

    def step(self, action):
        assert action in (1, 2)
        self.step_count += 1
        obs, reward = np.array([action, 0.0]), 1.0
        if self.step_count == 3:
            if self.fault == "nan":
                obs[1] = np.nan
            elif self.fault == "shape":
                obs = np.zeros(3)
            elif self.fault == "dtype":
                obs = np.zeros(2, complex)
            elif self.fault == "reward":
                reward = float("inf")
        return obs, reward, self.step_count == 4, self.step_count == 4, {}


@pytest.fixture
def faulty():
    gym.register("Faulty-v0", entry_point=Faulty)
    yield lambda fault: make_host(EnvConfig("Faulty-v0", "gymnasium", num_envs=2, kwargs=(("fault", fault),)), 0)
    del gym.registry["Faulty-v0"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", r"Faulty-v0, copy 0, step 3: the observation holds NaN or infinity: \[ ?1\. nan\]"),
        ("shape", r"Faulty-v0, copy 0, step 3: the observation has shape \(3,\), but the space declares \(2,\)"),
        ("dtype", r"Faulty-v0, copy 0, step 3: the observation has dtype complex128, but the space declares float64"),
        ("reward", r"Faulty-v0, copy 0, step 3: the reward is inf"),
    ],
)
def test_a_gymnasium_copy_that_breaks_its_word_is_named(faulty, fault, message):
    env = faulty(fault)
    env.reset(np.ones(2, bool), [0, 0])
    for _ in range(2):
        env.step(np.array([0, 1]))
    with pytest.raises(ValueError, match=message):
        env.step(np.array([0, 1]))


def test_actions_may_start_anywhere_and_64_bits_become_32(faulty):
    env = faulty("none")
    assert (env.spec.num_actions, env.spec.obs_dtype, env.max_steps) == (2, "float32", None)
    assert env.reset(np.ones(2, bool), [0, 0]).dtype == np.float32
    for _ in range(4):
        obs, reward, terminated, truncated = env.step(np.array([0, 1]))
    np.testing.assert_array_equal(obs[:, 0], [1.0, 2.0])
    assert (obs.dtype, reward.dtype) == (np.float32, np.float32)
    assert terminated.all() and not truncated.any()  # both flags were up
    assert env.render(0) is None
    env.close()


@pytest.mark.parametrize(
    ("suite", "env_id", "message"),
    [
        ("gymnasium", "FrozenLake-v1", r"FrozenLake-v1 has observations Discrete\(16\); supported: a Box observation"),
        ("gymnasium", "Blackjack-v1", r"Blackjack-v1 has observations Tuple\(.*; supported: a Box observation"),
        ("gymnasium", "Pendulum-v1", r"Pendulum-v1 has actions Box\(.*; supported: .* Discrete actions"),
        ("gymnax", "Pendulum-v1", r"Pendulum-v1 has actions Box; supported: Discrete"),
        ("gymnasium", "CartPol-v1", r"unknown gymnasium environment 'CartPol-v1'; did you mean: CartPole-v1"),
        ("gymnax", "Breakout", r"unknown gymnax environment 'Breakout'; did you mean: Breakout-MinAtar"),
    ],
)
def test_what_is_not_supported_is_said_once_and_clearly(suite, env_id, message):
    with pytest.raises(ValueError, match=message):
        make_host(EnvConfig(id=env_id, suite=suite), 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_envs": 0}, "num_envs is 0: a session needs at least one environment"),
        ({"max_steps": 0}, "max_steps is 0: set 1 or more"),
        ({"frame_stack": 0}, "frame_stack is 0: set 1 frame"),
        ({"suite": "gymnaks"}, "unknown suite 'gymnaks'; did you mean: .*gymnax"),
    ],
)
def test_a_wrong_configuration_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        EnvConfig(**{"id": "CartPole-v1", "suite": "gymnax", **fields})


def test_host_suites_have_no_jax_environment():
    with pytest.raises(ValueError, match="runs on the host: make CartPole-v1 with make_host"):
        make_jax(EnvConfig(id="CartPole-v1", suite="gymnasium"))


def test_without_jumanji_the_error_names_the_command():
    if importlib.util.find_spec("jumanji"):
        pytest.skip("jumanji is installed")
    with pytest.raises(ImportError, match=r"pip install -r requirements-jumanji\.txt"):
        make_jax(EnvConfig(id="sliding-tile", suite="jumanji"))


def test_sliding_tile():
    pytest.importorskip("jumanji")
    env = make_jax(EnvConfig(id="sliding-tile", suite="jumanji", max_steps=30))
    assert (env.spec.obs_shape, env.spec.obs_dtype, env.max_steps) == ((3, 3, 9), "bool", 30)

    def random_act(params, keys, obs, action_mask, memory):
        return jax.vmap(jax.random.categorical)(keys, jnp.where(action_mask, 0.0, -jnp.inf)), memory

    step = jax.jit(functools.partial(live, env, random_act, seed=0, num_steps=60), donate_argnums=1)
    state, tape = step(None, jax.jit(functools.partial(begin, env, seed=0, num_envs=16))())
    assert step._cache_size() == 1
    assert (tape.obs.sum(axis=-1) == 1).all() and (tape.obs.sum(axis=(2, 3)) == 1).all()
    assert (tape.obs != tape.next_obs).any(axis=(2, 3, 4)).all()  # a move that is allowed changes the board
    solved = tape.next_obs.argmax(axis=-1).reshape(60, 16, 9) == jnp.array([[[1, 2, 3, 4, 5, 6, 7, 8, 0]]])
    np.testing.assert_array_equal(tape.terminated, solved.all(axis=-1))
    np.testing.assert_array_equal(tape.reward, tape.terminated.astype(np.float32))
    assert tape.terminated.any() and tape.truncated.any()
    corner = tape.obs[:, :, 0, 0, 0]
    np.testing.assert_array_equal(tape.action_mask.sum(axis=-1)[corner], 2)
    assert env.render(jax.tree.map(lambda leaf: leaf[0], state.env_state)).shape == (72, 72, 3)


PROBES = [toys.constant_reward, toys.predictable_reward, toys.delayed_reward, toys.action_matters, toys.obs_and_action]


@pytest.mark.parametrize("probe", PROBES)
def test_probes_give_the_return_that_is_known(probe):
    env = probe()
    state, obs = env.reset(jax.random.key(1))
    first, total, terminated = obs, 0.0, False
    while not terminated:
        action = jnp.int32(obs[0] > 0) if probe is toys.obs_and_action else jnp.int32(env.spec.num_actions - 1)
        state, obs, reward, terminated, truncated = env.step(jax.random.key(2), state, action)
        total += reward
        assert not truncated
    assert total == (first[0] if probe is toys.predictable_reward else 1.0)


def test_corridor_is_truncated_where_nobody_leaves_it():
    env = toys.corridor(2)
    state, _ = env.reset(jax.random.key(0))
    for t in range(8):
        state, obs, reward, terminated, truncated = env.step(jax.random.key(0), state, jnp.int32(0))
        assert (bool(terminated), bool(truncated), float(reward)) == (False, t == 7, 0.0)
    np.testing.assert_array_equal(obs, [1.0, 0.0])


@pytest.mark.parametrize(
    ("suite", "game"), [("gymnax", "CartPole-v1"), ("gymnax", "Freeway-MinAtar"), ("gymnasium", "CartPole-v1")]
)
def test_stacks_hold_the_frames_that_were_seen(suite, game):
    """Of two copies, one of which begins anew: what is seen now comes last, and a start is seen as if it had lasted."""
    plain, looking = (make_host(EnvConfig(game, suite, num_envs=2, frame_stack=k), seed=3) for k in (1, 3))
    *sides, size = plain.spec.obs_shape
    assert looking.spec.obs_shape == (*sides, 3 * size) and looking.spec.frame_stack == 3
    assert (looking.spec.obs_dtype, looking.spec.id) == (plain.spec.obs_dtype, game)
    both, second = np.array([True, True]), np.array([False, True])
    frame, seen = (env.reset(both, [0, 0]) for env in (plain, looking))
    lived = [frame] * 3
    np.testing.assert_array_equal(seen, np.concatenate(lived, axis=-1))
    for tick, action in enumerate(np.random.default_rng(0).integers(0, 2, (6, 2))):
        (frame, *told), (seen, *told_looking) = plain.step(action), looking.step(action)
        lived = [*lived[1:], frame]
        np.testing.assert_array_equal(seen, np.concatenate(lived, axis=-1))
        for mine, other in zip(told, told_looking, strict=True):
            np.testing.assert_array_equal(mine, other)
        if tick == 3:
            frame, seen = (env.reset(second, [0, 1]) for env in (plain, looking))
            lived = [np.where(second.reshape(-1, *[1] * (frame.ndim - 1)), frame, before) for before in lived]
            np.testing.assert_array_equal(seen, np.concatenate(lived, axis=-1))
    for env in (plain, looking):
        env.close()
