"""Watching a dream: what the student really lived beside what the model dreams, from one state by the same actions.

A dreamed state has no picture of its own. It is shown as the replayed observation whose latent lies nearest to it.

Letters: H steps, A actions, N replayed observations.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from agents.acting import Actor, make_student
from dreamer.core.types import Latent, PyTree, Transition
from dreamer.io import FactLog, RunFolder
from dreamer.sleep.search import SearchResult
from dreamer.wake import host_session, session
from experiments.build import Parts
from experiments.drivers import actor_of
from experiments.evaluate import make_world, open_checkpoint
from experiments.honesty import as_learned

NUM_REPLAYED = 2000
"""N at most, observations that a dreamed state may be shown as, evenly spread over all that was lived."""
_BATCH = 100  # observations encoded at a time


@dataclasses.dataclass(frozen=True)
class Dream:
    """One real trajectory and the dream of it. Past a real end there is neither."""

    title: str
    """What was dreamed, in which world."""
    action: np.ndarray
    """[H] int32 what the student did, and the model was told that it did."""
    reward: np.ndarray
    """[H] what it was paid."""
    dreamed_reward: np.ndarray
    """[H] what the model says it is paid."""
    alive: np.ndarray
    """[H + 1] probability, in the dream, that life has not ended before."""
    value: np.ndarray
    """[H + 1] what search gives each dreamed state, in reward units."""
    real_value: np.ndarray
    """[H + 1] what the same search gives the real state."""
    policy: np.ndarray
    """[H + 1, A] of the search in each dreamed state."""
    real_obs: np.ndarray
    """[H + 1, *obs_shape]"""
    dreamed_obs: np.ndarray
    """[H + 1, *obs_shape] the replayed observations nearest to the dreamed states."""
    low: np.ndarray
    """[*obs_shape] the least of the replayed observations; with `high`, the range to draw numbers in."""
    high: np.ndarray
    """[*obs_shape] the greatest of them."""
    tree: PyTree
    """The search in the first state, as `SearchResult.tree`, of that one root."""


def dream(path: str | Path, *, horizon: int = 15, after: int = 0, seed: int = 0) -> Dream:
    """Returns a dream of the newest checkpoint's model, from the first episode that `evaluate` meets.

    Args:
      path: a run folder.
      horizon: H, fewer where the episode ends before.
      after: decisions of the episode that are lived before the dream begins.
      seed: equal seeds meet equal episodes.

    Raises:
      ValueError: no run folder, nothing saved in it yet, no steps asked for, or an episode that ends before the dream.
    """
    if horizon < 1 or after < 0:
        raise ValueError(f"horizon is {horizon} and after is {after}: give 1 step or more, after 0 decisions or more")
    parts, acting, real = open_checkpoint(path)
    actor, episode_seed = actor_of(parts.config, acting), int(session.evaluation_seed(seed))
    env = make_world(parts.config, real, as_learned(parts.config.env, 1), seed=episode_seed)
    try:
        student = jax.jit(make_student(parts.model, parts.agent, greedy=True))
        alive = host_session.HostSession(env, student, seed=episode_seed)
        alive.begin()
        lived = jax.tree.map(lambda leaf: leaf[:, 0], alive.live(actor, after + horizon))
    finally:
        env.close()
    over = np.flatnonzero(lived.terminated | lived.truncated)
    end = min([after + horizon, *(over + 1)])
    if end <= after:
        raise ValueError(f"after is {after}, but the episode ends at decision {end}: give less, or another seed")
    lived = parts.config.targets.learned(jax.tree.map(lambda leaf: leaf[after:end], lived))
    replayed = replayed_obs(FactLog.open(RunFolder.open(path).facts))
    said, latent = _dreamed(parts, actor, lived, jax.random.key(episode_seed))
    nearest = nearest_rows(latent, _encoded(parts, actor, replayed))
    spec, meters = parts.spec, f"{real:,} real transitions"
    return Dream(
        title=f"{spec.id} ({spec.suite} {spec.version}), {meters}, from decision {after} of an episode",
        action=lived.action,
        reward=lived.reward,
        real_obs=_states(lived),
        dreamed_obs=replayed[nearest],
        low=replayed.min(axis=0),
        high=replayed.max(axis=0),
        **said,
    )


def replayed_obs(facts: FactLog, most: int = NUM_REPLAYED) -> np.ndarray:
    """Returns [N, *obs_shape] observations of real states, `most` at most, evenly spread over all days and copies."""
    if not len(facts.days):
        raise ValueError(
            f"{facts.folder} holds no day yet: a dreamed state is shown as a real one, so live a day first"
        )
    kept, stride, num_seen = [], 1, 0
    for number, _, lived in facts.read():
        obs = lived.obs.reshape(-1, *facts.spec.obs_shape)
        if number == 0:  # all days are as long
            stride = -(-len(obs) * len(facts.days) // most)
        kept.append(obs[-num_seen % stride :: stride])
        num_seen += len(obs)
    return np.concatenate(kept)


def nearest_rows(points: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Returns [H] the row of `among` [N, D] that is nearest to each of `points` [H, D], by Euclidean distance."""
    return np.array([((among - point) ** 2).sum(axis=1).argmin() for point in points])


