"""JobWorld: an episode is a chain of keys, and a hidden codebook, the job, says how each is to be answered.

What is true of it is computable: docs/sessions.md. An observation is a float32 vector, of these parts in turn:

    key       [K]  one-hot, the current key; of an aliased key nothing until it has been looked at or answered wrongly
    hidden    [1]  1 while the current key is aliased and not yet known                 (where keys are aliased)
    answered  [K]  one-hot, the key that the last decision answered rightly              (where keys are aliased)
    progress  [1]  keys answered / H
    time      [1]  decisions left / the deadline
    waiting   [1]  decisions of a detour left / the detour                               (where `error` is `detour`)
    lost      [1]  1 in a dead end                                                       (where `error` is `dead_end`)
    new       [1]  1 in the first episode under a codebook                               (where `cue` is set)

So right or wrong is seen at once, whatever is paid for it. Actions are the A answers, and A is the look, where keys are
aliased. Letters: K keys, A answers, H keys of a chain, S symbols: K, and the hidden one where keys are aliased.
"""

import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core.types import EnvSpec
from dreamer.wake.envs.base import EnvConfig, JaxEnv
from dreamer.wake.envs.jobs import JobWorldConfig, codebook, keys_asked, redrawn
from dreamer.wake.envs.pure import numbered, pure_env

_ID, _VERSION = "JobWorld-v0", "0"


@struct.dataclass
class JobState:
    """Where one copy stands."""

    number: jax.Array
    """[] int32 of the job."""
    codebook: jax.Array
    """[K] int32 the right answer of each key."""
    episode: jax.Array
    """[] int32 episodes of this life before this one."""
    chain: jax.Array
    """[H] int32 the keys of this episode."""
    progress: jax.Array
    """[] int32 keys answered."""
    step: jax.Array
    """[] int32 decisions taken."""
    waiting: jax.Array
    """[] int32 decisions of a detour that are left."""
    lost: jax.Array
    """[] bool, in a dead end."""
    looked: jax.Array
    """[] bool, the current key is known though it be aliased."""
    answered: jax.Array
    """[] int32 the key that the last decision answered rightly, or -1."""


@struct.dataclass
class JobView:
    """What observations [..., *obs_shape] show."""

    key: jax.Array
    """[...] int32 the current key, or -1 where it is not seen."""
    answered: jax.Array
    """[...] int32 the key just answered rightly, as far as the observation says so, or -1."""
    progress: jax.Array
    """[...] int32 keys answered."""
    time: jax.Array
    """[...] int32 decisions left."""
    idle: jax.Array
    """[...] bool, nothing that is done now matters: a detour, or a dead end."""
    lost: jax.Array
    """[...] bool, in a dead end."""


def make(config: EnvConfig) -> JaxEnv:
    """Returns one copy of the world of `config.jobworld`, in the job that it names or in one of each life's own.

    Raises:
      ValueError: another id than `JobWorld-v0`, or `kwargs`, of which it has none.
    """
    number_of = numbered(config, _ID)
    return _world(config, lambda key: _job(config, number_of(key)))


def of_job(config: EnvConfig, number: int | jax.Array) -> JaxEnv:
    """Returns the world in job `number` of all jobs: `envs.of_job`."""
    return _world(config, lambda key: _job(config, number))


def of_codebook(config: EnvConfig, answers: jax.Array) -> JaxEnv:
    """Returns the world under a codebook [K] int32 that needs no number, as one that somebody only believes in.

    Where codebooks are redrawn, it is by the streams of job 0.

    Raises:
      ValueError: jobs ask a block of the keys, by their number.
    """
    if config.jobworld.blocks > 1:
        raise ValueError(
            f"jobworld.blocks is {config.jobworld.blocks}, and a codebook without a number asks none: set 1."
        )
    return _world(config, lambda key: (jnp.int32(0), answers))


