"""Scores that others published, each with its source: reference lines of figures, never rows of ours.

`minatar.csv`: gymnax MinAtar (no sticky actions, episodes cut at 1,000 decisions), `real` in environment steps. The
original MinAtar and pgx have sticky actions and no cut: their scores are not comparable, and none are here. PPO is one
seed of each learning rate.
"""

import csv
from pathlib import Path

FOLDER = Path(__file__).parent


def minatar(env_id: str, *, most: int) -> dict[str, float]:
    """Returns label -> score of the best entry at each published budget of at most `most` transitions.

    Args:
      env_id: as in rows, e.g. `Breakout-MinAtar`.
      most: real transitions.
    """
    best: dict[int, tuple[float, str]] = {}
    with (FOLDER / "minatar.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            real, score = int(row["real"]), float(row["score"])
            if row["env_id"] == env_id and real <= most and score > best.get(real, (float("-inf"), ""))[0]:
                best[real] = score, row["method"]
    return {f"{method}, {real:,} transitions": score for real, (score, method) in sorted(best.items())}
