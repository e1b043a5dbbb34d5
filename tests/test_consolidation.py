"""Sessions and their nights: what they learn from, what they leave alone, and that nothing depends on who is beside."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.session_slot import SessionSlotConfig, make_session_slot
from agents.tabular import make_tabular_agent
from dreamer.core import divergences
from dreamer.core.ports import in_copies
from dreamer.core.types import Transition
from dreamer.loop import (
    ConsolidationConfig,
    DreamedWorld,
    Learner,
    Lived,
    PlanConfig,
    make_day_and_night,
    nothing_rehearsed,
)
from dreamer.loop.consolidation import STATES
from dreamer.loop.naps import make_nap
from dreamer.loop.objective import make_loss
from dreamer.loop.refinement import rows_of
from dreamer.loop.rehearsal import Rehearsed, strayed, with_day
from dreamer.sleep.carriers import Carried, CarrierConfig, NapConfig, make_carrier
from dreamer.sleep.distill import DistillConfig
from dreamer.sleep.refine import RefineConfig
from dreamer.sleep.teachers import TeacherConfig, reading_on
from dreamer.sleep.update import UpdateConfig, init_train_state, make_optimizer
from dreamer.wake.envs import EnvConfig, JobWorldConfig
from dreamer.wake.envs.jobworld import make, of_codebook, of_job, prompts
from tests.tiny import without_memory

WORLD = EnvConfig(
    "JobWorld-v0", "jobworld", jobworld=JobWorldConfig(num_keys=2, num_answers=2, chain_length=2, slack=1)
)
SPEC = make(WORLD).spec
SLOT = make_session_slot(SPEC, SessionSlotConfig(num_layers=1, width=8, num_heads=2, num_slots=8))
OPTIMISE = UpdateConfig(learning_rate=1e-3, warmup_updates=0, final_share=1.0, weight_decay=0.0)
OPTIMIZER = make_optimizer(OPTIMISE, 1)
SESSION, STUDENT, UPDATES = 8, 24, 60


@functools.cache
def params():
    like = jax.eval_shape(SLOT.agent.init, jax.random.key(0), jnp.zeros((1, *SPEC.obs_shape)))
    rng = np.random.default_rng(1)  # nothing is learned yet, so that heads say something
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 2, like)


def turn_of(teacher=None, distill=None, carrier=None, nap=None, optimizer=OPTIMIZER, **night):
    def dream(key, reader):
        answers = reader(prompts(WORLD.jobworld)).argmax(axis=-1).astype(jnp.int32)
        return DreamedWorld(of_codebook(WORLD, answers), at=None, judge=None, sure=None, shortest=2)

    lengths = {"session_length": SESSION, "states_length": STUDENT, "num_updates": UPDATES}
    return make_day_and_night(
        SLOT,
        dream=dream,
        optimizer=optimizer,
        config=ConsolidationConfig(**{"num_nights": 1} | lengths | night),
        teacher=teacher or TeacherConfig(),
        planning=PlanConfig(),
        distill=distill or DistillConfig(),
        refine=RefineConfig(),
        carrier=make_carrier(carrier or CarrierConfig(), SLOT),
        nap=nap or NapConfig(),
    )


@functools.cache
def old_session():
    obs = np.random.default_rng(0).normal(size=(3, *SPEC.obs_shape)).astype(np.float32)
    flags = np.zeros(3, bool)
    lived = Transition(obs, np.ones((3, 2), bool), np.zeros(3, np.int32), np.zeros(3, np.float32), flags, flags, obs)
    return lived, jax.nn.softmax(SLOT.read_one(params(), lived))


def learner(begun, optimizer=OPTIMIZER, teacher=()):
    return Learner(init_train_state(begun, optimizer), teacher)


def slept(numbers, seeds, **settings):
    """Of each job [J]: the student after one night, what was lived, and metrics."""
    turn, old = turn_of(**settings), old_session()
    teacher = params() if "teacher" in settings and settings["teacher"].lasts else ()

    def one(number, seed):
        env = of_job(WORLD, number)
        night = turn(learner(params(), teacher=teacher), params(), env, env, seed=seed, number=jnp.int32(0), old=old)
        return night[0].student, *night[1:]

    return jax.jit(jax.vmap(one))(jnp.array(numbers, jnp.int32), jnp.array(seeds, jnp.uint32))


@functools.cache
def plain():
    """Of job 2: the student after one night by the defaults, and what was lived."""
    student, lived, metrics = slept([2], [7])
    return of(0, student.params), of(0, lived), of(0, metrics)


def of(job, tree):
    return jax.tree.map(lambda leaf: leaf[job], tree)


def close(one, other):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4), one, other)


def kl_to_teacher(student, lived):
    """How far a student is from what the first agent plays with the session in memory, in the student's own states."""
    many = SLOT.recall_in(params(), lived.session, STUDENT)
    taught = jax.nn.softmax(SLOT.agent.evaluate(params(), many, lived.student.obs).logits)
    return divergences.forward_kl(taught, SLOT.agent.evaluate(student, (), lived.student.obs).logits).mean()


