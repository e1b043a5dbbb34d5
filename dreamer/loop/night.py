"""What happens between two days: so many updates on replayed and on imagined rows, as one pure program.

Letters: B batch, D imagined rows of it, S re-searched sequences, K unroll steps.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dreamer import replay as replays
from dreamer.core import keys as streams
from dreamer.core import mesh
from dreamer.core.ports import Agent, WorldModel
from dreamer.core.types import Metrics, Params, PyTree, SequenceBatch
from dreamer.loop.rhythm import LoopConfig
from dreamer.sleep.augment import AugmentConfig, augment
from dreamer.sleep.fit import FitConfig, fit_loss
from dreamer.sleep.gate import STOPPED, Looks
from dreamer.sleep.imagine import OF_DREAMS, Imagine, ImagineConfig, dream_loss
from dreamer.sleep.targets import MakeTargets, TargetsConfig
from dreamer.sleep.update import LearnerState, Optimizer, UpdateConfig, init_params, renew, update

Night = Callable[..., tuple[LearnerState, replays.ReplayState, Metrics]]
NIGHT_UPDATES = "night_updates"
"""Name in the metrics of a night that is looked at: the updates that were made of those that were due."""


def make_night(
    model: WorldModel,
    agent: Agent,
    targets: MakeTargets,
    imagine: Imagine,
    optimizer: Optimizer,
    *,
    loop: LoopConfig,
    replay: replays.ReplayConfig,
    target: TargetsConfig,
    imagination: ImagineConfig,
    fit: FitConfig,
    optimise: UpdateConfig,
    augmentation: AugmentConfig,
    spread: Callable[[PyTree], PyTree] = mesh.ONE.spread,
) -> Night:
    """Returns the pure `night(learner, replay, made, num_updates, seed, looks=None)`: one loop of updates.

    Args of the function:
      learner: what learns.
      replay: what it learns from.
      made: scalar int32, updates before this night. `learner.updates` says so too; but of several seeds that is a
        batch, and a condition on a batch runs both its branches.
      num_updates: scalar int32, of this night.
      seed: the run's.
      looks: what may stop the night early, asked again and again; None makes all updates.

    It returns the learner, the replay and the metrics: each a mean over the updates, those of dreams over the updates
    that dreamed.
    """
    num_dreams = imagination.num_dreams(loop.batch_size)
    first_dream = loop.updates_due(imagination.begin_after)

    def learn(
        num_dreams: int, learner: LearnerState, batch: SequenceBatch, keys: tuple[jax.Array, jax.Array], seed: jax.Array
    ) -> tuple:
        """Returns the learner after an update, metrics, and places and value errors, [B] each, of what was fitted."""
        search_key, fit_key = keys
        told = {"return_spread": learner.return_spread, "progress": loop.progress(learner.updates)}
        num_real = loop.batch_size - num_dreams
        real = jax.tree.map(lambda rows: rows[:num_real], batch)
        search_keys = jax.random.split(search_key, (target.num_searched(num_real), target.num_roots))
        opinions = spread(targets(learner.target, real, search_keys, **told))
        augment_key = streams.stream(seed, "augment", learner.updates)
        seen = augment(augmentation, real, augment_key, unroll_steps=target.unroll_steps)
        if num_dreams:
            begin = num_real + jnp.arange(num_dreams) // imagination.branches
            dream_keys = jax.random.split(streams.stream(seed, "imagine", learner.updates), num_dreams)
            starts = spread((batch.obs[begin, 0], batch.action_mask[begin, 0]))
            dreams, told = imagine(learner.target, *starts, dream_keys, **told)
            dream_weight = batch.weight[begin]

        def loss(params: Params) -> tuple[jax.Array, tuple[Metrics, jax.Array]]:
            total, (metrics, errors) = fit_loss(params, fit_key, seen, opinions, model=model, agent=agent, config=fit)
            if num_dreams:
                by_dreams, dreamed = dream_loss(params, dreams, dream_weight, model=model, agent=agent, config=fit)
                total = (num_real * total + num_dreams * by_dreams) / loop.batch_size
                metrics = metrics | dreamed | told | {"loss": total}
            return total, (metrics, errors)

        learner, metrics, errors = update(learner, loss, opinions.value[:, 0], optimizer=optimizer, config=optimise)
        return learner, metrics, *(jnp.pad(x, (0, num_dreams), mode="edge") for x in (real.index, errors))

    def learn_in_time(made: jax.Array, *args: PyTree) -> tuple:
        """As `learn`; dreams begin at their update, and the metrics of none are 0."""
        dreaming = jax.jit(functools.partial(learn, num_dreams), inline=True)  # traced once, as `one_update`
        if not first_dream or not num_dreams:
            return dreaming(*args)

        def awake(*args: PyTree) -> tuple:
            learner, metrics, *places = learn(0, *args)
            names = jax.eval_shape(dreaming, *args)[1]
            return learner, {name: metrics.get(name, jnp.zeros(())) for name in names}, *places

        return jax.lax.cond(made >= first_dream, dreaming, awake, *args)

    @functools.partial(jax.jit, inline=True)  # traced once, although its shapes are asked for before it is looped
    def one_update(
        learner: LearnerState, state: replays.ReplayState, made: jax.Array, seed: jax.Array, events: jax.Array | None
    ) -> tuple[LearnerState, replays.ReplayState, Metrics]:
        sample_key, *keys = jax.random.split(streams.stream(seed, "update", learner.updates), 3)
        batch: SequenceBatch = spread(
            replays.sample(
                replay,
                state,
                sample_key,
                batch_size=loop.batch_size,
                length=target.length,
                events=events,
                progress=jnp.minimum(1.0, learner.updates / max(1, loop.num_updates)),
            )
        )
        batch = target.learned(batch)  # here, so that targets and model learn from the same
        learner, metrics, place, errors = learn_in_time(made, learner, batch, tuple(keys), seed)
        if optimise.reset_every:
            renew_key = streams.stream(seed, "renew", learner.updates)
            learner = renew(
                learner,
                lambda: init_params(model, agent, renew_key, batch.obs[:1, 0]),
                optimizer=optimizer,
                config=optimise,
                made=made + 1,
                num_updates=loop.num_updates,
            )
        if replay.priority_exponent:
            state = replays.set_priorities(state, place, errors)
        return learner, state, metrics

    def night(
        learner: LearnerState,
        state: replays.ReplayState,
        made: jax.Array,
        num_updates: jax.Array,
        seed: jax.Array,
        looks: Looks | None = None,
    ) -> tuple[LearnerState, replays.ReplayState, Metrics]:
        events = replays.eventful(state, target.unroll_steps) if replay.event_share else None
        shapes = jax.eval_shape(one_update, learner, state, made, seed, events)[2]
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

        def body(now: jax.Array, carry: tuple) -> tuple:
            learner, state, metrics = one_update(*carry[:2], now, seed, events)
            return learner, state, jax.tree.map(jnp.add, carry[2], metrics)

        end, carry, told = made + num_updates, (learner, state, zeros), {}
        if looks is None:
            carry = jax.lax.fori_loop(made, end, body, carry)
        else:
            end, carry, told = _looked_at(looks, body, made, end, carry)
            num_updates = end - made
            told |= {NIGHT_UPDATES: num_updates}
        learner, state, total = carry
        num_dreaming = end - jnp.maximum(made, first_dream)
        counts = {name: num_dreaming if name.startswith(OF_DREAMS) else num_updates for name in total}
        return learner, state, {name: value / jnp.maximum(counts[name], 1) for name, value in total.items()} | told

    return night


def _looked_at(
    looks: Looks, body: Callable, made: jax.Array, end: jax.Array, carry: tuple
) -> tuple[jax.Array, tuple, Metrics]:
    """Returns (updates after the last one, the carry, what the last look found) of a loop that may stop early.

    After every `looks.every` updates and the last one comes a look.
    """
    lowest = looks.begin(carry[0].params)
    shapes = jax.eval_shape(looks.look, carry[0].params, lowest)[2]
    told = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}

    def goes_on(at: tuple) -> jax.Array:
        now, _, _, stop, _ = at
        return (now < end) & ~stop

    def stretch(at: tuple) -> tuple:
        now, carry, lowest, _, _ = at
        until = jnp.minimum(now + looks.every, end)
        carry = jax.lax.fori_loop(now, until, body, carry)
        return until, carry, *looks.look(carry[0].params, lowest)

    now, carry, _, _, told = jax.lax.while_loop(goes_on, stretch, (made, carry, lowest, jnp.bool_(False), told))
    return now, carry, told | {STOPPED: (now < end).astype(jnp.float32)}
