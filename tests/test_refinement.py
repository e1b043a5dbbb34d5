"""What each arm of refined trajectories learns from: a student's two episodes in a world of dead ends, by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core.ports import Agent
from dreamer.core.types import Evaluation, Transition
from dreamer.loop import Lived
from dreamer.loop.refinement import DreamedWorld, advantages, go_on, refined, rows_of
from dreamer.sleep.refine import RefineConfig
from dreamer.wake.envs import EnvConfig, JobWorldConfig
from dreamer.wake.envs.jobs import codebook
from dreamer.wake.envs.jobworld import as_seen, of_codebook, view
from experiments.sessions.dreams import make_judge, sure
from experiments.sessions.failures import told
from tests.tiny import without_memory

WORLD = JobWorldConfig(num_keys=2, num_answers=2, chain_length=2, slack=1, error="dead_end")  # three decisions
ANSWERS = jnp.array([1, 0], jnp.int32)
ENV = of_codebook(EnvConfig("JobWorld-v0", "jobworld", jobworld=WORLD), ANSWERS)
DREAM = DreamedWorld(
    ENV,
    at=functools.partial(as_seen, WORLD, ANSWERS),
    judge=make_judge(WORLD),
    sure=functools.partial(sure, WORLD, 0.0),
    shortest=WORLD.chain_length,
)
STUDENT_LOGITS = jnp.array([0.5, 0.0])
# A finished chain, then an episode that is lost at its second decision and goes on until its deadline.
PLAN = (("right", "right"), ("right", "wrong", "wrong"))


def teacher(obs, sure=0.95):
    """Knows the right answer and gives it this probability, where a key is seen."""
    right = jax.nn.one_hot(ANSWERS[jnp.maximum(view(WORLD, obs).key, 0)], 2)
    return jnp.log(right * sure + (1 - right) * (1 - sure))


def student(obs):
    return jnp.broadcast_to(STUDENT_LOGITS, (*obs.shape[:1], 2))


@functools.cache
def lived():
    met = []
    for number, episode in enumerate(PLAN):
        state, obs = ENV.reset(jax.random.key(number))
        for what in episode:
            right = int(ANSWERS[state.chain[state.progress]])
            action = jnp.int32(right if what == "right" else 1 - right)
            state, next_obs, reward, terminated, truncated = ENV.step(jax.random.key(0), state, action)
            met.append(Transition(obs, jnp.ones(2, bool), action, reward, terminated, truncated, next_obs))
            obs = next_obs
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *met)


@functools.cache
def by(arm, temperature=None, sure=0.95):
    config = RefineConfig(arm) if temperature is None else RefineConfig(arm, temperature=temperature)
    knows = functools.partial(teacher, sure=sure)
    refine = functools.partial(refined, config, world=DREAM, student=student, teacher=knows, key=jax.random.key(3))
    return jax.device_get(jax.jit(refine)(rows_of(lived())))


def learned_from(rows, *, dreamed):
    """The rows that count, of the student's own or of dreams, with what their observations show."""
    chosen = np.flatnonzero((rows.kept > 0) & (rows.dreamed == dreamed))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[chosen], rows), view(WORLD, rows.lived.obs[chosen])