def test_episodes_by_hand():
    ended, zeros = jnp.array([0, 1, 0, 0, 1, 0], bool), jnp.zeros(6)
    lived = Transition(zeros, zeros, zeros, jnp.array([0.0, 1.0, 0.5, 0.0, 0.0, 2.0]), ended, ended & False, zeros)
    rows = rows_of(lived)
    np.testing.assert_array_equal(rows.trajectory, [0, 0, 1, 1, 1, 2])
    np.testing.assert_allclose(rows.total, [1, 0.5, 2, 0, 0, 0])
    np.testing.assert_array_equal(rows.whole, [True, True, False, False, False, False])


LN2 = np.log(2)
BY_TEACHER = (np.log(4 / 3) / 2 + 0.75 * np.log(1.5) - 0.25 * LN2) / 3
"""Of three episodes: of the first state the teacher is sure and the student 3 to 1, of the third 3 to 1 and even."""
BY_REWARDS = (-(1.2 + 1) / 2 + 1) / 2
"""Of two whole ones, the one better, the other worse by a standard deviation; the ratio of 1.5 is cut to 1.2."""
BY_LATE_REWARDS = (1.5 - 1) / 2
"""Of two decisions whose rewards until two later are all lived, 1 and 4: a ratio of 1.5 is not cut where it is bad."""
ANCHOR = np.log(4 / 3) / 4
"""Of two states of an old job, where the first agent had even odds: in the first the student has 3 to 1."""


REHEARSAL = np.log(4 / 3) / 4 + LN2 - (0.25 * np.log(4) + 0.75 * np.log(4 / 3))
"""Of two jobs that ended: of two states of one, where it had even odds, it has 3 to 1 in the first; in both of another
even odds, where it had 3 to 1; a third has not ended."""


