import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import tiny
from world_models.efficientzero import EfficientZeroConfig, make_efficientzero
from world_models.efficientzero.representation import relations

K = 3


def make(config=tiny.MODEL, num_unroll_steps=K, **spec):
    return make_efficientzero(tiny.spec(**spec), config, num_unroll_steps=num_unroll_steps)


@pytest.mark.parametrize(
    ("obs_shape", "obs_dtype", "torso"),
    [
        ((3,), "float32", "dense"),
        ((4, 2), "int32", "dense"),
        ((6, 5, 2), "bool", "dense"),
        ((6, 5, 3), "uint8", "dense"),
        ((6, 5, 2), "bool", "relational"),
    ],
)
def test_shapes_and_finite_losses(obs_shape, obs_dtype, torso):
    model = make(dataclasses.replace(tiny.MODEL, torso=torso), obs_shape=obs_shape, obs_dtype=obs_dtype)
    obs = jax.random.randint(jax.random.key(0), (2, K + 2, *obs_shape), 0, 2).astype(obs_dtype)
    batch = tiny.sequence(obs, jnp.zeros((2, K + 1)))

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def run(batch):
        params = model.init(jax.random.key(1), batch.obs[:, 0])
        latent = model.observe(params, batch.obs[:, 0])
        return params, latent, model.step(params, latent, batch.action[:, 0]), model.unroll(params, None, batch)

    params, latent, (next_latent, reward, continuation), (latents, loss, metrics) = run(batch)
    assert latent.state.shape == next_latent.state.shape == (2, 16)
    assert latent.recurrent == ()
    assert reward.shape == continuation.shape == loss.shape == (2,)
    assert latents.state.shape == (2, K + 1, 16)
    np.testing.assert_array_equal(reward, 0)
    np.testing.assert_array_equal(continuation, 0.5)
    np.testing.assert_array_equal(latents.state[:, 0], latent.state)
    np.testing.assert_allclose(latents.state[:, 1], next_latent.state, atol=1e-5)
    assert set(metrics) == {"reward_loss", "continuation_loss", "consistency_loss"}
    assert np.isfinite(loss).all() and all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_a_continuation_that_is_not_learned_is_certain():
    model = make(dataclasses.replace(tiny.MODEL, continuation_weight=0.0))
    obs = jnp.ones((2, 3))
    params = tiny.shaken(jax.jit(model.init)(jax.random.key(0), obs))
    *_, continuation = model.step(params, model.observe(params, obs), jnp.zeros(2, jnp.int32))
    np.testing.assert_array_equal(continuation, 1.0)


def test_relations_by_hand():
    board = np.zeros((2, 3, 2), bool)
    board[0, 0, 0] = board[1, 2, 0] = board[0, 1, 1] = True
    told = np.asarray(relations(jnp.asarray(board), 1))
    assert told.shape == (2 * 3 * 3 * 3 + 2 * (3 + 2),)
    around, columns, rows = np.split(told, [54, 60])
    around = around.reshape(2, 3, 3, 3)  # of channel c, at an offset down and across, channel d or beside the board
    expected = np.zeros((2, 3, 3, 3))
    expected[0, 1, 1, 0] = 1.0  # both cells of channel 0 are their own
    expected[0, 1, 2, 1] = expected[0, 0, 0, 1] = 0.5  # one has channel 1 right of it, the other up and left of it
    expected[0, :, :, 2] = [[0.5, 0.5, 1.0], [0.5, 0.0, 0.5], [1.0, 0.5, 0.5]]  # they lie in opposite corners
    expected[1, 1, 1, 1] = 1.0
    expected[1, 1, 0, 0] = expected[1, 2, 2, 0] = 1.0  # cells 0, 0 and 1, 2 as seen from 0, 1
    expected[1, 0, :, 2] = 1.0  # beyond the upper edge
    np.testing.assert_allclose(around, expected)
    np.testing.assert_array_equal(columns.reshape(3, 2), board.sum(0))
    np.testing.assert_array_equal(rows.reshape(2, 2), board.sum(1))
    np.testing.assert_array_equal(relations(jnp.zeros((2, 3, 2), bool), 1), np.zeros(64))


