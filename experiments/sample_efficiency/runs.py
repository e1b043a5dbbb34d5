"""What is run: each task with dreams and without, over seeds."""

import dataclasses

from experiments.config import Config
from experiments.control import without_dreams
from experiments.figures.learning_curve import CONTROL, DREAMING
from experiments.presets import PRESETS

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

ARMS: dict[str, dict[str, Config]] = {
    task: {DREAMING: config, CONTROL: without_dreams(config)} for task, config in TASKS.items()
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