@pytest.mark.parametrize(
    ("night", "distill", "expected"),
    [
        ({}, {}, BY_TEACHER),
        (dict(objective="clone", states="session", states_length=0), {}, (5 * LN2 + np.log(4 / 3)) / 6),
        (dict(objective="clone_successes", states="session", states_length=0), {}, (LN2 + np.log(4 / 3)) / 2),
        (dict(objective="reinforce", session_length=0), {}, BY_REWARDS),
        (dict(objective="reinforce", session_length=0, credit_window=2), {}, BY_LATE_REWARDS),
        ({}, dict(reinforce_weight=2.0), BY_TEACHER + 2 * BY_REWARDS),
        ({}, dict(anchor_weight=3.0), BY_TEACHER + 3 * ANCHOR),
        ({}, dict(rehearsal_weight=2.0), BY_TEACHER + 2 * REHEARSAL),
        (
            dict(objective="reinforce", session_length=0),
            dict(anchor_weight=1.0, rehearsal_weight=1.0),
            BY_REWARDS + ANCHOR + REHEARSAL,
        ),
    ],
)
def test_the_loss_of_a_night_by_hand(night, distill, expected):
    agent, even = make_tabular_agent(4, 2), jnp.zeros((4, 2))
    slot = without_memory(agent)._replace(read=lambda params, lived: agent.evaluate(params, (), lived.obs))
    params = {"logits": even.at[0, 0].set(np.log(3)), "value": jnp.zeros(4)}
    ended, reward = jnp.array([0, 1, 1, 0], bool), jnp.array([0.0, 1.0, 0.0, 3.0])
    state, action = jnp.arange(4), jnp.array([0, 1, 0, 1])
    lived = Transition(state, jnp.ones((4, 2), bool), action, reward, ended, ended & False, state)
    policy = jnp.array([[1, 0], [0.5, 0.5], [0.75, 0.25], [0.5, 0.5]]) if night.get("objective") is None else ()
    old = jax.tree.map(lambda leaf: leaf[:2], lived), jnp.full((2, 2), 0.5)
    odds = jnp.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    kept = Rehearsed(
        obs=jnp.array([[0, 1], [2, 3], [0, 1]]),
        policy=jnp.repeat(odds[:, None], 2, axis=1),
        num_ended=jnp.int32(2),
    )
    distil, carrier = DistillConfig(**distill), make_carrier(CarrierConfig(), slot)
    loss = make_loss(
        slot, night.get("objective", "distil"), distil, carrier, credit_window=night.get("credit_window", 0)
    )
    total, metrics = loss(params, first=(), rows=rows_of(lived), before=even, policy=policy, old=old, rehearsed=kept)
    np.testing.assert_allclose(total, expected, rtol=1e-4)
    assert metrics["loss"] == total


def test_rows_that_are_not_kept_teach_nothing_and_doubtful_ones_teach_less():
    agent = make_tabular_agent(4, 2)
    slot = without_memory(agent)
    params = {"logits": jnp.zeros((4, 2)).at[:, 0].set(jnp.arange(4.0)), "value": jnp.zeros(4)}
    ended = jnp.array([0, 1, 0, 1], bool)
    state = jnp.arange(4)
    lived = Transition(state, jnp.ones((4, 2), bool), state % 2, jnp.ones(4), ended, ended & False, state)
    loss = make_loss(slot, "distil", DistillConfig(), make_carrier(CarrierConfig(), slot))
    rows, policy = rows_of(lived), jnp.full((4, 2), 0.5)

    def of_rows(**fields):
        asked = dict(
            first=(), rows=rows.replace(**fields), before=params["logits"], policy=policy, old=(), rehearsed=()
        )
        return jax.value_and_grad(lambda params: loss(params, **asked), has_aux=True)(params)

    (total, metrics), _ = of_rows()
    each = np.asarray(divergences.forward_kl(policy, params["logits"]))
    np.testing.assert_allclose(total, each.mean(), rtol=1e-6)
    (total, metrics), grads = of_rows(kept=jnp.array([0.0, 1, 0, 0]))  # of one episode a state, of the other none
    np.testing.assert_allclose(total, each[1], rtol=1e-6)
    np.testing.assert_allclose(metrics["teacher_kl"], each[1], rtol=1e-6)
    np.testing.assert_array_equal(abs(grads["logits"]).sum(axis=-1) > 0, [0, 1, 0, 0])
    (total, _), _ = of_rows(certainty=jnp.array([1.0, 1, 1, 0.5]))
    np.testing.assert_allclose(total, (each[:3].sum() + each[3] / 2) / 4, rtol=1e-6)
    assert of_rows(kept=jnp.zeros(4))[0][0] == 0


