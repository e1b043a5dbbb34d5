"""What is run: one agent on the same few real transitions, dreamed of more and more often.

A ratio of 0 never learns. The warm-up of the step size is at most a tenth of a run's updates, so that few dreams are
held back by being few alone. All else, the batch too, is the preset's: at ratio 1 that makes few updates; the table
says how many.
"""

import dataclasses

from experiments.config import Config
from experiments.presets import PRESETS

RATIOS = (0, 1, 4, 16, 64, 256)
"""Rows trained on for each real transition."""


@dataclasses.dataclass(frozen=True)
class Family:
    """One environment with the agent that dreams there."""

    base: Config
    """Of which budget, ratio and what follows from them change."""
    budgets: tuple[int, ...]
    """Real transitions; the largest are for the fewest dreams, to tell what data alone would do."""
    most_rows: int = 400_000
    """Dream ratio times real transitions of the largest runs; beyond, there is no arm."""
    renew_every: int = 500
    """Updates between two renewals of the networks, in the arms that have them."""


FAMILIES: dict[str, Family] = {
    "cartpole": Family(PRESETS["cartpole-jax"], (300, 1000, 3000, 10_000, 30_000)),
    "deep-sea": Family(PRESETS["deep-sea"], (12_000,)),
    "minatar-breakout": Family(PRESETS["minatar-100k"], (20_000, 60_000, 200_000), 1_280_000, 15_000),
}
"""Family -> its runs. Deep sea is the sparse task: one episode in 256 of a coin toss finds the only reward. MinAtar's
200,000 are for ratio 1, to bound what its data alone would do."""


def arm(ratio: int, kind: str = "") -> str:
    """Returns the name of an arm, e.g. `ratio 16` or `ratio 16, renewed`."""
    return f"ratio {ratio}" + (f", {kind}" if kind else "")


def _at(family: str, budget: int, ratio: int) -> Config:
    base = FAMILIES[family].base
    loop = dataclasses.replace(base.loop, real_transitions=budget, dream_ratio=ratio)
    return dataclasses.replace(
        base,
        name=f"{family}-{budget}",
        loop=loop,
        replay=dataclasses.replace(base.replay, capacity=max(base.replay.capacity, budget)),
        update=dataclasses.replace(base.update, warmup_updates=min(base.update.warmup_updates, loop.num_updates // 10)),
        evaluation=dataclasses.replace(base.evaluation, every=budget),
    )


def _arms(family: str, budget: int) -> dict[str, Config]:
    """Returns the arms of one budget: the plain ones, those with renewals where there are any, those half of whose rows
    are imagined, and those which search the true dynamics while all else is learned."""
    arms = {}
    for ratio in RATIOS:
        if ratio > 1 and ratio * budget > FAMILIES[family].most_rows:
            continue
        plain = arms[arm(ratio)] = _at(family, budget, ratio)
        if plain.loop.num_updates >= 2 * FAMILIES[family].renew_every:
            renewed = dataclasses.replace(plain.update, reset_every=FAMILIES[family].renew_every)
            arms[arm(ratio, "renewed")] = dataclasses.replace(plain, update=renewed)
        if ratio > 1:
            halved = dataclasses.replace(plain.imagine, real_share=0.5)
            arms[arm(ratio, "half imagined")] = dataclasses.replace(plain, imagine=halved)
            true = dataclasses.replace(plain.env, oracle=True)
            arms[arm(ratio, "true dynamics")] = dataclasses.replace(plain, env=true)
    return arms


ARMS: dict[str, dict[str, Config]] = {
    f"{family}-{budget}": _arms(family, budget) for family, own in FAMILIES.items() for budget in own.budgets
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