def test_of_several_frames_is_told_for_how_long_something_has_been_there():
    """On a board of one row a cell moves to the right, and beside where it arrives one waits since the second frame."""
    boards = np.zeros((3, 1, 4, 2), bool)
    boards[[0, 1, 2], 0, [0, 1, 2], 0] = boards[1:, 0, 3, 1] = True
    told = np.asarray(relations(jnp.asarray(np.concatenate(boards, axis=-1)), 1, num_frames=3))
    around, columns, rows = np.split(told, [2 * 9 * 5, 2 * 9 * 5 + 4 * 4])
    moving, waiting = around.reshape(2, 3, 3, 5)  # at an offset: both channels now, their shares of frames, and beside
    expected = np.zeros((2, 3, 3, 5))
    expected[:, [0, 2], :, 4] = expected[1, 1, 2, 4] = 1.0  # the board has one row, and ends on the right
    expected[0, 1, 1, [0, 2]] = expected[1, 1, 0, [0, 2]] = 1.0, 1 / 3  # came just now
    expected[0, 1, 0, 2] = 1 / 3  # from there
    expected[1, 1, 1, [1, 3]] = expected[0, 1, 2, [1, 3]] = 1.0, 2 / 3
    np.testing.assert_allclose([moving, waiting], expected, rtol=1e-6)
    shares = boards[:, 0].mean(0)
    np.testing.assert_allclose(columns.reshape(4, 4), np.concatenate([boards[2, 0], shares], axis=-1), rtol=1e-6)
    np.testing.assert_allclose(rows, [1, 1, 1, 2 / 3], rtol=1e-6)


@pytest.mark.parametrize("num_frames", [1, 3, 700])  # counted in 8, 16 and 32 bits
def test_a_full_board_is_counted_whole(num_frames):
    told = np.asarray(relations(jnp.ones((10, 10, 2 * num_frames), bool), 1, num_frames=num_frames))
    features = 2 if num_frames == 1 else 4
    around, sums = np.split(told, [2 * 9 * (features + 1)])
    np.testing.assert_array_equal(around.reshape(2, 3, 3, -1)[:, 1, 1, :-1], np.ones((2, features)))
    np.testing.assert_array_equal(sums, np.full(features * 20, 10.0))


def test_relations_do_not_ask_where_on_the_board_or_in_the_batch():
    board = np.zeros((2, 3, 9, 8, 2), bool)
    board[:, :, 3:6, 3:5] = np.random.default_rng(0).random((2, 3, 3, 2, 2)) < 0.5
    board[..., 4, 3, :] = True  # no channel is empty
    told = np.asarray(relations(jnp.asarray(board), 2))
    moved = np.asarray(relations(jnp.asarray(np.roll(board, (1, -1), (2, 3))), 2))
    num_around = 2 * 25 * 3
    np.testing.assert_array_equal(told[..., :num_around], moved[..., :num_around])
    assert not np.array_equal(told[..., num_around:], moved[..., num_around:])
    np.testing.assert_array_equal(told[1, 2], relations(jnp.asarray(board[1, 2]), 2))


@pytest.mark.parametrize(("obs_shape", "obs_dtype"), [((6,), "bool"), ((6, 5, 2), "uint8"), ((11, 5, 2), "bool")])
def test_what_is_no_board_has_no_relations(obs_shape, obs_dtype):
    with pytest.raises(ValueError, match=r"model.torso is relational, for binary boards .*: give dense"):
        make(dataclasses.replace(tiny.MODEL, torso="relational"), obs_shape=obs_shape, obs_dtype=obs_dtype)


@functools.cache
def vector_model():
    """A shaken model and its jitted (loss, gradient of the loss summed over rows, latents)."""
    model = make()
    params = tiny.shaken(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 3))))

    def loss(params, batch):
        latents, loss, _ = model.unroll(params, None, batch)
        return loss.sum(), (loss, latents)

    return model, params, jax.jit(jax.value_and_grad(loss, has_aux=True))


def lived(num_rows=4, **fields):
    obs = jax.random.normal(jax.random.key(1), (num_rows, K + 2, 3))
    action = jax.random.randint(jax.random.key(2), (num_rows, K + 1), 0, 2)
    return tiny.sequence(obs, action, reward=jax.random.normal(jax.random.key(3), action.shape), **fields)


def assert_same_learning(one, other, same):
    _, params, learn = vector_model()
    (_, (loss, _)), gradient = learn(params, one)
    (_, (other_loss, _)), other_gradient = learn(params, other)
    assert np.array_equal(loss, other_loss) == same
    equal = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), gradient, other_gradient)
    assert all(jax.tree.leaves(equal)) == same


VALID = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], bool)


def test_rows_that_were_not_lived_teach_nothing():
    batch = lived(valid=VALID)
    obs, reward, terminated = (np.array(leaf) for leaf in (batch.obs, batch.reward, batch.terminated))
    obs[1, 3:], obs[2, 2:], reward[1, 2:], terminated[2, 1:] = 9, 9, 9, True
    assert_same_learning(batch, batch.replace(obs=obs, reward=reward, terminated=terminated), same=True)
    reward[1, 1] = 2  # a lived one
    assert_same_learning(batch, batch.replace(reward=reward), same=False)