def view(config: JobWorldConfig, obs: jax.Array) -> JobView:
    """Returns what observations [..., *obs_shape] show of the world."""
    parts = _parts(config, obs)
    nobody = jnp.zeros((*obs.shape[:-1], 1), obs.dtype)
    return JobView(
        key=_index(parts["key"]),
        answered=_index(parts.get("answered", nobody)),
        progress=_count(parts, "progress", config.chain_length),
        time=_count(parts, "time", config.deadline),
        idle=_count(parts, "waiting", config.detour) + _count(parts, "lost", 1) > 0,
        lost=_count(parts, "lost", 1) > 0,
    )


def as_seen(config: JobWorldConfig, answers: jax.Array, key: jax.Array, obs: jax.Array) -> JobState:
    """Returns a state under the codebook [K] in which `obs` is seen, as `of_codebook` has them.

    What an observation does not show is drawn: the keys to come, and which of the aliased ones a hidden key is.
    """
    parts, K = _parts(config, obs), config.num_keys
    coming_key, hidden_key = jax.random.split(key)
    shown = _index(parts["key"])
    asked = jnp.where(shown < 0, jax.random.randint(hidden_key, (), K - config.num_aliased, K), shown)
    progress = _count(parts, "progress", config.chain_length)
    chain = jax.random.randint(coming_key, (config.chain_length,), 0, K).at[progress].set(asked, mode="drop")
    begun = "new" in parts and ~(parts["new"][0] > 0)
    return JobState(
        number=jnp.int32(0),
        codebook=answers,
        episode=jnp.asarray(begun, jnp.int32),
        chain=chain,
        progress=progress,
        step=config.deadline - _count(parts, "time", config.deadline),
        waiting=_count(parts, "waiting", config.detour),
        lost=_count(parts, "lost", 1) > 0,
        looked=(shown >= K - config.num_aliased) & (config.num_aliased > 0),
        answered=_index(parts["answered"]) if "answered" in parts else jnp.int32(-1),
    )


def prompts(config: JobWorldConfig) -> jax.Array:
    """Returns [S, *obs_shape] what is seen of each key at the start of an episode: the K keys, known, and the hidden.

    Answers to them say what a policy holds for right, whatever it met.
    """
    keys = jnp.arange(config.num_keys)
    first = jax.vmap(lambda key: _begun(config, key, looked=True))(keys)
    seen = jax.vmap(lambda state: _observe(config, state))(first)
    if not config.num_aliased:
        return seen
    return jnp.concatenate([seen, _observe(config, _begun(config, keys[-1], looked=False))[None]])


