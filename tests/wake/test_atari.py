import dataclasses
import importlib.metadata
import importlib.util

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.wake import recorded
from dreamer.wake.envs import AtariConfig, EnvConfig, for_evaluation, is_jax, make_host, make_jax
from dreamer.wake.envs.base import episode_seed
from dreamer.wake.host_session import HostSession

SMALL = AtariConfig(size=24, grey=True, noop_max=0)
SEED, FIRE = 5, 1


def atari(game="Breakout", *, num_envs=1, seed=SEED, max_steps=None, frame_stack=3, **changes):
    pytest.importorskip("ale_py")
    settings = dataclasses.replace(SMALL, **changes)
    return make_host(EnvConfig(f"ALE/{game}-v5", "atari", num_envs, max_steps, frame_stack, atari=settings), seed)


def begin(env, episode=0):
    return env.reset(np.ones(env.num_envs, bool), [episode] * env.num_envs)


def assert_is_a_start(obs, num_frames):
    """An observation [H, W, F * C] is F times one frame."""
    height, width, channels = obs.shape
    frames = obs.reshape(height, width, num_frames, channels // num_frames)
    assert (frames == frames[:, :, :1]).all() and frames.any()


def play(env, actions, episode=0):
    """One copy plays one episode; returns all observations, rewards, and the flags of the last step."""
    pictures, rewards = [begin(env, episode)[0]], []
    for action in actions:
        obs, reward, terminated, truncated = env.step(np.full(env.num_envs, action))
        pictures.append(obs[0])
        rewards.append(reward[0])
        if terminated[0] or truncated[0]:
            break
    return np.stack(pictures), np.array(rewards), (bool(terminated[0]), bool(truncated[0]))


def fire(env):
    """Serves without ever moving until an episode ends; returns the decisions, or 400 where it did not end."""
    for decision in range(1, 401):
        obs, _, terminated, truncated = env.step(np.array([FIRE]))
        if terminated.any() or truncated.any():
            return decision, obs, bool(terminated[0]), bool(truncated[0])
    return decision, obs, False, False


class Waiting(gym.Wrapper):
    """Lets so many frames pass without an action before an episode."""

    def __init__(self, env, num_frames):
        super().__init__(env)
        self.num_frames = num_frames

    def reset(self, **options):
        outcome = self.env.reset(**options)
        for _ in range(self.num_frames):
            outcome = self.env.step(0)[:1] + outcome[1:]
        return outcome


@pytest.mark.parametrize(("size", "grey"), [(96, False), (84, True)])
@pytest.mark.parametrize("game", ["Pong", "Breakout"])
def test_the_frames_are_those_of_gymnasiums_own_preprocessing(game, size, grey):
    pytest.importorskip("cv2")
    env = atari(game, size=size, grey=grey, frame_stack=4, noop_max=30, life_loss_ends=False)
    from ale_py import AtariVectorEnv

    twin = AtariVectorEnv(game.lower(), 1, noop_max=31, use_fire_reset=False)
    num_noops = int(twin.reset(seed=episode_seed(SEED, 0, 0))[1]["episode_frame_number"][0])
    assert 0 < num_noops <= 30
    chain = gym.make(f"ALE/{game}-v5", frameskip=1, repeat_action_probability=0.0)
    chain = gym.wrappers.AtariPreprocessing(
        Waiting(chain, num_noops), noop_max=0, screen_size=size, grayscale_obs=grey, grayscale_newaxis=True
    )
    chain = gym.wrappers.FrameStackObservation(chain, 4)

    def beside(stack):  # [F, H, W, C] -> [H, W, F * C]
        return np.moveaxis(stack, 0, 2).reshape(env.spec.obs_shape)

    np.testing.assert_array_equal(begin(env)[0], beside(chain.reset(seed=0)[0]))
    actions, total = np.random.default_rng(1).integers(env.spec.num_actions, size=100), 0.0
    for action in actions:
        obs, reward, terminated, truncated = env.step(action[None])
        expected, expected_reward, *ended, _ = chain.step(action)
        np.testing.assert_array_equal(obs[0], beside(expected))
        assert (reward[0], [terminated[0], truncated[0]]) == (expected_reward, ended)
        total += abs(expected_reward)
    assert total > 0


def test_what_the_spec_says():
    env = atari("Pong", num_envs=2, grey=False, frame_stack=4)
    assert (env.spec.obs_shape, env.spec.obs_dtype, env.spec.frame_stack) == ((24, 24, 12), "uint8", 4)
    assert (env.spec.num_actions, env.max_steps, env.num_envs) == (6, 27_000, 2)
    assert env.spec.version == importlib.metadata.version("ale-py")
    assert atari("Pong", full_actions=True).spec.num_actions == 18
    obs = begin(env)
    assert (obs.shape, obs.dtype) == ((2, 24, 24, 12), np.uint8)
    assert env.action_mask().shape == (2, 6) and env.action_mask().all()
    np.testing.assert_array_equal(env.render(1)[::2, ::2], obs[1, ..., -3:])
    grey = atari("Pong")
    obs = begin(grey)
    assert (obs.shape, grey.render(0).shape, grey.render(0).dtype) == ((1, 24, 24, 3), (48, 48, 3), np.uint8)
    with pytest.raises(ValueError, match=r"ALE/Pong-v5 has actions 0 to 5, got \[6\]"):
        grey.step(np.array([6]))


def test_a_stack_begins_with_copies_and_moves_by_one_frame():
    pictures, *_ = play(atari(grey=False, frame_stack=4), [FIRE, 2, 2, 3, 3, 0])
    assert_is_a_start(pictures[0], 4)
    for before, after in zip(pictures, pictures[1:], strict=False):
        np.testing.assert_array_equal(after[..., :-3], before[..., 3:])
    assert (pictures[-1][..., -3:] != pictures[-1][..., :3]).any()


def test_rewards_are_the_games_own():
    left = 3
    _, rewards, _ = play(atari("MsPacman", frame_skip=20), [left] * 20)
    assert rewards.dtype == np.float32 and (rewards % 10 == 0).all()
    assert rewards.max() >= 20  # a dot is worth 10, and a decision eats more than one


def test_a_lost_life_ends_an_episode_and_not_the_game():
    training, evaluation = atari(), atari(life_loss_ends=False)
    begin(training), begin(evaluation)
    lengths = []
    for life in range(5):
        length, seen, terminated, truncated = fire(training)
        assert (terminated, truncated) == (True, False)
        lengths.append(length)
        for decision in range(length):
            obs, _, ended, _ = evaluation.step(np.array([FIRE]))
            assert ended[0] == (life == 4 and decision == length - 1)  # whole games end with the last life
        np.testing.assert_array_equal(obs[..., -1], seen[..., -1])
        after = training.reset(np.ones(1, bool), [life + 1])
        assert_is_a_start(after[0], 3)
        if life < 4:  # the same game, one decision without an action later
            obs, *_ = evaluation.step(np.array([0]))
            np.testing.assert_array_equal(after[..., -1], obs[..., -1])
    np.testing.assert_array_equal(after, begin(atari(), episode=5))  # a new game, of its own seed
    assert fire(training)[0] == lengths[0]


def test_another_episode_than_the_next_is_a_new_game():
    env = atari(noop_max=30)
    start = begin(env, episode=3)
    fire(env)
    np.testing.assert_array_equal(begin(env, episode=3), start)  # to live it again
    fire(env)
    np.testing.assert_array_equal(begin(env, episode=7), begin(atari(noop_max=30), episode=7))
    env.step(np.array([FIRE]))
    np.testing.assert_array_equal(begin(env, episode=8), begin(atari(noop_max=30), episode=8))  # in mid-episode


def test_the_limit_truncates_and_shows_the_true_last_frames():
    actions = [FIRE, 2, 3, 2, 3, 3, 3, 3]
    free, *_ = play(atari(), actions)
    for env in (atari(max_steps=6), atari(max_frames=27), atari(max_steps=6, max_frames=8)):
        assert env.max_steps == 6
        pictures, _, ended = play(env, actions)
        assert ended == (False, True)
        np.testing.assert_array_equal(pictures, free[:7])
        np.testing.assert_array_equal(begin(env, episode=1), begin(atari(), episode=1))


def test_the_limit_is_that_of_a_game_and_never_of_an_end():
    env = atari()
    begin(env)
    length, *_ = fire(env)
    longer = atari(max_steps=length + 3)
    begin(longer)
    assert fire(longer)[0] == length
    begin(longer, episode=1)
    decisions, _, *ended = fire(longer)
    assert (decisions, ended) == (3, [False, True])
    exact = atari(max_steps=length)
    begin(exact)
    decisions, _, *ended = fire(exact)
    assert (decisions, ended) == (length, [True, False])
    np.testing.assert_array_equal(begin(exact, episode=1), begin(atari(), episode=1))  # no time left in that game


@pytest.mark.parametrize("sticky", [0.0, 0.5])
def test_a_game_follows_from_seed_copy_and_episode(sticky):
    actions = np.random.default_rng(1).integers(4, size=20)
    settings = dict(sticky_actions=sticky, noop_max=30)
    once, *_ = play(atari(**settings), actions, episode=2)
    env = atari(**settings)
    play(env, actions[::-1], episode=1)
    np.testing.assert_array_equal(play(env, actions, episode=2)[0], once)
    assert (play(env, actions, episode=3)[0] != once).any()
    assert (play(atari(seed=SEED + 1, **settings), actions, episode=2)[0] != once).any()


def test_sticky_actions_are_sometimes_another_and_frames_wait_at_the_start():
    actions = np.random.default_rng(1).integers(4, size=20)
    assert (play(atari(), actions)[0] == play(atari(), actions, episode=1)[0]).all()  # nothing is left to chance
    assert (play(atari(), actions)[0] != play(atari(sticky_actions=0.5), actions)[0]).any()
    assert (play(atari(), actions)[0] != play(atari(noop_max=30), actions)[0]).any()


def test_copies_do_not_touch_each_other():
    rng = np.random.default_rng(2)
    alone, beside = atari(noop_max=30), atari(num_envs=3, noop_max=30)
    np.testing.assert_array_equal(begin(alone)[0], begin(beside)[0])
    for decision in range(30):
        actions = rng.integers(4, size=3)
        obs, reward, *_ = beside.step(actions)
        expected, expected_reward, *_ = alone.step(actions[:1])
        np.testing.assert_array_equal(obs[0], expected[0])
        assert reward[0] == expected_reward[0]
        if decision % 10 == 9:
            kept = obs.copy()
            after = beside.reset(np.array([False, True, False]), [0, decision, 0])
            np.testing.assert_array_equal(obs, kept)  # what was handed out stays
            np.testing.assert_array_equal(after[[0, 2]], obs[[0, 2]])
            assert_is_a_start(after[1], 3)
    with pytest.raises(ValueError, match="first reset must start every copy"):
        atari(num_envs=2).reset(np.array([True, False]), [0, 0])


def test_an_interrupted_step_leaves_nothing_behind(monkeypatch):
    env = atari(num_envs=2)
    begin(env)
    from ale_py import AtariVectorEnv

    receive, calls = AtariVectorEnv.recv, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return receive(self)

    with monkeypatch.context() as patch:
        patch.setattr(AtariVectorEnv, "recv", interrupted)
        with pytest.raises(KeyboardInterrupt):
            env.step(np.array([2, 3]))
    fresh = atari(num_envs=2)
    np.testing.assert_array_equal(begin(env), begin(fresh))
    actions = np.array([FIRE, FIRE])
    np.testing.assert_array_equal(env.step(actions)[0], fresh.step(actions)[0])


def always_fire(params, keys, obs, action_mask, memory):
    return jnp.full(obs.shape[0], FIRE, jnp.int32), memory


def host_days():
    env = atari(num_envs=2, noop_max=30, frame_skip=8)
    days = recorded.HostDays(HostSession(env, always_fire, seed=SEED))
    days.begin()
    return days


def test_a_first_life_is_brought_back_and_a_later_one_begins_anew():
    first = host_days()
    tape = [first.live(None, 4) for _ in range(8)]
    episodes = np.cumsum(np.concatenate([day.terminated for day in tape]), axis=0)
    assert (episodes[3] == 0).all() and (episodes[-1] > 0).all()
    host = host_days()
    assert host.remember(recorded.Days(tape.__getitem__, [True]), first=1)
    for day in tape[1:3]:
        np.testing.assert_array_equal(host.live(None, 4).next_obs, day.next_obs)

    host = host_days()
    in_mid_episode = first.session.state.step > 0
    assert in_mid_episode.any()
    assert not host.remember(recorded.Days(tape.__getitem__, [True] * len(tape)), first=7)
    last = host.live(None, 4)
    assert (last.terminated[-1] | last.truncated[-1]).all()
    np.testing.assert_array_equal(host.session.state.episode, episodes[-1] + in_mid_episode)
    np.testing.assert_array_equal(host.session.state.step, 0)
    for obs in host.session.state.obs:
        assert_is_a_start(obs, 3)
    expected = atari(num_envs=2, noop_max=30, frame_skip=8).reset(np.ones(2, bool), host.session.state.episode)
    np.testing.assert_array_equal(host.session.state.obs, expected)
    assert host.live(None, 4).obs.shape == (4, 2, 24, 24, 3)


def test_evaluation_plays_whole_games():
    config = EnvConfig("ALE/Pong-v5", "atari", 8, atari=SMALL)
    whole = for_evaluation(config, 3)
    assert whole == EnvConfig("ALE/Pong-v5", "atari", 3, atari=dataclasses.replace(SMALL, life_loss_ends=False))
    cartpole = EnvConfig("CartPole-v1", "gymnasium", 8, max_steps=9)
    assert for_evaluation(cartpole, 3) == dataclasses.replace(cartpole, num_envs=3)
    assert not is_jax(config)
    with pytest.raises(ValueError, match="runs on the host: make ALE/Pong-v5 with make_host"):
        make_jax(config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frame_skip": 0}, r"atari.frame_skip is 0: set 1 or more"),
        ({"size": 0}, r"atari.size is 0: set 1 or more"),
        ({"noop_max": -1}, r"atari.noop_max is -1: set 0 or more frames"),
        ({"sticky_actions": 1.0}, r"atari.sticky_actions is 1.0: set a probability from 0 to below 1"),
        ({"max_frames": 3}, r"atari.max_frames is 3, less than the 4 frames of one decision"),
    ],
)
def test_wrong_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AtariConfig(**fields)