def moved(one, other):
    """The farthest that any parameter of two agents lies apart."""
    return max(abs(a - b).max() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_the_student_becomes_who_read_the_session_alone_or_among_other_jobs():
    (student, lived, metrics), among = plain(), slept([1, 2, 3], [5, 7, 9])
    jax.tree.map(np.testing.assert_array_equal, lived, of(1, among[1]))
    close(student, of(1, among[0].params))
    assert (lived.session.reward.shape, lived.student.reward.shape) == ((SESSION,), (STUDENT,))
    assert kl_to_teacher(student, lived) < 0.3 * kl_to_teacher(params(), lived)
    assert float(metrics["moved_kl"]) > 0


def test_a_teacher_that_knows_no_more_than_the_student_teaches_nothing():
    nobody = TeacherConfig(kind="sharpened", sharpness=1.0)
    _, lived, metrics = slept([1], [0], teacher=nobody, session_length=0, num_updates=1)
    for name in ("teacher_kl", "loss", "grad_norm"):
        np.testing.assert_allclose(metrics[name], 0, atol=1e-6)
    assert lived.session == ()


def test_a_night_of_dreams_lives_no_more_than_its_session():
    student, lived, _ = slept([2], [7], states="dream", states_length=20)
    assert lived.student == ()
    jax.tree.map(np.testing.assert_array_equal, of(0, lived.session), plain()[1].session)
    assert moved(of(0, student.params), params()) > 1e-3


def test_a_cartridge_learns_what_the_session_says_and_a_window_does_not():
    def after(kind):
        carrier = make_carrier(CarrierConfig(kind, 2), SLOT)
        turn = turn_of(carrier=CarrierConfig(kind, 2), states="session", states_length=0, num_updates=200)
        student, lived, _ = night_of(turn, carrier.begin(jax.random.key(0), params()))
        agent = carrier.carried(student.params, params())
        jax.tree.map(np.testing.assert_array_equal, agent.params, params())
        obs = lived.session.obs
        taught = SLOT.agent.evaluate(params(), SLOT.recall_in(params(), lived.session, SESSION), obs).logits
        said = SLOT.agent.evaluate(params(), in_copies(agent.memory, SESSION), obs).logits
        return agent.memory, lived.session, float(divergences.forward_kl(jax.nn.softmax(taught), said).mean())

    window, session, before = after("window")
    _, _, learned = after("cartridge")
    assert learned < 0.3 * before
    whole = SLOT.recall_in(params(), session, 1)
    np.testing.assert_allclose(window.held[0], whole.held[0][:, SESSION - 2 : SESSION], rtol=1e-5, atol=1e-6)


def test_rewards_come_late_by_day():
    def day_of(late):
        return night_of(turn_of(num_updates=1, late_rewards=late), params())[1]

    punctual, late = day_of(0), day_of(3)
    assert np.asarray(punctual.student.reward)[:-3].any()
    for one, other in ((punctual.session, late.session), (punctual.student, late.student)):
        np.testing.assert_array_equal(one.obs[:3], other.obs[:3])
    # Nobody in this part of the day sees rewards but through the session in memory: the student's are the same, late.
    np.testing.assert_array_equal(late.student.reward[3:], punctual.student.reward[:-3])
    assert not np.asarray(late.student.reward)[:3].any() and not np.asarray(late.session.reward)[:3].any()


def test_the_first_agent_teaches_whatever_has_become_of_the_student():
    turn = turn_of(TeacherConfig(weights="first"), num_updates=1)
    spoiled = jax.tree.map(lambda leaf: leaf[..., ::-1], params())
    env = of_job(WORLD, 2)
    who = learner(spoiled, teacher=params())
    after, lived, metrics = jax.jit(lambda: turn(who, params(), env, env, seed=jnp.uint32(7), number=jnp.int32(0)))()
    jax.tree.map(np.testing.assert_array_equal, after.teacher, params())
    obs = lived.student.obs
    taught = SLOT.agent.evaluate(params(), SLOT.recall_in(params(), lived.session, STUDENT), obs).logits
    alone = SLOT.agent.evaluate(spoiled, (), obs).logits
    expected = divergences.forward_kl(jax.nn.softmax(taught), alone).mean()
    np.testing.assert_allclose(metrics["teacher_kl"], expected, rtol=1e-4)


def test_the_first_agent_lives_the_session_whatever_has_become_of_the_student():
    spoiled, env = jax.tree.map(lambda leaf: -9 * leaf, params()), of_job(WORLD, 2)

    def day_of(student, lived_by):
        turn = turn_of(num_updates=1, lived_by=lived_by)
        return jax.jit(lambda: turn(learner(student), params(), env, env, seed=jnp.uint32(7), number=jnp.int32(0)))()[1]

    unspoiled, deployed, first = day_of(params(), "deployed"), day_of(spoiled, "deployed"), day_of(spoiled, "first")
    np.testing.assert_array_equal(first.session.action, unspoiled.session.action)
    np.testing.assert_array_equal(first.student.action, deployed.student.action)  # the student's own part of the day
    assert (deployed.session.action != unspoiled.session.action).any()


NAP = NapConfig(places=2, num_updates=5, learning_rate=3e-2)


def night_of(turn, begun, optimizer=OPTIMIZER):
    who, env = learner(begun, optimizer), of_job(WORLD, 2)
    night = jax.jit(lambda: turn(who, params(), env, env, seed=jnp.uint32(7), number=jnp.int32(0)))()
    return night[0].student, *night[1:]


def test_a_nap_is_a_night_that_a_cartridge_learns_in():
    optimise = dataclasses.replace(OPTIMISE, learning_rate=NAP.learning_rate, max_grad_norm=1.0)
    optimizer, carrier = make_optimizer(optimise, NAP.num_updates), CarrierConfig("cartridge", NAP.places)
    turn = turn_of(carrier=carrier, optimizer=optimizer, states="session", states_length=0, num_updates=NAP.num_updates)
    student, lived, metrics = night_of(turn, make_carrier(carrier, SLOT).begin(None, params()), optimizer)
    napped = jax.jit(make_nap(SLOT, DistillConfig(), NAP))(params(), lived.session)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), napped.kept, student.params)
    assert 0 < napped.kl < metrics["teacher_kl"]  # the last of them, below their mean


