"""The control that every claim about dreams is held against."""

import dataclasses

from dreamer.sleep.imagine import ImagineConfig
from experiments.config import Config

SUFFIX = "-no-dreams"
"""Ends the name of a control, after that of the experiment which it is held against."""


def without_dreams(config: Config) -> Config:
    """Returns the same experiment where each transition is replayed once, and nothing is searched again or imagined.

    The student still learns from its planner: from the actions that it took by day. With so few updates the warm-up of
    the step size is cut to a tenth of them, so that the control is held back by its lack of dreams alone. Nothing is
    done at random, or its student would copy that.
    """
    loop = dataclasses.replace(config.loop, dream_ratio=1, final_updates=0, epsilon=0.0, spell=1)
    warmup_updates = min(config.update.warmup_updates, loop.num_updates // 10)
    return dataclasses.replace(
        config,
        name=config.name + SUFFIX,
        loop=loop,
        update=dataclasses.replace(config.update, warmup_updates=warmup_updates),
        targets=dataclasses.replace(
            config.targets, research_fraction=0.0, value_source="n_step", bootstrap="value", unsearched_policy="action"
        ),
        imagine=ImagineConfig(),
        run=dataclasses.replace(config.run, folder=config.run.folder and config.run.folder + SUFFIX),
    )