def test_settings_of_another_suite_are_refused():
    with pytest.raises(ValueError, match="atari is set, but the suite is 'gymnax', which has no such settings"):
        EnvConfig("Breakout-MinAtar", "gymnax", atari=AtariConfig(grey=True))


def test_what_cannot_be_made_is_said(monkeypatch, tmp_path):
    pytest.importorskip("ale_py")
    with pytest.raises(ValueError, match="unknown atari game 'ALE/Pogn-v5'; did you mean: .*ALE/Pong-v5"):
        make_host(EnvConfig("ALE/Pogn-v5", "atari"), 0)
    with pytest.raises(ValueError, match=r"kwargs {'mode': 1} do not fit ALE/Pong-v5"):
        make_host(EnvConfig("ALE/Pong-v5", "atari", kwargs=(("mode", 1),)), 0)
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"the ROM of ALE/Pong-v5 is missing.*requirements-atari\.txt"):
        make_host(EnvConfig("ALE/Pong-v5", "atari"), 0)


def test_without_ale_the_error_names_the_command():
    if importlib.util.find_spec("ale_py"):
        pytest.skip("ale_py is installed")
    with pytest.raises(ImportError, match=r"pip install -r requirements-atari\.txt"):
        make_host(EnvConfig("ALE/Pong-v5", "atari"), 0)
