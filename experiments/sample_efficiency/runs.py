"""What is run: each task with dreams and without, over seeds."""

import dataclasses

from experiments.config import Config
from experiments.control import without_dreams
from experiments.fields import changed
from experiments.figures.learning_curve import CONTROL, DREAMING
from experiments.presets import PRESETS
from experiments.space import Range, Space

_CARTPOLE = PRESETS["cartpole"]
_GAMES = ("Breakout", "Asterix", "SpaceInvaders", "Freeway")

TASKS: dict[str, Config] = {
    "cartpole": _CARTPOLE,
    "cartpole-5000": dataclasses.replace(
        _CARTPOLE, name="cartpole-5000", loop=dataclasses.replace(_CARTPOLE.loop, real_transitions=5000)
    ),
    "deep-sea": PRESETS["deep-sea"],
    **{
        (name := f"{preset}-{game.lower()}"): changed(PRESETS[preset], {"name": name, "env.id": f"{game}-MinAtar"})
        for preset in ("minatar-100k", "minatar-1m")
        for game in _GAMES
    },
}

_BOARD, _UNIFORM = {"model.torso": "dense"}, {"replay.event_share": 0.0}
_HELD = {
    "env.knobs.hold": 3,
    "env.frame_stack": 3,
    "targets.gamma": 0.95,
    "search.relative_q_range": 0.05,
    "loop.epsilon": 0.2,
    "loop.spell": 10,
}
"""Freeway's way: a chicken moves in every third step of the world at most, and nothing is paid before it has crossed.
A decision is three steps, so there are three times as many steps as real transitions. Chosen on seed 0
(docs/lab-notes.md)."""


_FIRST = {"Freeway-MinAtar": {"decisions held for 3 steps": _HELD}}
"""Game -> its first arm, where that is not the preset."""
_MORE = {"Asterix-MinAtar": {"by relations": _UNIFORM}}
"""Game -> further arms of the small budget."""


def _arms(task: str, config: Config) -> dict[str, Config]:
    """Returns the arms of a task, of which the last is the control of the first; of MinAtar's small budget also the
    preset with the board laid out and rows drawn uniformly."""
    changes = {DREAMING: {}}
    if task.startswith("minatar"):
        changes = _FIRST.get(config.env.id, {"by relations, half events": {}})
    if task.startswith("minatar-100k"):
        changes = changes | _MORE.get(config.env.id, {}) | {"dreaming, batches of 16": _BOARD | _UNIFORM}
    arms = {arm: changed(config, own) for arm, own in changes.items()}
    return arms | {CONTROL: without_dreams(next(iter(arms.values())))}


ARMS: dict[str, dict[str, Config]] = {task: _arms(task, config) for task, config in TASKS.items()}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""

SPACE = Space(
    changed(PRESETS["cartpole-jax"], {"name": "cartpole-search", "loop.real_transitions": 1500}),
    {
        "update.learning_rate": Range(3e-4, 1e-2, log=True),
        "loop.dream_ratio": (16, 32, 64),
        "targets.td_steps": (10, 20, 30),
    },
)
"""What `scripts.sweep --trials` searches: CartPole learned from half of the preset's transitions."""
