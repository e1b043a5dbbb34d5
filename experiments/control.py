"""The control that every claim about dreams is held against."""

import dataclasses

from experiments.config import Config


def without_dreams(config: Config) -> Config:
    """Returns the same experiment where each transition is replayed once and nothing is searched again.

    The student still learns from its planner: from the actions that it took by day.
    """
    return dataclasses.replace(
        config,
        name=f"{config.name}-no-dreams",
        loop=dataclasses.replace(config.loop, dream_ratio=1),
        targets=dataclasses.replace(
            config.targets, research_fraction=0.0, value_source="n_step", unsearched_policy="action"
        ),
        run=dataclasses.replace(config.run, folder=config.run.folder and f"{config.run.folder}-no-dreams"),
    )