def _dreamed(parts: Parts, actor: Actor, lived: Transition, key: jax.Array) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns what the model and the search say along the actions [H], fields of `Dream`, and its states [H + 1, D]."""
    model, (params, return_spread, progress) = parts.model, actor

    def judge(latent: PyTree, action_mask: jax.Array) -> SearchResult:
        keys = jax.random.split(key, len(action_mask))
        return parts.search(
            params, (), latent, action_mask, keys, explore=0.0, return_spread=return_spread, progress=progress
        )

    def dream_on(latent: PyTree, action: jax.Array) -> tuple:
        latent, reward, continuation = model.step(params.model, latent, action[None])
        return latent, (latent, reward[0], continuation[0])

    @jax.jit
    def program(obs: jax.Array, masks: jax.Array, action: jax.Array) -> tuple[dict, jax.Array]:
        real = model.observe(params.model, obs)
        first = jax.tree.map(lambda leaf: leaf[:1], real)
        _, (later, reward, continuation) = jax.lax.scan(dream_on, first, action)
        states = jax.tree.map(lambda start, rest: jnp.concatenate([start, rest[:, 0]]), first, later)
        both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), states, real)
        found = judge(both, jnp.concatenate([masks, masks]))
        half = len(obs)
        said = dict(
            dreamed_reward=reward,
            alive=jnp.concatenate([jnp.ones(1), jnp.cumprod(continuation)]),
            value=found.value[:half],
            real_value=found.value[half:],
            policy=found.policy[:half],
            tree=jax.tree.map(lambda leaf: leaf[0], found.tree),
        )
        return said, _as_rows(states)

    # The model knows no masks: what is allowed in its last state is not known, and there everything is.
    masks = np.concatenate([lived.action_mask, np.ones_like(lived.action_mask[:1])])
    return jax.device_get(program(_states(lived), masks, lived.action))


def _states(lived: Transition) -> np.ndarray:
    """Returns [H + 1, *obs_shape] all states of one trajectory [H]."""
    return np.concatenate([lived.obs, lived.next_obs[-1:]])


def _encoded(parts: Parts, actor: Actor, obs: np.ndarray) -> np.ndarray:
    """Returns [N, D] what the model sees in observations [N, ...]."""
    encode = jax.jit(lambda obs: _as_rows(parts.model.observe(actor[0].model, obs)))
    padded = np.concatenate([obs, obs[:1].repeat(-len(obs) % _BATCH, axis=0)])
    batches = [encode(batch) for batch in padded.reshape(-1, _BATCH, *obs.shape[1:])]
    return np.concatenate(batches)[: len(obs)]


def _as_rows(latent: PyTree) -> jax.Array:
    """Returns [B, D] the states alone, without what a model remembers of the way to them."""
    state = latent.state if isinstance(latent, Latent) else latent
    return jnp.concatenate([leaf.reshape(len(leaf), -1).astype(jnp.float32) for leaf in jax.tree.leaves(state)], axis=1)
