"""Naps: a session is folded into a few places of memory, which teach in its stead.

Letters: T decisions of a session.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax

from dreamer.core.ports import SessionAgent
from dreamer.core.types import PyTree, Transition
from dreamer.loop.objective import make_loss
from dreamer.loop.refinement import rows_of
from dreamer.sleep.carriers import CarrierConfig, NapConfig, make_carrier
from dreamer.sleep.distill import DistillConfig
from dreamer.sleep.update import TrainState, UpdateConfig, init_train_state, make_optimizer, train_step


class Napped(NamedTuple):
    """What a nap made of a session."""

    kept: PyTree
    """Keys and values of the places, as `SessionAgent.holding` takes them."""
    kl: jax.Array
    """[] mean KL(reader of the session || holder of the places) in the session's states, nats, at the last update."""


def make_nap(slot: SessionAgent, distill: DistillConfig, nap: NapConfig) -> Callable:
    """Returns the pure (params, session [T]) -> Napped: a cartridge that says in the session's states what its reader
    does, by the loss of a night."""
    cartridge = make_carrier(CarrierConfig("cartridge", nap.places), slot)
    alone = dataclasses.replace(distill, anchor_weight=0.0, rehearsal_weight=0.0, reinforce_weight=0.0)
    loss_of = make_loss(slot, "distil", alone, cartridge)
    step = UpdateConfig(
        learning_rate=nap.learning_rate, warmup_updates=0, final_share=1.0, weight_decay=0.0, max_grad_norm=1.0
    )
    optimizer = make_optimizer(step, nap.num_updates)

    def fold(params: PyTree, session: Transition) -> Napped:
        rows, n = rows_of(session), session.action.shape[0]
        policy, before = (
            slot.agent.evaluate(params, slot.recall_in(params, known, n), session.obs).logits for known in (session, ())
        )
        said = {"rows": rows, "before": before, "policy": jax.nn.softmax(policy), "old": (), "rehearsed": ()}
        loss = functools.partial(loss_of, first=params, **said)

        def one_update(state: TrainState, _) -> tuple[TrainState, jax.Array]:
            state, metrics, _ = train_step(state, loss, optimizer=optimizer)
            return state, metrics["teacher_kl"]

        begun = init_train_state(cartridge.fill((), params, session), optimizer)
        state, kl = jax.lax.scan(one_update, begun, length=nap.num_updates)
        return Napped(state.params, kl[-1])

    return fold