def _job(config: EnvConfig, number: int | jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns a job's number, int32, and its codebook [K]."""
    number = jnp.asarray(number, jnp.int32)
    return number, codebook(config.jobworld, number)


def _world(config: EnvConfig, job_of) -> JaxEnv:
    """Returns the world whose lives do the job `job_of` (the key of their first reset): its number and its codebook."""
    world = config.jobworld
    limit = world.deadline if config.max_steps is None else min(config.max_steps, world.deadline)

    def start(key, number, answers, episode):
        keys = keys_asked(world, number)
        chain = keys[jax.random.randint(key, (world.chain_length,), 0, len(keys))]
        state = _fresh(number, answers, episode=episode, chain=chain)
        return state, _observe(world, state)

    def reset(key):
        key, job_key = jax.random.split(key)
        return start(key, *job_of(job_key), jnp.int32(0))

    def restart(key, state):
        key, _ = jax.random.split(key)  # the same episode as a life that begins with it
        episode, answers = state.episode + 1, state.codebook
        if world.period:
            fresh = redrawn(world, answers, number=state.number, episode=episode)
            answers = jnp.where(episode % world.period == 0, fresh, answers)
        return start(key, state.number, answers, episode)

    def step(key, state, action):
        state, reward = _advance(world, key, state, action)
        terminated = (state.progress == world.chain_length) | (state.step >= world.deadline)
        return state, _observe(world, state), reward, terminated, state.step >= limit

    spec = EnvSpec(
        id=_ID,
        suite="jobworld",
        version=_VERSION,
        obs_shape=(sum(_layout(world).values()),),
        obs_dtype="float32",
        num_actions=world.num_actions,
    )
    return pure_env(spec, reset=reset, step=step, max_steps=limit)._replace(restart=restart)


def _advance(world: JobWorldConfig, key: jax.Array, state: JobState, action: jax.Array) -> tuple[JobState, jax.Array]:
    """Returns the state after a decision, and what is paid for it."""
    asked = state.chain[state.progress]
    acts = (state.waiting == 0) & ~state.lost
    looks = acts & (action == world.num_answers)
    right = acts & (action == state.codebook[asked])
    wrong = acts & ~looks & ~right
    state = state.replace(
        progress=state.progress + right,
        step=state.step + 1,
        waiting=jnp.where(wrong, world.error_delay, jnp.maximum(state.waiting - 1, 0)),
        lost=state.lost | (wrong & jax.random.bernoulli(key, world.fatal_prob)),
        looked=(state.looked | looks | wrong) & ~right,
        answered=jnp.where(right, asked, -1),
    )
    finished = right & (state.progress == world.chain_length)
    paid = finished if world.feedback == "end" else right / world.chain_length
    return state, paid - world.look_cost * looks


def _layout(config: JobWorldConfig) -> dict[str, int]:
    """Returns the size of each part of an observation, in their order."""
    sizes = {
        "key": config.num_keys,
        "hidden": int(config.num_aliased > 0),
        "answered": config.num_keys if config.num_aliased else 0,
        "progress": 1,
        "time": 1,
        "waiting": int(config.error == "detour"),
        "lost": int(config.error == "dead_end"),
        "new": int(config.cue),
    }
    return {name: size for name, size in sizes.items() if size}


def _parts(config: JobWorldConfig, obs: jax.Array) -> dict[str, jax.Array]:
    """Returns the parts [..., size] of observations [..., *obs_shape] by name."""
    parts, at = {}, 0
    for name, size in _layout(config).items():
        parts[name], at = obs[..., at : at + size], at + size
    return parts


def _count(parts: dict[str, jax.Array], name: str, most: int) -> jax.Array:
    """Returns [...] int32 what a part tells as a share of `most`; 0 of a part that there is not."""
    share = parts[name] if name in parts else jnp.zeros_like(parts["time"])
    return jnp.round(share[..., 0] * most).astype(jnp.int32)


def _observe(config: JobWorldConfig, state: JobState) -> jax.Array:
    """Returns the observation of a state; past the chain's end no key is seen."""
    asked = jnp.append(state.chain, -1)[state.progress]
    hidden = (asked >= config.num_keys - config.num_aliased) & ~state.looked
    parts = {
        "key": jax.nn.one_hot(jnp.where(hidden, -1, asked), config.num_keys),
        "hidden": hidden,
        "answered": jax.nn.one_hot(state.answered, config.num_keys),
        "progress": state.progress / config.chain_length,
        "time": 1 - state.step / config.deadline,
        "waiting": state.waiting / config.detour,
        "lost": state.lost,
        "new": state.episode % config.period == 0 if config.period else state.episode == 0,
    }
    return jnp.concatenate([jnp.atleast_1d(parts[name]).astype(jnp.float32) for name in _layout(config)])


def _fresh(number: jax.Array, answers: jax.Array, *, episode: jax.Array, chain: jax.Array) -> JobState:
    """Returns the state at the start of an episode."""
    zero, no = jnp.int32(0), jnp.bool_(False)
    return JobState(number, answers, episode, chain, zero, zero, zero, no, no, jnp.int32(-1))


def _begun(config: JobWorldConfig, key: jax.Array, *, looked: bool) -> JobState:
    """Returns the first state of an episode that begins with `key`, in a life that has seen its first episode."""
    chain = jnp.full(config.chain_length, key, jnp.int32)
    state = _fresh(jnp.int32(0), jnp.zeros(config.num_keys, jnp.int32), episode=jnp.int32(1), chain=chain)
    return state.replace(looked=jnp.bool_(looked))


def _index(one_hot: jax.Array) -> jax.Array:
    """Returns [...] int32 the place of the 1 along the last axis, or -1 where there is none."""
    return jnp.where(one_hot.any(axis=-1), one_hot.argmax(axis=-1), -1).astype(jnp.int32)
