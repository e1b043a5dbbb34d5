"""Failures by hand: what a teacher makes of them, and what one mistake does to the answers behind it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core.ports import Agent
from dreamer.core.types import Evaluation, Transition
from dreamer.sleep.carriers import Carried
from dreamer.wake.envs import EnvConfig, JobWorldConfig
from dreamer.wake.envs.jobs import codebook
from dreamer.wake.envs.jobworld import view
from experiments.results import FIELDS
from experiments.sessions.failures import STEPS, recovery, self_conditioning
from tests.tiny import without_memory


@pytest.mark.parametrize(
    ("deadly", "reads_on", "saved", "savable", "regret", "knows"),
    [
        # One failure in three has its first answer right, and what is lost is lost.
        (1.0, False, (1 / 3, 0, 0, 0), (1 / 3, 0, 0, 0), (0, 0, 0, 0, 0), True),
        # At most one of five answers was right: two keys take the last two decisions, one takes the last.
        (0.0, False, (1, 1, 1, 4 / 6), (1, 1, 1, 4 / 6), (0, 0, 0, 0, 0), True),
        # Who has read a mistake goes on making mistakes: only where the first answer was right none is read yet. They
        # cost nothing while there is time for another, and where it is too late.
        (0.0, True, (1 / 6, 0, 0, 0), (1, 1, 1, 4 / 6), (0, 0, 0, 4 / 6, 3 / 5), True),
        (1.0, True, (1 / 3, 0, 0, 0), (1 / 3, 0, 0, 0), (0, 0, 0, 0, 0), True),
        # Where every mistake is fatal, who is never right gives away all up to the first, and then there is nothing.
        (1.0, False, (0, 0, 0, 0), (1 / 3, 0, 0, 0), (1, 0, 0, 0, 0), False),
    ],
)
def test_what_a_teacher_saves_by_hand(deadly, reads_on, saved, savable, regret, knows):
    world = JobWorldConfig(num_answers=2, chain_length=2, slack=3, error="dead_end", dead_end_prob=deadly)
    config, number = EnvConfig("JobWorld-v0", "jobworld", jobworld=world), jnp.int32(3)
    right = codebook(world, number)

    def evaluate(params, mistakes, obs):
        asked = right[view(world, obs).key]
        if isinstance(mistakes, tuple):
            return Evaluation(jnp.zeros((*asked.shape, 2)), None, None)
        return Evaluation(99 * jax.nn.one_hot(jnp.where((mistakes > 0) | (not knows), 1 - asked, asked), 2), None, None)

    def remember(params, mistakes, lived):
        return mistakes + (lived.action != right[view(world, lived.obs).key])

    def recall(params, session):
        return jnp.zeros(session.action.shape[:1], jnp.int32)

    slot = without_memory(Agent(None, evaluate, None, remember))._replace(recall=recall)
    session = jax.tree.map(lambda leaf: leaf[None], Transition(*jnp.zeros(7)))
    same = {"number": number, "seed": jnp.uint32(0), "num_episodes": 4000, "reads_on": reads_on, "teacher": ()}
    found = recovery(slot, config, (), session, **same)
    np.testing.assert_allclose(found.recovered, saved, atol=0.03)
    np.testing.assert_allclose(found.savable, savable, atol=0.03)
    assert (found.right_before, found.right_after) == (knows, knows and not reads_on)
    np.testing.assert_allclose(found.regret, (*regret, np.nan), atol=0.03)  # no failure goes on for so long
    stake = (0, 0, 0, 4 / 6, 3 / 5) if not deadly else (1, 0, 0, 0, 0)
    np.testing.assert_allclose(found.stake, (*stake, np.nan), atol=0.03)
    bits = 99 / np.log(2) * np.array([not knows, *(reads_on or not knows,) * 4])
    np.testing.assert_allclose(found.surprise, (*bits, np.nan), rtol=1e-5, atol=1e-5)


def test_rows_have_a_column_for_every_step():
    assert {f"{name}_{step}" for name in ("stake", "regret", "surprise") for step in STEPS} <= set(FIELDS)


@pytest.mark.parametrize(
    ("known", "remembers", "swayed", "wrong", "wrong_after"),
    [
        (2, False, True, 0, 0),  # who has no memory cannot be swayed
        (2, True, True, 0, 1),
        (2, True, False, 0, 0),
        (1, False, True, "some", "as many"),  # what is not known is not known, whatever came before
        (1, True, False, "some", "as many"),
        (1, True, True, "some", 1),
    ],
)
def test_what_a_mistake_does_to_later_answers_by_hand(known, remembers, swayed, wrong, wrong_after):
    """An agent that knows the first keys. With a memory, of its mistakes at these and of where it was last asked, it
    answers the others rightly at the second try; and if it is swayed, it errs wherever it comes to, once it has erred.
    """
    world = JobWorldConfig(num_keys=2, num_answers=2, chain_length=4, slack=5)
    config, number = EnvConfig("JobWorld-v0", "jobworld", jobworld=world), jnp.int32(1)
    right = codebook(world, number)

    def evaluate(params, memory, obs):
        seen = view(world, obs)
        errs = seen.key >= known
        if remembers:
            errs = (memory[:, 1] < seen.progress) & (errs | swayed & (memory[:, 0] > 0))
        return Evaluation(99 * jax.nn.one_hot(jnp.where(errs, 1 - right[seen.key], right[seen.key]), 2), None, None)

    def remember(params, memory, lived):
        seen = view(world, lived.obs)
        erred = (lived.action != right[seen.key]) & (seen.key < known)
        return jnp.stack([memory[:, 0] + erred, seen.progress], axis=1)

    slot = without_memory(Agent(None, evaluate, None, remember))
    slot = slot._replace(empty=lambda num_copies, num_decisions: jnp.tile(jnp.array([0, -1]), (num_copies, 1)))
    same = {"number": number, "seed": jnp.uint32(5), "num_episodes": 200, "remembers": remembers}
    found = jax.jit(lambda: self_conditioning(slot, config, Carried((), ()), **same))()
    assert 0.3 < found.wrong < 0.7 if wrong == "some" else found.wrong == wrong
    assert found.wrong_after == (found.wrong if wrong_after == "as many" else wrong_after)
