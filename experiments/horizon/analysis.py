"""How it is scored: success without memory against the length of the chain, and the length at which it is a half."""

import math
from collections.abc import Sequence
from pathlib import Path

from experiments import table
from experiments.figures import heat_map
from experiments.horizon.runs import ARMS, CHANGES, CONDITIONED, DRIFTING, LENGTHS
from experiments.results import final_of
from experiments.sessions.checks import HORIZONS
from experiments.statistics import interquartile_mean

_COLUMNS = (
    "task", "arm", "seeds", "real transitions", "success in its own chains: IQM [95 %]",
    *(f"{times} times as long; above what independent parts give" for times in HORIZONS),
    "keys at which 80 % succeed: median seed [least, most]", "50 %",
)  # fmt: skip


_OF_DRIFT = (
    "task", "arm", "seeds", "real transitions", "success as it is learned: IQM [95 %]",
    *(f"{said}, {memory}" for memory in ("without memory", "with a new session in memory")
      for said in ("after the drift", *(f"{times} times as long" for times in HORIZONS))),
)  # fmt: skip


_OF_CONDITIONING = (
    "task", "arm", "seeds", "real transitions", "success as it is learned: IQM [95 %]",
    *(f"{said}, {memory}" for memory in ("without memory", "with the episode so far in memory")
      for said in ("places first answered wrongly, in chains 8 times as long", "after a mistake",
                   "more, seed by seed")),
)  # fmt: skip


def analyse(folder: Path) -> tuple[str, list[Path]]:
    """Returns the tables as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks and arms without rows are left out. What has drifted before it is asked has a table of its own, and what one
    mistake does to later answers has, too.
    """
    tables, found = {_COLUMNS: [], _OF_DRIFT: [], _OF_CONDITIONING: []}, {}
    kinds = {DRIFTING: (_OF_DRIFT, _line_of_drift), CONDITIONED: (_OF_CONDITIONING, _line_of_conditioning)}
    for task, arms in ARMS.items():
        rows = final_of(folder, task)
        for arm in arms:
            own = [row for row in rows if row["arm"] == arm]
            columns, line = kinds.get(task, (_COLUMNS, _line))
            if own:
                tables[columns].append(line(task, arm, own))
            if own and task not in CHANGES:
                found.setdefault(arm, {})[LENGTHS[task]] = own
    figures = [_draw(found, folder / "figures" / "horizon.png")] if found else []
    told = [[*table.titled(columns), *lines] for columns, lines in tables.items() if lines]
    return "\n\n".join("\n".join(own) for own in told or [table.titled(_COLUMNS)]), figures


def longest(curve: Sequence[tuple[int, float]], level: float) -> float:
    """Returns the length of chain at which success falls below a level: infinite where it never does, 0 where it
    starts below.

    Between two lengths the logarithm of success is taken to be linear in the length, as it is where the keys of a chain
    are got right independently of each other.

    Args:
      curve: (keys of a chain, success) rising in keys.
      level: above 0.
    """
    if curve[0][1] < level:
        return 0.0
    for (short, above), (long, below) in zip(curve, curve[1:], strict=False):
        if below < level:
            if not below:
                return float(short)  # how fast it falls is not known, so it is this length at least
            share = math.log(above / level) / math.log(above / below)
            return short + share * (long - short)
    return math.inf


def _curve(row: dict, length: int) -> list[tuple[int, float]]:
    far = [(times * length, row[f"return_x{times}"]) for times in HORIZONS]
    return [(length, row["student_return"]), *far]


def _line(task: str, arm: str, rows: list[dict]) -> str:
    curves = [_curve(row, LENGTHS[task]) for row in rows]
    cells = [f"{rows[0]['real']:,}", table.interval(interquartile_mean([row["student_return"] for row in rows]))]
    for times in HORIZONS:
        far, parts = ([row[f"{name}_x{times}"] for row in rows] for name in ("return", "independent"))
        said = table.interval(interquartile_mean(far))
        if None not in parts:  # rows of older estimates, which were biased, do not say it
            gaps = [one - of_parts for one, of_parts in zip(far, parts, strict=True)]
            said += f"; {table.interval(interquartile_mean(gaps))}"
        cells.append(said)
    cells += [_length(curves, level) for level in (0.8, 0.5)]
    return table.joined([task, arm, str(len(rows)), *cells])


def _line_of_drift(task: str, arm: str, rows: list[dict]) -> str:
    names = [f"{whose}_x{times}" for whose in ("return", "adapted") for times in (1, *HORIZONS)]
    cells = [table.interval(interquartile_mean([row[name] for row in rows])) for name in ("student_return", *names)]
    return table.joined([task, arm, str(len(rows)), f"{rows[0]['real']:,}", *cells])


def _line_of_conditioning(task: str, arm: str, rows: list[dict]) -> str:
    cells = [f"{rows[0]['real']:,}", table.interval(interquartile_mean([row["student_return"] for row in rows]))]
    for who in ("alone", "remembering"):
        pairs = [(row[f"wrong_{who}"], row[f"wrong_{who}_after"]) for row in rows if row[f"wrong_{who}"] is not None]
        told = zip(*((wrong, after, after - wrong) for wrong, after in pairs), strict=True)
        cells += [table.interval(interquartile_mean(values), ".3f") for values in told] or ["-"] * 3
    return table.joined([task, arm, str(len(rows)), *cells])


def _length(curves: list[list[tuple[int, float]]], level: float) -> str:
    """Returns the cell of the lengths of seeds; bounds where one is beyond what was measured."""
    lengths = sorted(longest(curve, level) for curve in curves)
    least, most = curves[0][0][0], curves[0][-1][0]

    def said(length: float) -> str:
        return f"< {least}" if length < least else f"> {most}" if math.isinf(length) else f"{length:.0f}"

    return f"{said(lengths[(len(lengths) - 1) // 2])} [{said(lengths[0])}, {said(lengths[-1])}]"


def _draw(found: dict[str, dict[int, list[dict]]], path: Path) -> Path:
    panels = {
        arm: {
            (length, keys): interquartile_mean([dict(_curve(row, length))[keys] for row in rows])[0]
            for length, rows in tasks.items()
            for keys, _ in _curve(rows[0], length)
        }
        for arm, tasks in found.items()
    }
    rows = [row for tasks in found.values() for own in tasks.values() for row in own]
    learned, asked = "keys of the chains that were learned in", "keys of the chains that are asked"
    return heat_map.draw(rows, path, panels=panels, y=learned, x=asked, what="success without memory, IQM")
