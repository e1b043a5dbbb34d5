"""What an experiment's days and nights come to, counted from its settings alone."""

from dreamer.core.types import EnvSpec, Meters
from experiments.config import Config


def cost_of(config: Config, spec: EnvSpec, before: int, num_updates: int, num_decisions: int) -> Meters:
    """Returns what `num_updates` more after `before`, and decisions by day, add to the meters."""
    loop, targets, imagine = config.loop, config.targets, config.imagine
    num_dreaming = max(0, before + num_updates - max(before, loop.updates_due(imagine.begin_after)))
    searched, dreamed = num_decisions if loop.actor == "planner" else 0, 0
    for updates, num_dreams in (
        (num_updates - num_dreaming, 0),
        (num_dreaming, imagine.num_dreams(loop.batch_size)),
    ):
        searched += updates * targets.num_searched(loop.batch_size - num_dreams) * targets.num_roots
        searched += updates * num_dreams * imagine.num_searched
        dreamed += updates * num_dreams
    return Meters(
        real=num_decisions,
        replayed=num_updates * loop.batch_size - dreamed,
        dreamed=dreamed,
        searched=searched * config.search.simulations(spec.num_actions),
        updates=num_updates,
    )
