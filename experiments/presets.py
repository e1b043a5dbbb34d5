"""Named experiments. Each is a complete config; the command line changes single fields of one."""

import dataclasses

from dreamer.loop import LoopConfig
from dreamer.sleep.targets import TargetsConfig
from dreamer.wake.envs import EnvConfig
from experiments.config import Config, EvaluationConfig

CARTPOLE = Config(
    name="cartpole",
    env=EnvConfig("CartPole-v1", "gymnasium", num_envs=1),
    loop=LoopConfig(real_transitions=3000, steps_per_day=10, dream_ratio=128, batch_size=128),
    targets=TargetsConfig(gamma=0.99),
    evaluation=EvaluationConfig(every=250),
)

PRESETS: dict[str, Config] = {
    "cartpole": CARTPOLE,
    "cartpole-jax": dataclasses.replace(CARTPOLE, name="cartpole-jax", env=EnvConfig("CartPole-v1", "gymnax")),
}