def test_what_a_terminal_state_looks_like_teaches_nothing():
    terminated = np.zeros((4, K + 1), bool)
    terminated[1, 1] = terminated[2, 0] = True
    batch = lived(valid=VALID, terminated=terminated)
    obs = np.array(batch.obs)
    obs[1, 2], obs[2, 1] = 9, 9
    assert_same_learning(batch, batch.replace(obs=obs), same=True)
    obs[0, 2] = 9  # a state like any other
    assert_same_learning(batch, batch.replace(obs=obs), same=False)


def test_a_state_reached_by_truncation_still_teaches():
    batch = lived(valid=VALID)  # row 2 ends after one row without termination
    obs = np.array(batch.obs)
    obs[2, 1] = 9
    assert_same_learning(batch, batch.replace(obs=obs), same=False)


def test_the_observed_branch_of_consistency_gets_no_gradient():
    model = make(num_unroll_steps=1)
    _, params, _ = vector_model()
    batch = lived()

    def loss(obs):
        return model.unroll(params, None, batch.replace(obs=batch.obs.at[:, 1].set(obs)))[1].sum()

    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(batch.obs[:, 1]), 0)


@pytest.mark.parametrize(("reads", "depth"), [("latent", 1), ("latent", 2), ("loss", 1)])
def test_each_dreamed_step_halves_the_gradient_that_passes_it(reads, depth):
    # Against central differences, which know of no stopped gradients: half for each dreamed latent on the way back,
    # whether it comes from the latent (consistency, policy, value) or from the reward and continuation read off it.
    # Without consistency, whose observed branch would depend on the encoder as well.
    model = make(dataclasses.replace(tiny.MODEL, consistency_weight=0.0), num_unroll_steps=depth)
    _, params, _ = vector_model()
    batch, weights = lived(), jax.random.normal(jax.random.key(5), (4, 16))
    direction = tiny.shaken(jax.tree.map(jnp.zeros_like, params["encoder"]), seed=1)

    @jax.jit
    def read(step):
        encoder = jax.tree.map(lambda leaf, by: leaf + step * by, params["encoder"], direction)
        latents, loss, _ = model.unroll({**params, "encoder": encoder}, None, batch)
        return (weights * latents.state[:, depth]).sum() if reads == "latent" else loss.sum()

    differences = (read(1e-3) - read(-1e-3)) / 2e-3
    np.testing.assert_allclose(jax.grad(read)(0.0), 0.5**depth * differences, rtol=0.03)


def test_one_batch_of_a_deterministic_world_is_learned():
    # Two rings of three cells: action 1 goes on, 0 stays; reward = cell - 1 for going on; the world ends at cell 2.
    model, rng = make(num_unroll_steps=2), np.random.default_rng(0)
    obs, action = np.zeros((24, 4), int), rng.integers(2, size=(24, 3))
    obs[:, 0] = np.arange(24) % 3
    for i in range(3):
        obs[:, i + 1] = (obs[:, i] + action[:, i]) % 3
    reward, terminated = action * (obs[:, :3] - 1.0), (action == 1) & (obs[:, :3] == 2)
    valid = np.cumsum(np.pad(terminated, ((0, 0), (1, 0)))[:, :3], axis=1) == 0
    batch = tiny.sequence(np.eye(3, dtype=np.float32)[obs], action, reward=reward, terminated=terminated, valid=valid)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def fit(params):
        def once(carry, _):
            params, state = carry
            loss, gradient = jax.value_and_grad(lambda params: model.unroll(params, None, batch)[1].mean())(params)
            steps, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, steps), state), loss

        (params, _), losses = jax.lax.scan(once, (params, optimizer.init(params)), length=300)
        first = model.observe(params, batch.obs[:, 0])
        second, *one = model.step(params, first, batch.action[:, 0])
        return losses, one, model.step(params, second, batch.action[:, 1])[1:]

    losses, one, two = fit(jax.jit(model.init)(jax.random.key(0), batch.obs[:, 0]))
    assert losses[-1] < losses[0] - 4
    for i, (told_reward, told_continuation) in enumerate((one, two)):
        real = valid[:, i]
        np.testing.assert_allclose(told_reward[real], reward[real, i], atol=0.1)
        np.testing.assert_allclose(told_continuation[real], 1.0 - terminated[real, i], atol=0.05)


def test_what_has_no_encoder_is_refused():
    with pytest.raises(ValueError, match=r"tiny: observations of shape \(\) have no encoder"):
        make(obs_shape=())
    with pytest.raises(ValueError, match="model.latent_size is 0"):
        EfficientZeroConfig(latent_size=0)