def test_after_a_nap_the_cartridge_teaches():
    _, lived, metrics = night_of(turn_of(nap=NAP, num_updates=1), params())
    napped = jax.jit(make_nap(SLOT, DistillConfig(), NAP))(params(), lived.session)
    obs, n = lived.student.obs, STUDENT
    alone = SLOT.agent.evaluate(params(), (), obs).logits

    def kl(memory):
        policy = jax.nn.softmax(SLOT.agent.evaluate(params(), memory, obs).logits)
        return float(divergences.forward_kl(policy, alone).mean())

    np.testing.assert_allclose(metrics["teacher_kl"], kl(in_copies(SLOT.holding(napped.kept), n)), rtol=1e-4)
    by_session = kl(SLOT.recall_in(params(), lived.session, n))
    assert abs(by_session - metrics["teacher_kl"]) > 1e-3 * by_session
    np.testing.assert_allclose(metrics["nap_kl"], napped.kl, rtol=1e-4)


def test_who_reads_on_has_the_students_day_in_memory_step_by_step():
    turn = turn_of(teacher=TeacherConfig(reads_on=True), session_length=3, states_length=5, num_updates=1)
    _, lived, metrics = night_of(turn, params())

    def decide(memory, transition):
        one = jax.tree.map(lambda leaf: leaf[None], transition)
        logits = SLOT.agent.evaluate(params(), memory, one.obs).logits[0]
        return SLOT.agent.remember(params(), memory, one), logits

    _, said = jax.jit(lambda memory: jax.lax.scan(decide, memory, lived.student))(
        SLOT.recall_in(params(), lived.session, 1)
    )
    policy = jax.nn.softmax(said)
    np.testing.assert_allclose(reading_on(SLOT, params(), lived.session, lived.student), policy, rtol=1e-4, atol=1e-5)
    alone = SLOT.agent.evaluate(params(), (), lived.student.obs).logits
    np.testing.assert_allclose(metrics["teacher_kl"], divergences.forward_kl(policy, alone).mean(), rtol=1e-4)
    by_session = SLOT.agent.evaluate(params(), SLOT.recall_in(params(), lived.session, 5), lived.student.obs).logits
    np.testing.assert_allclose(by_session[0], said[0], rtol=1e-4, atol=1e-5)  # nothing of the day was read yet
    assert abs(by_session[1:] - said[1:]).max() > 1e-2


