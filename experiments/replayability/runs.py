"""What is run: gymnax CartPole at equal real transitions, copies times decisions of each, in worlds that allow more or
less of a life to be lived again.

From one copy one thing is changed at a time; at the other end is the world that allows most. Each world is learned in
with next to no dreams, every transition trained on once, with few and with many; the latter two ratios are taken from
the rows of `dream_scaling`, where at 1,000 transitions they end apart, above an agent that learned nothing and below
the ceiling. All copies together live the same number of transitions between two nights. Agents are measured in ordinary
episodes, with the world's late rewards, drift and slips. Where no end is told, every decision pays the same and nothing
tells a fall from balance: a control, where neither dreams nor copies can help.
"""

from experiments.config import Config
from experiments.fields import changed
from experiments.presets import PRESETS

REAL = 1024
"""Real transitions, over all copies."""
PER_DAY = 64
"""Of them between two nights."""
ONCE, FEW, MANY = 1, 16, 64
"""Dream ratios."""
ONE_COPY = "one copy"
MOST_ALLOWED = "64 copies, restore"
WORLDS: dict[str, dict] = {
    ONE_COPY: {},
    "8 copies": {"env.num_envs": 8},
    "64 copies": {"env.num_envs": 64},
    "one copy, restore": {"env.knobs.visited_starts": 0.5},
    MOST_ALLOWED: {"env.num_envs": 64, "env.knobs.visited_starts": 0.5},
    "one copy, no end told": {"env.knobs.continuing": True},
    "one copy, rewards 5 late": {"env.knobs.reward_delay": 5},
    "one copy, rules drift": {"env.knobs.drift_every": REAL // 4},
    "one copy, slips": {"env.knobs.slip": 0.2},
}
"""World -> what is changed against one copy."""


def arm(world: str, ratio: int) -> str:
    """Returns the name of an arm, e.g. `one copy, ratio 16`."""
    return f"{world}, ratio {ratio}"


def _at(world: str, ratio: int) -> Config:
    days = {"loop.steps_per_day": PER_DAY // WORLDS[world].get("env.num_envs", 1), "loop.dream_ratio": ratio}
    once = {"name": "replayability", "loop.real_transitions": REAL, "evaluation.every": REAL}
    made = changed(PRESETS["cartpole-jax"], once | days | WORLDS[world])
    return changed(made, {"update.warmup_updates": min(made.update.warmup_updates, made.loop.num_updates // 10)})


ARMS: dict[str, dict[str, Config]] = {
    "cartpole": {arm(world, ratio): _at(world, ratio) for world in WORLDS for ratio in (ONCE, FEW, MANY)}
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
