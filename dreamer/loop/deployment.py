"""Who acts while the learner learns on: with a gate, the last agent that passed it; without one, the learner itself.

A night's agent is judged on the day after it, which the agent before it lives and from which nobody has learned yet; it
then acts from the next day on. After the last night there is no such day, so its agent is never deployed.

Letters: T decisions, E environment copies.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core import keys as streams
from dreamer.core.types import Params, PyTree, Transition
from dreamer.sleep.gate import Gate
from dreamer.sleep.update import LearnerState

JUDGED = "judged"
"""Name in the evidence: 1 where there was a candidate to judge, 0 where there was none."""


@struct.dataclass
class Deployment:
    """The agent in force, frozen as it was when its night ended."""

    params: Params
    """What acts."""
    return_spread: jax.Array
    """As in the LearnerState that it was."""
    updates: jax.Array
    """As in the LearnerState that it was."""
    judged: jax.Array
    """int32 scalar, updates of the last candidate that was judged: none is judged twice."""


Judge = Callable[[LearnerState, PyTree, Transition, jax.Array, jax.Array], tuple[PyTree, PyTree]]


def first_deployment(gate: Gate | None, learner: LearnerState) -> PyTree:
    """Returns the deployment of an agent that has learned nothing; () without a gate."""
    if gate is None:
        return ()
    frozen = jax.tree.map(jnp.copy, (learner.params, learner.return_spread, learner.updates, learner.updates))
    return Deployment(*frozen)


def in_force(learner: LearnerState, deployed: PyTree) -> LearnerState | Deployment:
    """Returns who acts: the deployment, or where there is none, which is `()`, the learner itself."""
    return learner if isinstance(deployed, tuple) else deployed


def make_judge(gate: Gate | None) -> Judge:
    """Returns the pure `judge(learner, deployment, day, seed, due) -> (deployment, evidence)`; () both without a gate.

    Args of the function:
      learner: what the last night made.
      deployment: the agent in force.
      day: [T, E] the pending day.
      seed: the run's.
      due: scalar bool, whether the day is about to be learned from: afterwards it is no evidence any more.
    """
    if gate is None:
        return lambda learner, deployment, day, seed, due: ((), ())

    @functools.partial(jax.jit, inline=True)  # traced once, although its shapes are asked for before it is called
    def weigh(learner: LearnerState, deployment: Deployment, day: Transition, seed: jax.Array) -> tuple:
        key = streams.stream(seed, "gate", learner.updates)
        passed, evidence = gate(learner.params, deployment.params, day, key, return_spread=deployment.return_spread)
        is_new = learner.updates > deployment.judged
        candidate = Deployment(learner.params, learner.return_spread, learner.updates, learner.updates)
        kept = deployment.replace(judged=learner.updates)
        chosen = jax.tree.map(lambda new, old: jnp.where(is_new & passed, new, old), candidate, kept)
        evidence |= {JUDGED: jnp.ones(())}
        return chosen, {name: jnp.where(is_new, value, 0.0) for name, value in evidence.items()}

    def judge(learner: LearnerState, deployment: Deployment, day: Transition, seed: jax.Array, due: jax.Array) -> tuple:
        shapes = jax.eval_shape(weigh, learner, deployment, day, seed)[1]
        nothing = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
        return jax.lax.cond(due, lambda: weigh(learner, deployment, day, seed), lambda: (deployment, nothing))

    return judge