@pytest.mark.parametrize("weights", ["frozen", "ema", "first"])
def test_who_teaches_a_night_and_the_night_after(weights):
    """Frozen, it is who is deployed; first, who was from the beginning; by an average, after each update, half the last
    teacher and half the student."""
    other = jax.tree.map(lambda leaf: -leaf, params())
    teacher = TeacherConfig(weights=weights, **({"ema_step": 0.5} if weights == "ema" else {}))
    turn, env, lasts = turn_of(teacher, num_updates=1), of_job(WORLD, 2), weights != "frozen"
    who = learner(params(), teacher=other if lasts else ())
    after, lived, metrics = jax.jit(lambda: turn(who, params(), env, env, seed=jnp.uint32(7), number=jnp.int32(0)))()
    obs, reads = lived.student.obs, other if lasts else params()
    taught = SLOT.agent.evaluate(reads, SLOT.recall_in(reads, lived.session, STUDENT), obs).logits
    alone = SLOT.agent.evaluate(params(), (), obs).logits
    expected = divergences.forward_kl(jax.nn.softmax(taught), alone).mean()
    np.testing.assert_allclose(metrics["teacher_kl"], expected, rtol=1e-4)
    followed = jax.tree.map(lambda old, new: (old + new) / 2, other, after.student.params)
    close(after.teacher, {"frozen": (), "ema": followed, "first": other}[weights])


@pytest.mark.learn
def test_a_teacher_whose_weights_move_teaches_something_else():
    moving = slept([2], [7], teacher=TeacherConfig(weights="ema", ema_step=0.5))[0]
    assert moved(of(0, moving.params), plain()[0]) > 1e-3


def test_where_nothing_succeeded_there_is_nothing_to_clone():
    turn = turn_of(states="session", states_length=0, objective="clone_successes")
    hopeless = of_job(dataclasses.replace(WORLD, jobworld=dataclasses.replace(WORLD.jobworld, chain_length=9)), 1)
    after, lived, metrics = jax.jit(
        lambda: turn(learner(params()), params(), hopeless, hopeless, seed=0, number=jnp.int32(0))
    )()
    assert (float(lived.session.reward.sum()), float(metrics["loss"])) == (0, 0)
    jax.tree.map(np.testing.assert_array_equal, after.student.params, params())


@pytest.mark.learn
def test_an_anchor_holds_what_old_sessions_are_read_as():
    session, policy = old_session()

    def strays(agent):
        logits = SLOT.read(agent, jax.tree.map(lambda leaf: leaf[None], session)).logits[0]
        return divergences.forward_kl(policy, logits).mean()

    held = slept([2], [7], distill=DistillConfig(anchor_weight=30.0))[0]
    assert strays(of(0, held.params)) < 0.5 * strays(plain()[0])


@pytest.mark.parametrize("states", STATES)
def test_the_last_part_of_a_day_is_the_students_own_or_the_session(states):
    config = ConsolidationConfig(session_length=5, states_length=0 if states == "session" else 7, states=states)
    session, own = (types.SimpleNamespace(length=length) for length in (5, 7))
    lived = Lived(session, own if states == "student" else ())
    assert lived.last.length == config.last_length == (7 if states == "student" else 5)


