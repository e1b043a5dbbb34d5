"""What is run: one agent at the same budget of real transitions, dreaming of each of them more and more often.

A ratio of 0 never learns. The warm-up of the step size is at most a tenth of a run's updates, so that few dreams are
held back by being few alone. All else, the batch too, is the preset's: at ratio 1 that makes few updates; the table
says how many. Plain arms have no plasticity control but the layer norms of their networks: their weight decay takes
less than a two-hundredth of a weight over a whole run.
"""

import dataclasses
from collections.abc import Callable, Mapping

from experiments.config import Config
from experiments.presets import PRESETS

RATIOS = (0, 1, 4, 16, 64, 256, 1024)
"""Rows trained on for each real transition."""

At = Mapping[int, tuple[int, ...]]
"""Real transitions -> dream ratios."""


@dataclasses.dataclass(frozen=True)
class Family:
    """One environment with the agent that dreams there."""

    base: Config
    """Of which budget, ratio and what follows from them change."""
    plain: At
    """Arms that change nothing else. Large budgets for the fewest dreams tell what data alone would do."""
    controls: Mapping[str, At] = dataclasses.field(default_factory=dict)
    """Kind of `KINDS` -> arms that change this, too."""
    renew_every: int = 500
    """Updates between two renewals of the networks."""

    def __post_init__(self) -> None:
        kinds = [kind for kind in self.controls if kind not in KINDS]
        budgets = [budget for at in self.controls.values() for budget in at if budget not in self.plain]
        if kinds or budgets:
            raise ValueError(
                f"{self.base.name}: controls {kinds} and budgets {budgets} lead to no arm: give kinds of {list(KINDS)} "
                f"and budgets of {list(self.plain)}"
            )


def _updating(plain: Config, **changes: float | bool) -> Config:
    return dataclasses.replace(plain, update=dataclasses.replace(plain.update, **changes))


KINDS: dict[str, Callable[[Config, Family], Config]] = {
    "renewed": lambda plain, family: _updating(plain, reset_every=family.renew_every),
    "renewed rarely": lambda plain, family: _updating(plain, reset_every=4 * family.renew_every),
    "shrunk a little": lambda plain, family: _updating(
        plain, reset_every=family.renew_every, shrink=0.8, reset_heads=False
    ),
    "half imagined": lambda plain, family: dataclasses.replace(
        plain, imagine=dataclasses.replace(plain.imagine, real_share=0.5)
    ),
    "true dynamics": lambda plain, family: dataclasses.replace(plain, env=dataclasses.replace(plain.env, oracle=True)),
}
"""Kind -> (plain arm, its family) -> the arm: networks shrunk to half with fresh heads, the same four times as rarely,
networks that keep four fifths and their heads; half of the rows imagined; search in the environment itself while all
else is learned."""

FAMILIES: dict[str, Family] = {
    "cartpole": Family(
        PRESETS["cartpole-jax"],
        {300: RATIOS, 1000: RATIOS, 3000: RATIOS[:5], 10_000: (1,), 30_000: (1,)},
        {
            "renewed": {1000: (256,), 3000: (64,)},
            "renewed rarely": {1000: (1024,)},
            "shrunk a little": {1000: (256,)},
            "half imagined": {1000: (16, 64), 3000: (16, 64)},
            "true dynamics": {1000: (1, 4, 16, 64, 256)},
        },
    ),
    "deep-sea": Family(PRESETS["deep-sea"], {12_000: RATIOS[:4]}),
    "sliding-tile": Family(PRESETS["sliding-tile"], {20_000: RATIOS[:5]}),
    "minatar-breakout": Family(
        PRESETS["minatar-100k"],
        {20_000: RATIOS[:5], 60_000: RATIOS[:4], 200_000: (1,)},
        {"renewed": {20_000: (64,)}, "true dynamics": {20_000: (1, 4, 16)}},
        renew_every=15_000,
    ),
}
"""Family -> its runs. Two tasks are sparse: in deep sea one episode in 256 of a coin toss finds the only reward, and
sliding tiles are paid for when the puzzle is solved."""


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
    """Returns the arms of one budget: the plain ones, then each kind's."""
    own = FAMILIES[family]
    arms = {arm(ratio): _at(family, budget, ratio) for ratio in own.plain[budget]}
    for kind, change in KINDS.items():
        for ratio in own.controls.get(kind, {}).get(budget, ()):
            arms[arm(ratio, kind)] = change(_at(family, budget, ratio), own)
    return arms


ARMS: dict[str, dict[str, Config]] = {
    f"{family}-{budget}": _arms(family, budget) for family, own in FAMILIES.items() for budget in own.plain
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
