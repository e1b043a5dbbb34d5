"""The control that every claim about dreams is held against."""

import dataclasses

from dreamer.sleep.imagine import ImagineConfig
from experiments.config import Config

SUFFIX = "-no-dreams"
"""Ends the name of a control, after that of the experiment which it is held against."""


def without_search(config: Config) -> Config:
    """Returns the same experiment where no row is searched again: the student learns what its planner did by day.

    Nothing is done at random, or it would copy that.
    """
    targets = dataclasses.replace(
        config.targets,
        research_fraction=0.0,
        unsearched_policy="action",
        value_source="trace" if config.targets.value_source == "trace" else "n_step",
        bootstrap="value",
    )
    return dataclasses.replace(config, targets=targets, loop=dataclasses.replace(config.loop, epsilon=0.0, spell=1))


def without_dreams(config: Config) -> Config:
    """Returns the same experiment where each transition is replayed once, and nothing is searched again or imagined.

    With so few updates the warm-up of the step size is cut to a tenth of them, so that the control is held back by its
    lack of dreams alone.
    """
    config = without_search(config)
    loop = dataclasses.replace(config.loop, dream_ratio=1, final_updates=0)
    warmup_updates = min(config.update.warmup_updates, loop.num_updates // 10)
    return dataclasses.replace(
        config,
        name=config.name + SUFFIX,
        loop=loop,
        update=dataclasses.replace(config.update, warmup_updates=warmup_updates),
        targets=dataclasses.replace(config.targets, value_source="n_step"),
        imagine=ImagineConfig(),
        run=dataclasses.replace(config.run, folder=config.run.folder and config.run.folder + SUFFIX),
    )
