"""What is run: each task with dreams and without, over seeds."""

import dataclasses

from experiments.config import Config, changed
from experiments.control import without_dreams
from experiments.figures.learning_curve import CONTROL, DREAMING
from experiments.presets import PRESETS
from experiments.space import Range, Space

_CARTPOLE = PRESETS["cartpole"]
_MINATAR = PRESETS["minatar-100k"]
_GAMES = ("Breakout", "Asterix", "SpaceInvaders", "Freeway")

TASKS: dict[str, Config] = {
    "cartpole": _CARTPOLE,
    "cartpole-5000": dataclasses.replace(
        _CARTPOLE, name="cartpole-5000", loop=dataclasses.replace(_CARTPOLE.loop, real_transitions=5000)
    ),
    "deep-sea": PRESETS["deep-sea"],
    "minatar-breakout": PRESETS["minatar-breakout"],
    **{
        (name := f"minatar-100k-{game.lower()}"): dataclasses.replace(
            _MINATAR, name=name, env=dataclasses.replace(_MINATAR.env, id=f"{game}-MinAtar")
        )
        for game in _GAMES
    },
}

# The batches of the preset `minatar-100k`, named by rows that were written before it had them.
_NAMES = {task: "dreaming, batches of 16" if task.startswith("minatar-100k") else DREAMING for task in TASKS}

_BY_RELATIONS = {"model.torso": "relational", "replay.event_share": 0.5}

ARMS: dict[str, dict[str, Config]] = {
    task: {
        _NAMES[task]: config,
        **({"by relations, half events": changed(config, _BY_RELATIONS)} if task.startswith("minatar-100k") else {}),
        CONTROL: without_dreams(config),
    }
    for task, config in TASKS.items()
}
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
