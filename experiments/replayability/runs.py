"""What is run: Catch (bsuite, 10 x 5, paid at the end of each fall alone) at equal real transitions, copies times
decisions of each, in worlds that allow more or less of a life to be lived again.

From one single life, in which no end is told, one thing is changed at a time; at the other end is the world that allows
all. Each world is learned in with few dreams and with many. All copies together live the same number of transitions
between two nights. Agents are measured in ordinary episodes of Catch, with the world's drift and slips.
"""

from experiments.config import Config, changed
from experiments.presets import PRESETS

REAL = 1024
"""Real transitions, over all copies."""
PER_DAY = 64
"""Of them between two nights."""
FEW, MANY = 4, 64
"""Dream ratios."""
ONE_LIFE = "one life"
ALL_ALLOWED = "64 copies, ends told, restore"
WORLDS: dict[str, dict] = {
    ONE_LIFE: {},
    "8 lives": {"env.num_envs": 8},
    "64 lives": {"env.num_envs": 64},
    "one life, restore": {"env.knobs.visited_starts": 0.5},
    "ends told": {"env.knobs.continuing": False},
    ALL_ALLOWED: {"env.num_envs": 64, "env.knobs.continuing": False, "env.knobs.visited_starts": 0.5},
    "one life, rewards 5 late": {"env.knobs.reward_delay": 5},
    "one life, rules drift": {"env.knobs.drift_every": REAL // 4},
    "one life, slips": {"env.knobs.slip": 0.2},
}
"""World -> what is changed in one life."""


def arm(world: str, ratio: int) -> str:
    """Returns the name of an arm, e.g. `one life, ratio 4`."""
    return f"{world}, ratio {ratio}"


def _at(world: str, ratio: int) -> Config:
    values = {"env.knobs.continuing": True} | WORLDS[world]
    values["loop.steps_per_day"] = PER_DAY // values.get("env.num_envs", 1)
    once = {"name": "replayability", "loop.real_transitions": REAL, "evaluation.every": REAL}
    made = changed(PRESETS["catch"], once | values | {"loop.dream_ratio": ratio})
    return changed(made, {"update.warmup_updates": min(made.update.warmup_updates, made.loop.num_updates // 10)})


ARMS: dict[str, dict[str, Config]] = {
    "catch": {arm(world, ratio): _at(world, ratio) for world in WORLDS for ratio in (FEW, MANY)}
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
