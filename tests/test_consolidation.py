"""Sessions and their nights: what they learn from, what they leave alone, and that nothing depends on who is beside."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.session_slot import SessionSlotConfig, make_session_slot
from dreamer.core import trees
from dreamer.core.types import Transition
from dreamer.loop import ConsolidationConfig, first_learner, make_day_and_night
from dreamer.loop.consolidation import rows_of
from dreamer.sleep.distill import DistillConfig
from dreamer.sleep.teachers import TeacherConfig
from dreamer.sleep.update import UpdateConfig, make_optimizer
from dreamer.wake.envs import EnvConfig, JobWorldConfig
from dreamer.wake.envs.jobworld import make, of_codebook, of_job

WORLD = EnvConfig(
    "JobWorld-v0", "jobworld", jobworld=JobWorldConfig(num_keys=2, num_answers=2, chain_length=2, slack=1)
)
SLOT = make_session_slot(make(WORLD).spec, SessionSlotConfig(num_layers=1, width=8, num_heads=2, num_slots=8))
OPTIMISE = UpdateConfig(learning_rate=1e-2, warmup_updates=0, final_share=1.0, weight_decay=0.0)
OPTIMIZER = make_optimizer(OPTIMISE, 1)


@functools.cache
def params():
    like = jax.eval_shape(SLOT.agent.init, jax.random.key(0), jnp.zeros((1, *make(WORLD).spec.obs_shape)))
    rng = np.random.default_rng(1)  # nothing is learned yet, so that heads say something
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 2, like)


def day_and_night(teacher=TeacherConfig(), distill=DistillConfig(), **night):
    config = ConsolidationConfig(**{"num_nights": 1, "session_length": 8, "states_length": 6, "num_updates": 3} | night)
    dream = (lambda key, believed: of_codebook(WORLD, believed_answers(believed))) if config.states == "dream" else None
    return make_day_and_night(
        SLOT.agent,
        empty=SLOT.empty,
        read=SLOT.read,
        recall=SLOT.recall,
        dream=dream,
        optimizer=OPTIMIZER,
        config=config,
        teacher=teacher,
        distill=distill,
        optimise=OPTIMISE,
    )


def believed_answers(believed):
    from dreamer.wake.envs.jobworld import prompts

    return believed(prompts(WORLD.jobworld)).argmax(axis=-1).astype(jnp.int32)


def slept(number=1, seed=0, **settings):
    """The learner after one night in a job, what was lived, and metrics."""
    turn = day_and_night(**settings)

    def one(number, seed):
        env = of_job(WORLD, number)
        return turn(first_learner(params(), OPTIMIZER), env, env, seed=seed, number=jnp.int32(0), old=old_session())

    if isinstance(number, int):
        return jax.jit(one)(jnp.int32(number), jnp.uint32(seed))
    return jax.jit(jax.vmap(one))(jnp.array(number, jnp.int32), jnp.array(seed, jnp.uint32))


@functools.cache
def old_session():
    obs = np.zeros((3, *make(WORLD).spec.obs_shape), np.float32)
    flags = np.zeros(3, bool)
    lived = Transition(obs, np.ones((3, 2), bool), np.zeros(3, np.int32), np.zeros(3, np.float32), flags, flags, obs)
    return lived, np.full((3, 2), 0.5, np.float32)


def same(one, other):
    return all(np.array_equal(*pair) for pair in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_episodes_by_hand():
    ended = jnp.array([0, 1, 0, 0, 1, 0], bool)
    lived = Transition(
        *[jnp.zeros(6)] * 3, jnp.array([0.0, 1.0, 0.5, 0.0, 0.0, 2.0]), ended, ended & False, jnp.zeros(6)
    )
    rows = rows_of(lived)
    np.testing.assert_array_equal(rows.trajectory, [0, 0, 1, 1, 1, 2])
    np.testing.assert_allclose(rows.total, [1, 0.5, 2, 0, 0, 0])
    np.testing.assert_array_equal(rows.whole, [True, True, False, False, False, False])


def test_a_session_is_the_same_alone_and_among_others():
    alone = slept(number=2, seed=7)
    among = slept(number=[1, 2, 3], seed=[5, 7, 9])
    one = jax.tree.map(lambda leaf: leaf[1], among)
    assert same(alone[1], one[1])
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-4), alone[0].params.agent, one[0].params.agent
    )


def test_a_student_moves_towards_the_teacher_that_read_the_session():
    few, many = (slept(num_updates=count)[2]["teacher_kl"] for count in (1, 60))
    assert many < 0.5 * few


def test_a_teacher_that_knows_no_more_than_the_student_teaches_nothing():
    learner, _, metrics = slept(teacher=TeacherConfig(kind="sharpened", sharpness=1.0), session_length=0)
    np.testing.assert_allclose(metrics["teacher_kl"], 0, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 0, atol=1e-6)
    moved = jax.tree.map(lambda new, old: abs(new - old).max(), learner.params.agent, params())
    assert max(jax.tree.leaves(moved)) < 0.05  # Adam makes steps of rounding


def test_what_each_objective_lives_through():
    _, lived, _ = slept()
    assert (lived.session.reward.shape, lived.student.reward.shape) == ((8,), (6,))
    _, lived, _ = slept(states="session", states_length=0, objective="clone")
    assert lived.session.reward.shape == (8,)
    assert lived.student == ()
    _, lived, metrics = slept(objective="reinforce", session_length=0)
    assert lived.session == ()
    assert "teacher_kl" not in metrics
    _, lived, _ = slept(states="dream", states_length=20)
    assert lived.student == ()  # what is dreamed was not lived


def test_cloned_successes_are_those_alone():
    """Of a session without a success nothing is cloned."""
    turn = day_and_night(states="session", states_length=0, objective="clone_successes")
    nowhere = dataclasses.replace(WORLD, jobworld=dataclasses.replace(WORLD.jobworld, chain_length=9, slack=0))
    slot = make_session_slot(make(nowhere).spec, SessionSlotConfig(num_layers=1, width=8, num_heads=2, num_slots=8))
    assert slot.agent is not None
    env = of_job(nowhere, 1)
    learner, lived, metrics = jax.jit(
        lambda: turn(first_learner(params(), OPTIMIZER), env, env, seed=jnp.uint32(0), number=jnp.int32(0), old=())
    )()
    assert float(lived.session.reward.sum()) == 0
    assert float(metrics["loss"]) == 0
    assert same(learner.params, first_learner(params(), OPTIMIZER).params)


@pytest.mark.parametrize("weights", ["ema", "interpolated", "current"])
def test_teachers_whose_weights_move_differ_from_those_that_stand_still(weights):
    frozen = slept(num_updates=8)[0].params.agent
    moving = slept(num_updates=8, teacher=TeacherConfig(weights=weights))[0].params.agent
    assert not same(frozen, moving)


def test_an_anchor_holds_what_old_sessions_are_read_as():
    free = slept(num_updates=30, distill=DistillConfig(anchor_weight=1e-6))[2]["anchor_kl"]
    held = slept(num_updates=30, distill=DistillConfig(anchor_weight=10.0))[2]["anchor_kl"]
    assert held < 0.8 * free


def test_rewards_beside_a_teacher_change_the_night():
    alone, beside = (slept(distill=DistillConfig(reinforce_weight=w))[2]["loss"] for w in (0.0, 5.0))
    assert alone != beside


def test_the_policy_gradient_makes_paid_episodes_likelier():
    """With the answer known to be 0 at first, and paid at each right one, the right answers gain probability."""
    easy = dataclasses.replace(WORLD, jobworld=dataclasses.replace(WORLD.jobworld, chain_length=1, slack=0))
    slot = make_session_slot(make(easy).spec, SessionSlotConfig(num_layers=1, width=8, num_heads=2, num_slots=8))
    first = jax.jit(slot.agent.init)(jax.random.key(0), jnp.zeros((1, *make(easy).spec.obs_shape)))
    config = ConsolidationConfig(objective="reinforce", session_length=0, states_length=64, num_updates=20)
    turn = make_day_and_night(
        slot.agent,
        empty=slot.empty,
        read=slot.read,
        recall=slot.recall,
        dream=None,
        optimizer=OPTIMIZER,
        config=config,
        teacher=TeacherConfig(),
        distill=DistillConfig(),
        optimise=OPTIMISE,
    )
    env = of_job(easy, 1)

    @jax.jit
    def nights(learner):
        def one(learner, number):
            learner, lived, _ = turn(learner, env, env, seed=jnp.uint32(3), number=number, old=())
            return learner, lived.student.reward.mean()

        return jax.lax.scan(one, learner, jnp.arange(6))

    learner, paid = nights(first_learner(first, OPTIMIZER))
    assert paid[0] < 0.7
    assert paid[-1] > 0.9
    assert trees.all_finite(learner.params) if hasattr(trees, "all_finite") else True


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "copy"}, "consolidation.objective is 'copy': give one of distil"),
        ({"states": "awake"}, "consolidation.states is 'awake': give one of student"),
        ({"num_nights": 0}, "consolidation.num_nights is 0: give 1 or more"),
        ({"objective": "clone"}, "learns where it was done; give states 'session'"),
        ({"states": "session"}, "consolidation.states_length is 64 where states is 'session': give 0"),
        ({"states_length": 0}, "consolidation.states_length is 0 where states is 'student'"),
        ({"states": "dream", "session_length": 0}, "session_length is 0, but states is 'dream'"),
        ({"objective": "reinforce"}, "objective is 'reinforce', which never looks at it: give 0"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ConsolidationConfig(**settings)


def test_what_a_night_costs():
    config = ConsolidationConfig(session_length=5, states_length=7)
    assert (config.real_per_night, config.rows_per_update) == (12, 7)
    config = dataclasses.replace(config, states="dream")
    assert (config.real_per_night, config.rows_per_update) == (5, 7)
    config = dataclasses.replace(config, states="session", states_length=0)
    assert (config.real_per_night, config.rows_per_update) == (5, 5)
