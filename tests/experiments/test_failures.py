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
from experiments.sessions.failures import recovery, slips
from tests.tiny import without_memory


@pytest.mark.parametrize(
    ("deadly", "reads_on", "saved", "savable", "regret"),
    [
        # One failure in three has its first answer right, and what is lost is lost.
        (1.0, False, (1 / 3, 0, 0, 0), (1 / 3, 0, 0, 0), (0, 0, 0, 0, 0)),
        # At most one of five answers was right: two keys take the last two decisions, one takes the last.
        (0.0, False, (1, 1, 1, 4 / 6), (1, 1, 1, 4 / 6), (0, 0, 0, 0, 0)),
        # Who has read a mistake goes on making mistakes: only where the first answer was right none is read yet. They
        # cost nothing while there is time for another, and where it is too late.
        (0.0, True, (1 / 6, 0, 0, 0), (1, 1, 1, 4 / 6), (0, 0, 0, 4 / 6, 3 / 5)),
        (1.0, True, (1 / 3, 0, 0, 0), (1 / 3, 0, 0, 0), (0, 0, 0, 0, 0)),
    ],
)
def test_what_a_teacher_saves_by_hand(deadly, reads_on, saved, savable, regret):
    world = JobWorldConfig(num_answers=2, chain_length=2, slack=3, error="dead_end", dead_end_prob=deadly)
    config, number = EnvConfig("JobWorld-v0", "jobworld", jobworld=world), jnp.int32(3)
    right = codebook(world, number)

    def evaluate(params, mistakes, obs):
        asked = right[view(world, obs).key]
        if isinstance(mistakes, tuple):
            return Evaluation(jnp.zeros((*asked.shape, 2)), None, None)
        return Evaluation(99 * jax.nn.one_hot(jnp.where(mistakes > 0, 1 - asked, asked), 2), None, None)

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
    assert (found.right_before, found.right_after) == (1, not reads_on)
    np.testing.assert_allclose(found.regret, (*regret, np.nan), atol=0.03)  # no failure goes on for so long
    bits = 99 / np.log(2) * reads_on
    np.testing.assert_allclose(found.surprise, (0, bits, bits, bits, bits, np.nan), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("known", "remembers", "swayed", "wrong", "wrong_after"),
    [
        (2, False, True, 0, 0),  # who has no memory cannot be swayed
        (2, True, True, 0, 1),
        (2, True, False, 0, 0),
        (1, False, True, None, None),  # what is not known is not known, whatever came before
    ],
)
def test_what_a_mistake_does_to_later_answers_by_hand(known, remembers, swayed, wrong, wrong_after):
    """An agent that knows the first keys and, if it is swayed, errs on from the next key on once it has erred."""
    world = JobWorldConfig(num_keys=2, num_answers=2, chain_length=4, slack=2)
    config, number = EnvConfig("JobWorld-v0", "jobworld", jobworld=world), jnp.int32(1)
    right = codebook(world, number)

    def evaluate(params, mistakes, obs):
        key, further = view(world, obs).key, view(world, obs).progress > 0
        errs = (key >= known) | (swayed & further & (mistakes > 0) if remembers else False)
        return Evaluation(99 * jax.nn.one_hot(jnp.where(errs, 1 - right[key], right[key]), 2), None, None)

    def remember(params, mistakes, lived):
        return mistakes + (lived.action != right[view(world, lived.obs).key])

    slot = without_memory(Agent(None, evaluate, None, remember))
    slot = slot._replace(empty=lambda num_copies, num_decisions: jnp.zeros(num_copies, jnp.int32))
    same = {"number": number, "seed": jnp.uint32(5), "num_episodes": 200, "remembers": remembers}
    found = jax.jit(lambda: slips(slot, config, Carried((), ()), **same))()
    if wrong is None:  # of three keys behind a known one those come to: half, then a quarter, then an eighth know on
        assert 0.3 < found.wrong == found.wrong_after < 0.7
    else:
        assert (found.wrong, found.wrong_after) == (wrong, wrong_after)
