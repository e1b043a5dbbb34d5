"""Small worlds as tables, sequences by hand, and a configuration that compiles in seconds."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from agents.actor_critic import ActorCriticConfig
from agents.tabular import make_tabular_agent
from dreamer.core.ports import Agent, SessionAgent, WorldModel
from dreamer.core.supports import Support
from dreamer.core.types import EnvSpec, Params, SequenceBatch
from dreamer.loop import LoopConfig
from dreamer.replay import ReplayConfig
from dreamer.sleep.search import SearchConfig, SearchResult, make_search
from dreamer.sleep.targets import TargetsConfig
from dreamer.sleep.update import UpdateConfig
from dreamer.wake.envs import EnvConfig
from experiments.config import Config, EvaluationConfig
from world_models.efficientzero import EfficientZeroConfig

# Compiler options for what runs once: compiles in a third of the time.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}

MODEL = EfficientZeroConfig(
    latent_size=16,
    hidden_size=16,
    num_blocks=0,
    num_channels=4,
    projection_size=8,
    reward_support=Support(-3.0, 3.0, 31, "signed_sqrt"),
)
AGENT = ActorCriticConfig(hidden_size=16, value_support=Support(-3.0, 3.0, 31, "signed_sqrt"))


def config(**changes) -> Config:
    """Returns a tiny experiment; `changes` are {field of Config: value or dict of its fields}."""
    base = Config(
        name="tiny",
        env=EnvConfig("CartPole-v1", "gymnax", num_envs=2),
        loop=LoopConfig(real_transitions=40, steps_per_day=5, dream_ratio=4, batch_size=8),
        replay=ReplayConfig(capacity=1000),
        targets=TargetsConfig(unroll_steps=2, td_steps=2, gamma=0.9),
        search=SearchConfig(num_simulations=4),
        update=UpdateConfig(warmup_updates=0),
        model=MODEL,
        agent=AGENT,
        evaluation=EvaluationConfig(episodes=4, max_steps=20),
    )
    for name, change in changes.items():
        if isinstance(change, dict):
            change = dataclasses.replace(getattr(base, name), **change)
        base = dataclasses.replace(base, **{name: change})
    return base


def spec(obs_shape=(3,), obs_dtype="float32", num_actions=2) -> EnvSpec:
    return EnvSpec("tiny", suite="toys", version="1", obs_shape=obs_shape, obs_dtype=obs_dtype, num_actions=num_actions)


def sequence(obs, action, *, reward=None, terminated=None, valid=None, num_actions=2, age=None) -> SequenceBatch:
    """Returns a batch from rows written out; what is not given is all lived, without reward or end."""
    obs, action = jnp.asarray(obs), jnp.asarray(action, jnp.int32)
    shape = action.shape
    filled = {"reward": (reward, jnp.float32, 0), "terminated": (terminated, bool, False), "valid": (valid, bool, True)}
    fields = {
        name: jnp.full(shape, default, dtype) if given is None else jnp.asarray(given, dtype)
        for name, (given, dtype, default) in filled.items()
    }
    return SequenceBatch(
        obs=obs,
        action_mask=jnp.ones((*shape, num_actions), bool),
        action=action,
        age=jnp.zeros(shape[0], jnp.int32) if age is None else jnp.asarray(age, jnp.int32),
        weight=jnp.ones(shape[0]),
        index=jnp.arange(shape[0], dtype=jnp.int32),
        **fields,
    )


@functools.partial(jax.jit, static_argnames=("seed", "scale"))
def shaken(tree, seed=0, scale=0.3):
    """Returns the tree with noise on every leaf, so that zero-initialised heads say something."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [leaf + scale * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, noisy)