def test_what_is_rehearsed_is_what_the_student_played_and_draws_it_back():
    slot = without_memory(make_tabular_agent(4, 2))
    spec = dataclasses.replace(SPEC, obs_shape=(), obs_dtype="int32", num_actions=2)
    even = {"logits": jnp.zeros((4, 2)), "value": jnp.zeros(4)}
    surer = even | {"logits": even["logits"].at[:, 0].set(np.log(3))}
    flags, state = jnp.zeros(3, bool), jnp.array([1, 2, 3])
    lived = Transition(state, jnp.ones((3, 2), bool), state, jnp.zeros(3), flags, flags, state)
    nothing = nothing_rehearsed(spec, 2, 3)
    keep = functools.partial(with_day, slot, nothing, Carried(surer, ()), lived)
    beyond = keep(stage=jnp.int32(2), ends=jnp.bool_(False))  # there is no room for a third
    jax.tree.map(np.testing.assert_array_equal, beyond, nothing.replace(num_ended=2))
    kept = keep(stage=jnp.int32(0), ends=jnp.bool_(False))
    np.testing.assert_array_equal(kept.obs, [[1, 2, 3], [0, 0, 0]])
    np.testing.assert_allclose(kept.policy, [[[0.75, 0.25]] * 3, [[0.5, 0.5]] * 3], rtol=1e-6)
    assert kept.num_ended == 0 and keep(stage=jnp.int32(0), ends=jnp.bool_(True)).num_ended == 1

    def nats(params, num_ended):
        return strayed(slot, kept.replace(num_ended=num_ended), Carried(params, ()))

    away = 0.75 * np.log(1.5) - 0.25 * LN2
    np.testing.assert_allclose(nats(even, 1), [away, 0], rtol=1e-5)
    np.testing.assert_allclose(nats(surer, 2), [0, np.log(2 / np.sqrt(3))], atol=1e-6)
    for num_ended, pull in ((0, 0), (1, 0.25 / 3)):  # towards 3 to 1 where it lived, once the job has ended
        back = jax.grad(lambda params, num_ended=num_ended: nats(params, num_ended).sum())(even)["logits"]
        np.testing.assert_allclose(back, [[0, 0], *[[-pull, pull]] * 3], atol=1e-6)


@pytest.mark.learn
def test_rewards_beside_the_teacher_move_the_student():
    total = np.asarray(rows_of(plain()[1].student).total)
    assert 0 < total.sum() < 8  # some episodes end well and some do not
    student, lived, _ = slept([2], [7], distill=DistillConfig(reinforce_weight=100.0))
    jax.tree.map(np.testing.assert_array_equal, of(0, lived), plain()[1])
    assert moved(of(0, student.params), plain()[0]) > 1e-3


@pytest.mark.parametrize(("late", "credit", "learns"), [(0, 0, True), (3, 3, True), (3, 0, False)])
def test_the_policy_gradient_finds_the_right_answers_if_it_counts_what_they_are_paid(late, credit, learns):
    settings = {"objective": "reinforce", "session_length": 0, "states_length": 64, "num_updates": 20}
    turn = turn_of(**settings, late_rewards=late, credit_window=credit)
    env = of_job(dataclasses.replace(WORLD, jobworld=dataclasses.replace(WORLD.jobworld, chain_length=1, slack=0)), 1)

    def night(who, number):
        who, lived, _ = turn(who, params(), env, env, seed=jnp.uint32(3), number=number)
        return who, lived.student.reward.mean()

    first = learner(jax.tree.map(lambda leaf: leaf / 4, params()))
    _, paid = jax.jit(lambda who: jax.lax.scan(night, who, jnp.arange(20)))(first)
    assert paid[0] < 0.7
    assert (paid[-1] > 0.9) == learns


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "copy"}, "consolidation.objective is 'copy': give one of distil"),
        ({"states": "awake"}, "consolidation.states is 'awake': give one of student"),
        ({"num_nights": 0}, "consolidation.num_nights is 0: give 1 or more"),
        ({"num_updates": 0}, "consolidation.num_updates is 0: give 1 or more"),
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
