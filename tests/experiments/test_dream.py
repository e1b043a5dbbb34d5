import dataclasses

import imageio.v3 as iio
import jax
import numpy as np
import pytest

from dreamer.io import FactLog
from experiments.dream import Dream, dream, nearest_rows, replayed_obs
from experiments.figures import search_tree
from experiments.figures.dream import draw_sheet, frames, picture
from tests import runs


def test_the_nearest_row_by_hand():
    among = np.array([[0.0, 0.0], [1.0, 1.0], [3.0, 0.0]])
    np.testing.assert_array_equal(nearest_rows(np.array([[0.4, 0.4], [2.5, 0.1], [0.9, 2.0]]), among), [0, 2, 1])


def test_replayed_observations_are_spread_over_the_whole_life():
    facts = FactLog.open(runs.finished("gymnax").folder / "facts")
    every = np.concatenate([day.obs.reshape(-1, 4) for _, _, day in facts.read()])
    for most, stride in ((100, 1), (48, 1), (47, 2), (10, 5), (1, 48)):
        np.testing.assert_array_equal(replayed_obs(facts, most), every[::stride])


def test_a_dream_goes_beside_what_was_lived():
    folder, wired = runs.finished("gymnax").folder, runs.parts("gymnax")
    found = dream(folder, horizon=4, after=2, seed=1)
    longer = dream(folder, horizon=5, after=1, seed=1)  # the same episode, from one decision earlier
    np.testing.assert_array_equal(found.real_obs, longer.real_obs[1:])
    np.testing.assert_array_equal(found.action, longer.action[1:])
    assert len(found.reward) == len(found.dreamed_reward) == 4
    assert found.policy.shape == (5, 2)
    np.testing.assert_allclose(found.policy.sum(axis=1), 1, rtol=1e-5)
    params = runs.learned("gymnax", folder)["learner"].params
    latent, step = wired.model.observe(params.model, found.real_obs[:1]), jax.jit(wired.model.step)
    alive = 1.0
    for number, action in enumerate(found.action):
        latent, reward, continuation = step(params.model, latent, action[None])
        alive *= continuation[0]
        np.testing.assert_allclose(found.dreamed_reward[number], reward[0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found.alive[number + 1], alive, rtol=1e-3)
    assert found.value[0] == pytest.approx(found.real_value[0], rel=1e-4)  # they begin in one state
    replayed = {obs.tobytes() for obs in replayed_obs(FactLog.open(folder / "facts"))}
    assert all(obs.tobytes() in replayed for obs in found.dreamed_obs)


def test_a_dream_ends_with_its_episode():
    folder = runs.finished("gymnax").folder
    found = dream(folder, horizon=100, seed=1)
    assert 5 < len(found.action) < 100  # a pole that nobody learned to hold
    with pytest.raises(ValueError, match=f"after is 90, but the episode ends at decision {len(found.action)}"):
        dream(folder, after=90, seed=1)
    for wrong in (dict(horizon=0), dict(after=-1)):
        with pytest.raises(ValueError, match="give 1 step or more, after 0 decisions or more"):
            dream(folder, **wrong)


def test_the_tree_is_the_search_of_the_first_state(tmp_path):
    folder, wired = runs.finished("gymnax").folder, runs.parts("gymnax")
    found = dream(folder, horizon=2, after=2, seed=1)
    tree, num_simulations = found.tree, wired.config.search.num_simulations
    assert (tree.node_visits > 0).sum() == 1 + num_simulations == tree.node_visits[0]
    assert tree.node_values[0] == pytest.approx(found.value[0], rel=1e-5)
    params = runs.learned("gymnax", folder)["learner"].params
    step = jax.jit(wired.model.step)
    root = wired.model.observe(params.model, found.real_obs[:1])
    for action in np.flatnonzero(tree.children_visits[0]):  # what its edges say is what the model says
        _, reward, continuation = step(params.model, root, np.array([action]))
        node = tree.children_index[0, action]
        assert (tree.parents[node], tree.action_from_parent[node]) == (0, action)
        np.testing.assert_allclose(tree.children_rewards[0, action], reward[0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(tree.embeddings[node], continuation[0], rtol=1e-3)
    drawn = search_tree.draw(found, tmp_path / "new" / "tree.png")
    assert iio.imread(drawn).std() > 10


def test_a_tree_is_laid_out_by_hand():
    # Root with children 1 and 3; below 1 stand 2 and 4, below 3 nobody; 5 was never made.
    places = search_tree.layout(np.array([-1, 0, 1, 0, 1, -1]), np.array([5, 3, 1, 1, 1, 0]))
    assert places == {0: (1.25, 0), 1: (0.5, 1), 2: (0.0, 2), 4: (1.0, 2), 3: (2.0, 1)}


def made_up(num_steps=9):
    rng, num_states = np.random.default_rng(0), num_steps + 1
    obs = rng.random((num_states, 4, 4, 2), np.float32)
    return Dream(
        title="Somewhere",
        action=rng.integers(3, size=num_steps),
        reward=rng.random(num_steps),
        dreamed_reward=rng.random(num_steps),
        alive=np.linspace(1, 0, num_states),
        value=rng.random(num_states),
        real_value=rng.random(num_states),
        policy=np.full((num_states, 3), 1 / 3),
        real_obs=obs,
        dreamed_obs=obs[::-1],
        low=obs.min(axis=0),
        high=obs.max(axis=0),
        tree=None,
    )


def test_a_picture_for_every_step(tmp_path):
    film = frames(made_up())
    assert film.shape[0] == 10 and film.shape[3] == 3 and film.dtype == np.uint8
    assert all((one != other).any() for one, other in zip(film, film[1:], strict=False))
    sheet = iio.imread(draw_sheet(made_up(), tmp_path / "sheets" / "dream.png"))
    assert sheet.shape[0] > 500 and sheet.shape[1] > 1000
    one = dataclasses.replace(made_up(1), policy=np.full((2, 18), 1 / 18))
    assert frames(one).shape[1:] == film.shape[1:]


def test_any_observation_has_a_picture():
    screen = np.arange(2 * 2 * 6).reshape(2, 2, 6).astype(np.uint8)
    np.testing.assert_array_equal(picture(screen, screen, screen), screen[..., 3:])  # the newest of two in colour
    np.testing.assert_array_equal(picture(screen[..., :4], screen, screen)[..., 0], screen[..., 3])  # of four in grey
    assert picture(np.ones((3, 5), np.float32), None, None).shape == (3 * 24, 5 * 24, 3)
    bars = picture(np.array([0.0, 1.0, 0.5]), np.zeros(3), np.array([1.0, 1.0, 1.0]))
    full = (bars[12::24, 12::24].astype(int) > 100).any(axis=-1).sum(axis=0)
    np.testing.assert_array_equal(full, [1, 12, 6])