@dataclasses.dataclass(frozen=True)
class World:
    """A deterministic decision process as tables [S, A]."""

    next_state: np.ndarray
    reward: np.ndarray
    continuation: np.ndarray
    gamma: float

    @property
    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return (
            self.next_state.astype(np.int32),
            self.reward.astype(np.float32),
            np.asarray(self.continuation, np.float32),
        )

    @property
    def shape(self) -> tuple[int, int]:
        return self.next_state.shape

    def q_of(self, policy: np.ndarray) -> np.ndarray:
        """Returns [S, A] the exact action values of a policy [S, A]."""
        num_states = self.shape[0]
        discount = self.gamma * self.continuation
        moves = np.zeros((num_states, num_states))
        for action in range(self.shape[1]):
            np.add.at(
                moves, (np.arange(num_states), self.next_state[:, action]), policy[:, action] * discount[:, action]
            )
        value = np.linalg.solve(np.eye(num_states) - moves, (policy * self.reward).sum(axis=1))
        return self.reward + discount * value[self.next_state]

    def value_of(self, policy: np.ndarray) -> np.ndarray:
        """Returns [S] the exact values of a policy [S, A]."""
        return (policy * self.q_of(policy)).sum(axis=1)

    def best_q(self) -> np.ndarray:
        """Returns [S, A] the action values of the best policy, by policy iteration."""
        policy = np.full(self.shape, 1 / self.shape[1])
        for _ in range(self.shape[0] + 10):
            policy = np.eye(self.shape[1])[self.q_of(policy).argmax(axis=1)]
        return self.q_of(policy)


def corridor(length=4, gamma=0.9) -> World:
    """`toys.corridor` as tables, without its clock; state `length` is past the end, where nothing should count."""
    cell = np.arange(length + 1)
    next_state = np.stack([np.maximum(cell - 1, 0), np.minimum(cell + 1, length)], axis=1)
    reward, continuation = np.zeros((length + 1, 2)), np.ones((length + 1, 2))
    reward[length - 1, 1], continuation[length - 1, 1] = 1, 0
    next_state[length] = length
    return World(next_state, reward, continuation, gamma)


def bandit(rewards, gamma=0.9) -> World:
    """One decision, then the end: action a pays rewards[a]."""
    rewards = np.asarray(rewards, float)[None]
    return World(np.zeros(rewards.shape, int), rewards, np.zeros(rewards.shape), gamma)


def random_worlds(num_worlds=8, num_states=5, num_actions=3, gamma=0.9, seed=0) -> World:
    """Several random worlds side by side in one, with no way from one into another."""
    rng = np.random.default_rng(seed)
    shape = (num_worlds, num_states, num_actions)
    next_state = rng.integers(num_states, size=shape) + num_states * np.arange(num_worlds)[:, None, None]
    tables = next_state, rng.normal(size=shape), rng.random(shape) < 0.8
    return World(*(table.reshape(-1, num_actions) for table in tables), gamma)


# The tables as parameters, so that searches of equal shape share one compilation; `make_tabular` closes over its own.
TABLES = WorldModel(
    init=lambda key, obs: {},
    observe=lambda tables, obs: obs,
    step=lambda tables, state, action: tuple(table[state, action] for table in tables),
    unroll=None,
)


@functools.cache
def _searcher(config: SearchConfig, gamma: float, shape: tuple[int, int]):
    search = make_search(TABLES, make_tabular_agent(*shape), config, gamma=gamma)

    def run(params, states, mask, keys, scale, spread, progress):
        return search(params, (), states, mask, keys, explore=scale, return_spread=spread, progress=progress)

    return jax.jit(run, compiler_options=QUICK)


def search_states(
    world, config, *, logits=None, value=None, states=None, mask=None, keys=None, scale=0.0, spread=0.0, progress=0.0
) -> SearchResult:
    """Searches a world in its own tables, from `states` (all of them by default), with a table of priors and values."""
    states = jnp.arange(world.shape[0]) if states is None else jnp.asarray(states)
    agent_params = {
        "logits": jnp.zeros(world.shape) if logits is None else jnp.asarray(logits, jnp.float32),
        "value": jnp.zeros(world.shape[0]) if value is None else jnp.asarray(value, jnp.float32),
    }
    tables = tuple(jnp.asarray(table) for table in world.tables)
    mask = jnp.ones((len(states), world.shape[1]), bool) if mask is None else jnp.asarray(mask)
    keys = jax.random.split(jax.random.key(0), len(states)) if keys is None else keys
    run = _searcher(config, world.gamma, world.shape)
    return jax.tree.map(np.asarray, run(Params(tables, agent_params), states, mask, keys, scale, spread, progress))


def without_memory(agent: Agent) -> SessionAgent:
    """Returns an agent that nobody asks for a memory."""
    return SessionAgent(**dict.fromkeys(SessionAgent._fields) | {"agent": agent})
