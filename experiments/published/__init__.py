"""Scores that others published, each with its source: reference lines of figures, never rows of ours.

`minatar.csv`: gymnax MinAtar (no sticky actions, episodes cut at 1,000 decisions, in Freeway at 2,500), `real` in
environment steps. The original MinAtar and pgx have sticky actions and no cut: their scores are not comparable, and
none are here. PPO is one seed of each learning rate.

`replay_ratio.csv`: scores at several replay ratios (updates for each environment step, of a batch each) and equal real
data. Only their shape is comparable with ours.
"""

import csv
from pathlib import Path

FOLDER = Path(__file__).parent


def minatar(env_id: str, *, least: int = 0, most: int) -> dict[str, float]:
    """Returns label -> score of the best entry at each published budget from `least` to `most` transitions.

    Args:
      env_id: as in rows, e.g. `Breakout-MinAtar`.
      least: real transitions.
      most: real transitions.
    """
    best: dict[int, tuple[float, str]] = {}
    with (FOLDER / "minatar.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            real, score = int(row["real"]), float(row["score"])
            if row["env_id"] == env_id and least <= real <= most and score > best.get(real, (float("-inf"), ""))[0]:
                best[real] = score, row["method"]
    return {f"{method}, {real:,} transitions": score for real, (score, method) in sorted(best.items())}


def replay_ratios() -> dict[str, list[tuple[int, float]]]:
    """Returns method -> (replay ratio, score) at rising ratios."""
    found: dict[str, list[tuple[int, float]]] = {}
    with (FOLDER / "replay_ratio.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["method"], []).append((int(row["replay_ratio"]), float(row["score"])))
    return {method: sorted(points) for method, points in found.items()}
