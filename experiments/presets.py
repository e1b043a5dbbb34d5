"""Named experiments. Each is a complete config; the command line changes single fields of one."""

import dataclasses

from agents.actor_critic import ActorCriticConfig
from dreamer.core.supports import Support
from dreamer.loop import LoopConfig
from dreamer.replay import ReplayConfig
from dreamer.sleep.search import SearchConfig
from dreamer.sleep.targets import TargetsConfig
from dreamer.sleep.update import UpdateConfig
from dreamer.wake.envs import EnvConfig
from experiments.config import Config, EvaluationConfig
from world_models.efficientzero import EfficientZeroConfig

_SMALL_MODEL = EfficientZeroConfig(latent_size=64, hidden_size=64, projection_size=64)
_SMALL_AGENT = ActorCriticConfig(hidden_size=64)

CARTPOLE = Config(
    name="cartpole",
    env=EnvConfig("CartPole-v1", "gymnasium"),
    loop=LoopConfig(real_transitions=3000, steps_per_day=10, dream_ratio=64, batch_size=64),
    replay=ReplayConfig(capacity=100_000),
    targets=TargetsConfig(gamma=0.99, td_steps=30, research_fraction=0.25),
    search=SearchConfig(relative_q_range=0.3),
    update=UpdateConfig(target_step=0.05),
    model=_SMALL_MODEL,
    agent=_SMALL_AGENT,
    evaluation=EvaluationConfig(every=250),
)

DEEP_SEA = dataclasses.replace(
    CARTPOLE,
    name="deep-sea",
    env=EnvConfig("DeepSea-bsuite", "gymnax", num_envs=1),
    loop=LoopConfig(real_transitions=12_000, steps_per_day=8, dream_ratio=16, batch_size=64),
    # One episode in 256 finds the treasure by chance, and then 8 rows among thousands have to be dreamed of.
    replay=ReplayConfig(priority_exponent=0.6, importance_exponent=0.4),
    targets=TargetsConfig(gamma=0.99, td_steps=8, research_fraction=0.25),
    # Until the treasure is found only the cost of digging is known: 0.00125 of a reward of 1 must not make a policy.
    search=SearchConfig(min_q_range=1.0, prior_power=0.9),
    evaluation=EvaluationConfig(every=500),
)

CATCH = dataclasses.replace(
    CARTPOLE,
    name="catch",
    env=EnvConfig("Catch-bsuite", "gymnax"),
    loop=LoopConfig(real_transitions=1800, steps_per_day=9, dream_ratio=64, batch_size=64),
    targets=TargetsConfig(gamma=0.99, td_steps=9, research_fraction=0.25),
    evaluation=EvaluationConfig(every=180),
)


def _minatar(game: str) -> Config:
    return Config(
        name=f"minatar-{game.lower()}",
        env=EnvConfig(f"{game}-MinAtar", "gymnax", num_envs=10),
        loop=LoopConfig(real_transitions=60_000, steps_per_day=10, dream_ratio=16, batch_size=128, learn_after=1000),
        replay=ReplayConfig(capacity=100_000),
        targets=TargetsConfig(gamma=0.99, td_steps=10, research_fraction=0.25),
        search=SearchConfig(relative_q_range=0.3, prior_power=0.9),
        update=UpdateConfig(target_step=0.02),
        model=EfficientZeroConfig(latent_size=128, hidden_size=128, projection_size=128),
        agent=ActorCriticConfig(hidden_size=128, value_support=Support(-8.0, 8.0, 65, "signed_sqrt")),
        evaluation=EvaluationConfig(every=5000),
    )


_ALL = (
    CARTPOLE,
    dataclasses.replace(CARTPOLE, name="cartpole-jax", env=EnvConfig("CartPole-v1", "gymnax")),
    CATCH,
    DEEP_SEA,
    *(_minatar(game) for game in ("Breakout", "Asterix", "Freeway", "SpaceInvaders", "Seaquest")),
    dataclasses.replace(
        CARTPOLE,
        name="sliding-tile",
        env=EnvConfig("sliding-tile", "jumanji", num_envs=10),
        loop=LoopConfig(real_transitions=20_000, steps_per_day=10, dream_ratio=32, batch_size=128),
        targets=TargetsConfig(gamma=0.99, td_steps=15, research_fraction=0.25),
        search=SearchConfig(num_simulations=32, relative_q_range=0.3, prior_power=0.9),
        evaluation=EvaluationConfig(every=2000),
    ),
)

PRESETS: dict[str, Config] = {config.name: config for config in _ALL}