def test_the_tape_is_what_it_should_be():
    rows = rows_of(lived())
    np.testing.assert_array_equal(rows.trajectory, [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(rows.total[:2], [1, 0])
    np.testing.assert_array_equal(view(WORLD, lived().obs).lost, [0, 0, 0, 0, 1])


def test_harm_is_what_the_teacher_holds_for_it():
    obs, probs = lived().obs, jax.nn.softmax(teacher(lived().obs))
    q = DREAM.judge(probs, obs)
    # Before a dead end a right answer is worth 1 and a wrong one 0; in it nothing is worth anything.
    np.testing.assert_allclose(q[:4].max(axis=-1), 0.95, rtol=1e-6)
    np.testing.assert_allclose(q[:4].min(axis=-1), 0.05, rtol=1e-5)
    np.testing.assert_array_equal(q[4], [0, 0])
    expected = 0.95 - (0.95**2 + 0.05**2)
    np.testing.assert_allclose(
        advantages(probs, q, lived().action), [expected] * 3 + [expected - 0.9, 0], rtol=1e-5, atol=1e-7
    )


def test_where_time_remains_a_mistake_without_a_dead_end_is_no_harm():
    safe = JobWorldConfig(num_keys=2, num_answers=2, chain_length=2, slack=1)
    judge = make_judge(safe)
    obs = jnp.array([[1.0, 0, 0, 1], [1, 0, 0.5, 1 / 3]])  # at the start, and one key and one decision before the end
    np.testing.assert_allclose(judge(jnp.array([[0.8, 0.2]] * 2), obs), [[1, 1], [0.8, 0.2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("arm", "kept"), [("truncate", [1, 1, 1, 1, 0]), ("drop_failures", [1, 1, 0, 0, 0])]
)  # fmt: skip
def test_arms_of_the_students_own_states_keep_some(arm, kept):
    rows = by(arm)
    np.testing.assert_array_equal(rows.kept, kept)
    assert not rows.dreamed.any() and (rows.certainty == 1).all()


def test_a_rewrite_takes_the_place_of_what_followed_the_harm():
    own, _ = learned_from(by("rewrite", 0.01), dreamed=False)
    np.testing.assert_array_equal(own.trajectory, [0, 0, 1])
    rewritten, shown = learned_from(by("rewrite", 0.01), dreamed=True)
    # One key was left: the teacher answers it, and the episode is over.
    np.testing.assert_array_equal(rewritten.lived.obs, lived().obs[3:4])
    np.testing.assert_array_equal(rewritten.trajectory, [1])
    assert not shown.lost.any() and rewritten.lived.reward == [1] and rewritten.lived.terminated.all()


def test_at_a_high_temperature_the_student_acts():
    config = RefineConfig("rewrite", temperature=1e6)
    refine = functools.partial(refined, config, world=DREAM, student=student, teacher=teacher)
    many = jax.vmap(lambda key: refine(rows_of(lived()), key=key))(jax.random.split(jax.random.key(0), 2000))
    begun = many.dreamed & (many.kept > 0) & (many.lived.obs == lived().obs[None, None, 3]).all(axis=-1)
    assert begun.sum() == 2000  # each dream begins in the state of the harm, and comes to it once
    played = float((many.lived.action == 0)[begun].mean())
    assert played == pytest.approx(float(jax.nn.softmax(STUDENT_LOGITS)[0]), abs=0.04)


def test_recovery_begins_behind_the_harm_and_there_is_none_from_a_dead_end():
    rows = by("recover")
    np.testing.assert_array_equal(rows.kept[:5], [1, 1, 1, 1, 0])
    recovered, shown = learned_from(rows, dreamed=True)
    np.testing.assert_array_equal(recovered.lived.obs, lived().obs[4:5])
    assert shown.lost.all() and recovered.lived.reward == [0]


def test_a_fresh_episode_of_the_teacher_stands_for_each_of_the_student():
    own, _ = learned_from(by("fresh", sure=0.9999), dreamed=False)
    assert len(own.trajectory) == 0
    fresh, shown = learned_from(by("fresh", sure=0.9999), dreamed=True)
    # All first decisions come before all second ones; all is answered rightly.
    np.testing.assert_array_equal(fresh.trajectory, [0, 1, 0, 1])
    np.testing.assert_array_equal(shown.progress, [0, 0, 1, 1])
    np.testing.assert_array_equal(fresh.lived.reward, [0, 0, 1, 1])


def test_both_are_weighted_by_how_sure_the_dream_is():
    rows = by("both")
    np.testing.assert_array_equal(rows.kept[:5], [1, 1, 1, 0, 0])
    dreamed, shown = learned_from(rows, dreamed=True)
    np.testing.assert_array_equal(shown.lost, [0, 1])
    np.testing.assert_array_equal(dreamed.certainty, [1, 1])  # where a dream begins it is what was lived
    # Behind them: three decisions each of a rewrite and a recovery, from three places at most. A dead end is certain.
    rewrite, recovery = rows.certainty[5:14].reshape(3, 3)[:, 0], rows.certainty[14:].reshape(3, 3)[:, 0]
    np.testing.assert_allclose(rewrite[1], 0.95**2 + 0.05**2, rtol=1e-5)
    np.testing.assert_array_equal(recovery, [1, 1, 1])


def test_acting_on_stops_where_the_episode_does():
    states = jax.vmap(DREAM.at)(jax.random.split(jax.random.key(0), 5), lived().obs)
    met, goes_on = go_on(ENV, states, lived().obs, teacher, jax.random.key(0), num_steps=3, greedy=True)
    np.testing.assert_array_equal(goes_on.sum(axis=0), [2, 1, 2, 1, 1])
    ends = np.asarray((met.terminated | met.truncated) & goes_on)
    np.testing.assert_array_equal(ends.sum(axis=0), 1)
    np.testing.assert_array_equal((met.reward * goes_on).sum(axis=0), [1, 1, 1, 1, 0])


@pytest.mark.parametrize(("reads_on", "right"), [(False, (1, 1)), (True, (0.5, 0))])
def test_how_often_labels_are_right_by_hand(reads_on, right):
    """The tape twice; who has read a mistake is wrong from then on: in four of the eight states up to one, too."""
    number = next(n for n in range(4) if (codebook(WORLD, n) == ANSWERS).all())

    def knows(obs, misled):
        asked = ANSWERS[view(WORLD, obs).key]
        return Evaluation(9 * jax.nn.one_hot(jnp.where(misled, 1 - asked, asked), 2), None, None)

    def evaluate(params, memory, obs):
        return knows(obs, jnp.zeros(obs.shape[:1], bool))

    def read(params, session):
        wrong = session.action != ANSWERS[view(WORLD, session.obs).key]
        return knows(session.obs, jnp.cumsum(wrong, axis=1) > wrong)

    def recall(params, session):
        return jnp.zeros(session.action.shape[:1])

    slot = without_memory(Agent(None, evaluate, None, None))._replace(read=read, recall=recall)
    tape = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), lived())
    day = Lived(jax.tree.map(lambda leaf: leaf[:3], tape), tape)
    config = EnvConfig("JobWorld-v0", "jobworld", jobworld=WORLD)
    found = told(slot, config, (), day, number=jnp.int32(number), reads_on=reads_on)
    assert (found.right_before, found.right_after) == right
