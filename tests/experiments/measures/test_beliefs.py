import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.wake.envs import EnvConfig, JobWorldConfig, KnobsConfig, jobworld
from dreamer.wake.envs.jobs import session_seed
from dreamer.wake.session import begin, live
from experiments.measures.beliefs import beliefs, prior, read_on
from experiments.measures.bits import certain, check_no_leak, information, retained_bits

TINY = JobWorldConfig(num_keys=2, num_answers=3, chain_length=2, slack=1, pool="pretraining")


def config_of(world=TINY, **knobs):
    return EnvConfig("JobWorld-v0", "jobworld", jobworld=world, knobs=KnobsConfig(**knobs))


def random_act(params, keys, obs, action_mask, memory):
    return jax.vmap(jax.random.categorical)(keys, jnp.where(action_mask, 0.0, -jnp.inf)), memory


@functools.partial(jax.jit, static_argnums=0, static_argnames=("num_jobs", "num_steps"))
def sessions(config, *, num_jobs=6, num_steps=20):
    """Random sessions in as many jobs: (codebooks in force [J, T, K], tapes [J, T], beliefs [J, T + 1, K, A])."""

    def session(number):
        env, seed = jobworld.of_job(config, number), session_seed(0, number)

        def day(state, _):
            book = state.env_state.codebook[0]
            state, tape = live(env, random_act, None, state, seed=seed, num_steps=1)
            return state, (book, jax.tree.map(lambda leaf: leaf[0, 0], tape))

        _, (books, tape) = jax.lax.scan(day, begin(env, seed=seed, num_envs=1), length=num_steps)
        return books, tape, beliefs(config, tape)

    return jax.vmap(session)(jnp.arange(num_jobs) % 5)


def twin(books, tape, *, world):
    """What one who looks at the codebook itself says is known of it: the answers not yet ruled out, of each key."""
    shown = jobworld.view(world, tape.obs)
    left, known = np.ones((world.num_keys, world.num_answers)), []
    for t, (key, idle, action) in enumerate(zip(shown.key, shown.idle, tape.action, strict=True)):
        if not idle:
            right = books[t, key] == action
            left[key] = (
                np.eye(world.num_answers)[action] if right else left[key] * (np.arange(world.num_answers) != action)
            )
        known.append(left / left.sum(axis=1, keepdims=True))
    return np.stack(known)


def test_one_right_and_one_wrong_transition_by_hand():
    books, tape, known = jax.device_get(sessions(config_of()))
    np.testing.assert_array_equal(known[:, 0], np.broadcast_to(prior(TINY), known[:, 0].shape))
    shown = jobworld.view(TINY, tape.obs[:, 0])
    right = books[np.arange(6), 0, shown.key] == tape.action[:, 0]
    assert right.any() and not right.all()
    for job in range(6):
        row = np.full(3, 0.5)
        row[tape.action[job, 0]] = 0
        row = np.eye(3)[tape.action[job, 0]] if right[job] else row
        np.testing.assert_array_equal(known[job, 1, shown.key[job]], row)
        np.testing.assert_allclose(known[job, 1, 1 - shown.key[job]], np.full(3, 1 / 3), rtol=1e-6)
        told = np.log2(3) if right[job] else np.log2(3) - 1
        np.testing.assert_allclose(information(known[job, 1]), told, atol=1e-6)


@pytest.mark.parametrize("fields", [dict(), dict(error="dead_end", dead_end_prob=0.5)])
def test_the_reader_knows_what_is_not_ruled_out_and_nothing_else(fields):
    world = dataclasses.replace(TINY, **fields)
    books, tape, known = jax.device_get(sessions(config_of(world)))
    for job in range(6):
        one = jax.tree.map(lambda leaf, job=job: leaf[job], tape)
        np.testing.assert_allclose(known[job, 1:], twin(books[job], one, world=world), atol=1e-6)
    told = information(known)
    assert (np.diff(told, axis=1) > -1e-5).all() and told[:, -1].min() > 1
    truth = certain(books[:, 0], 3)
    np.testing.assert_allclose(retained_bits(known[:, -1], truth), told[:, -1], atol=1e-5)  # the reader retains it all
    policy = np.random.default_rng(0).dirichlet(np.ones(3), known.shape[:-1])
    assert (retained_bits(policy, known) <= told + 1e-5).all()
    check_no_leak(retained_bits(known[:5, -1], truth[:5]), told[:5, -1])


def test_hidden_keys_are_told_by_what_follows():
    world = JobWorldConfig(num_keys=3, num_answers=2, chain_length=2, slack=2, aliased=0.67, pool="pretraining")
    books, tape, known = jax.device_get(sessions(config_of(world), num_jobs=4, num_steps=30))
    assert (tape.action == 2).any() and (jobworld.view(world, tape.obs).key < 0).any()
    np.testing.assert_array_equal(known[:, -1], certain(books[:, 0], 2))  # all found out, and all of it true


def test_reading_on_is_reading_all_at_once():
    _, tapes, known = sessions(config_of())
    tape, first, rest = (
        jax.tree.map(lambda leaf, part=part: leaf[1, part], tapes) for part in (slice(20), slice(9), slice(9, 20))
    )
    np.testing.assert_array_equal(read_on(TINY, read_on(TINY, prior(TINY), first), rest), known[1, -1])
    np.testing.assert_array_equal(read_on(TINY, prior(TINY), tape), known[1, -1])


def test_a_redrawn_codebook_is_forgotten_as_much_as_it_was_redrawn():
    world = dataclasses.replace(TINY, num_answers=2, num_keys=3, period=1, redrawn_prob=0.5)
    books, tape, known = jax.device_get(sessions(config_of(world)))
    sure = known[:, 1:].max(axis=-1)
    assert set(np.unique(sure)) <= {0.5, 0.625, 0.75, 1.0} | set(0.5 + 0.5 ** np.arange(2, 22))
    ended = np.asarray(tape.terminated | tape.truncated)
    assert ended.any() and (sure[ended] <= 0.75).all()  # right after the redraw nobody is sure of anything
    acting = retained_bits(known[:, :-1], certain(books, 2))
    assert np.isfinite(acting).all() and acting.mean() > 0.2


def test_two_jobs_read_as_one_session_are_refused():
    _, tape, known = jax.device_get(sessions(config_of()))
    mixed = jax.tree.map(lambda leaf: jnp.concatenate([leaf[0], leaf[1]]), tape)
    assert (known[0, -1] != known[1, -1]).any()
    with pytest.raises(ValueError, match="transitions of different codebooks read as one"):
        information(jax.jit(functools.partial(beliefs, config_of()))(mixed)[-1])


@pytest.mark.parametrize("knob", [dict(slip=0.1), dict(drift_every=5), dict(continuing=True), dict(hold=2)])
def test_knobs_that_blur_right_and_wrong_are_refused(knob):
    (name, turned) = next(iter(knob.items()))
    with pytest.raises(ValueError, match=f"knobs.{name} is {turned}, under which a transition does not show"):
        beliefs(config_of(**knob), None)
