"""Named experiments. Each is a complete config; the command line changes single fields of one."""

import dataclasses

from agents.actor_critic import ActorCriticConfig
from dreamer.core.supports import Support
from dreamer.loop import LoopConfig
from dreamer.replay import ReplayConfig
from dreamer.sleep.augment import AugmentConfig
from dreamer.sleep.fit import FitConfig
from dreamer.sleep.search import SearchConfig
from dreamer.sleep.targets import TargetsConfig
from dreamer.sleep.update import UpdateConfig
from dreamer.wake.envs import AtariConfig, EnvConfig, JobWorldConfig
from experiments.config import Config, EvaluationConfig, RunConfig
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

JOBWORLD = dataclasses.replace(
    CARTPOLE,
    name="jobworld",
    env=EnvConfig("JobWorld-v0", "jobworld", jobworld=JobWorldConfig()),
    loop=LoopConfig(real_transitions=2400, steps_per_day=8, dream_ratio=64, batch_size=64),
    targets=TargetsConfig(gamma=0.95, td_steps=8, research_fraction=0.25),
    evaluation=EvaluationConfig(every=240),
)
"""One job, fixed: what an agent without memory learns in its weights."""


def _minatar(name: str, *, real_transitions: int, dream_ratio: int) -> Config:
    """Returns a preset of MinAtar; what `_MINATAR` says of it holds of all."""
    return Config(
        name=name,
        env=EnvConfig("Breakout-MinAtar", "gymnax", num_envs=10),
        loop=LoopConfig(
            real_transitions=real_transitions,
            steps_per_day=10,
            dream_ratio=dream_ratio,
            batch_size=16,
            learn_after=1000,
        ),
        replay=ReplayConfig(capacity=real_transitions, event_share=0.5),
        targets=TargetsConfig(gamma=0.99, td_steps=10, research_fraction=0.25),
        search=SearchConfig(relative_q_range=0.3, prior_power=0.9),
        update=UpdateConfig(target_step=0.02),
        model=EfficientZeroConfig(torso="relational", latent_size=128, hidden_size=128, projection_size=128),
        agent=ActorCriticConfig(hidden_size=128, value_support=Support(-8.0, 8.0, 65, "signed_sqrt")),
        evaluation=EvaluationConfig(every=real_transitions // 20),
    )


_ATOMS = Support(-300.0, 300.0, 601, "signed_sqrt")

ATARI_V2 = Config(
    name="atari100k-v2",
    env=EnvConfig("ALE/Pong-v5", "atari", num_envs=4, frame_stack=4),
    # The originals' learner runs beside 4 copies and refreshes their weights every 100 updates: a day of 100 decisions.
    loop=LoopConfig(
        real_transitions=100_000,
        steps_per_day=25,
        dream_ratio=256,
        batch_size=256,
        learn_after=2000,
        final_updates=20_000,
    ),
    # 96 x 96 x 3 bytes a decision: 2.9 GB. The last states of episodes take room too, so a little of the oldest leaves.
    replay=ReplayConfig(capacity=104_000, priority_exponent=1.0, importance_exponent=1.0, min_weight=0.1),
    targets=TargetsConfig(
        gamma=0.997**4,
        research_fraction=1.0,
        value_source="mixed",
        mixed_from=0.3,
        mixed_after=5000,
        clip_rewards=True,
    ),
    search=SearchConfig(num_simulations="by_count", num_considered="by_count", relative_q_range=0.0),
    # Means over K + 1 positions here, sums over them times 1 / K there: 6 / 5 of the papers' 1 and 0.25.
    fit=FitConfig(policy_weight=1.2, value_weight=0.3),
    augment=AugmentConfig(shift=4, intensity=0.05),
    update=UpdateConfig(
        optimizer="sgd",
        learning_rate=0.2,
        warmup_updates=1000,
        final_share=0.1,
        fall_after=100_000,
        target_period=200,
        target_step=1.0,
    ),
    model=EfficientZeroConfig(
        torso="residual",
        num_channels=64,
        hidden_size=32,
        action_embedding=16,
        value_prefix=5,
        projection_size=1024,
        projection_layers=3,
        predictor_size=256,
        reward_support=_ATOMS,
        consistency_weight=5.0,
        compute_dtype="bfloat16",
    ),
    agent=ActorCriticConfig(hidden_size=32, value_support=_ATOMS, compute_dtype="bfloat16"),
    evaluation=EvaluationConfig(every=10_000),
)

ATARI_V1 = dataclasses.replace(
    ATARI_V2,
    name="atari100k-v1",
    replay=ReplayConfig(capacity=104_000, priority_exponent=0.6, importance_exponent=0.4, importance_final=1.0),
    targets=TargetsConfig(
        gamma=0.997**4, research_fraction=1.0, value_source="n_step", td_shrink_every=30_000, clip_rewards=True
    ),
    search=SearchConfig(method="puct", num_simulations=50, relative_q_range=0.0),
    model=dataclasses.replace(ATARI_V2.model, action_embedding=0, predictor_size=512, consistency_weight=2.0),
)

ATARI_SMOKE = dataclasses.replace(
    ATARI_V2,
    name="atari-smoke",
    env=EnvConfig(
        "ALE/Pong-v5", "atari", num_envs=4, frame_stack=4, max_steps=500, atari=AtariConfig(size=48, grey=True)
    ),
    loop=LoopConfig(
        real_transitions=2000, steps_per_day=25, dream_ratio=1, batch_size=8, learn_after=200, final_updates=20
    ),
    replay=dataclasses.replace(ATARI_V2.replay, capacity=2100),
    search=dataclasses.replace(ATARI_V2.search, num_simulations=4),
    targets=dataclasses.replace(ATARI_V2.targets, mixed_after=500),
    update=dataclasses.replace(
        ATARI_V2.update, learning_rate=0.02, warmup_updates=20, fall_after=200, target_period=20
    ),
    model=dataclasses.replace(
        ATARI_V2.model, num_channels=16, lstm_size=32, projection_size=64, predictor_size=32, compute_dtype="float32"
    ),
    agent=dataclasses.replace(ATARI_V2.agent, compute_dtype="float32"),
    evaluation=EvaluationConfig(episodes=2, every=1000),
)

_ALL = (
    CARTPOLE,
    dataclasses.replace(CARTPOLE, name="cartpole-jax", env=EnvConfig("CartPole-v1", "gymnax")),
    CATCH,
    DEEP_SEA,
    JOBWORLD,
    _minatar("minatar-100k", real_transitions=100_000, dream_ratio=16),
    # A quarter of the dreams for each of ten times the transitions: on a CPU a run is hours with as many.
    _minatar("minatar-1m", real_transitions=1_000_000, dream_ratio=4),
    ATARI_V1,
    ATARI_V2,
    ATARI_SMOKE,
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

_MINATAR = (
    "Far from the papers: boards read by relations, half of the rows around events, a vector as latent, rewards one by "
    "one, traced values, AdamW, a quarter searched again."
)
_OURS = (
    "LayerNorm for BatchNorm, a learned continuation, ReLU in heads, targets that lag 0 to 200 updates, rows drawn "
    "with replacement, 0 to 30 no-ops, games cut at 27,000 decisions in training too, truncation bootstraps, last "
    "states learn nothing, Q scaled by means of edges"
)
PAPERS = {
    "atari100k-v2": f"EfficientZero V2, but for: {_OURS}.",
    "atari100k-v1": f"EfficientZero, but for: {_OURS}; frames kept raw, all rows searched again (not 99 in 100), "
    "search with the untrained network before the first update (not random actions).",
    "atari-smoke": "All parts of atari100k-v2 but bfloat16, small enough for a laptop: it shows that they run, and so "
    "little teaches nothing.",
    "minatar-100k": _MINATAR,
    "minatar-1m": _MINATAR,
}
"""Preset -> how it differs from the papers, as its `--help` says; part by part in docs/efficientzero.md."""

PRESETS: dict[str, Config] = {
    config.name: dataclasses.replace(config, run=RunConfig(preset=config.name)) for config in _ALL
}
