"""A search space as a W&B sweep file, for whoever lets W&B's agents do the search."""

import json
from typing import Any

from experiments.space import Range, Space, flags


def wandb_file(space: Space, *, seeds: range) -> str:
    """Returns the YAML of a W&B sweep whose agents call `scripts.train` in the root of the repository.

    Args:
      space: what may be tried.
      seeds: what a trial's seed is drawn from.

    Raises:
      ValueError: choices that W&B cannot put on a command line.
    """
    command = ["${env}", "${interpreter}", "-m", "scripts.train", *flags(space.base), "--run.wandb", "online"]
    parameters = {path: _parameter(path, among) for path, among in space.fields.items()}
    parameters["seed"] = {"values": list(seeds)}
    entries = {
        "project": space.base.run.project,
        "program": "scripts/train.py",
        "method": "bayes",
        "metric": {"name": "student_return", "goal": "maximize"},
        "command": [*command, "${args}"],
    }
    lines = [f"{name}: {json.dumps(value)}" for name, value in entries.items()]  # JSON is YAML
    lines += ["parameters:", *(f"  {path}: {json.dumps(value)}" for path, value in parameters.items())]
    return "\n".join(lines) + "\n"


def _parameter(path: str, among: tuple | Range) -> dict[str, Any]:
    fault = None
    if isinstance(among, Range):
        whole = isinstance(among.low, int) and isinstance(among.high, int)
        if not (whole and among.log):
            kind = "log_uniform_values" if among.log else "int_uniform" if whole else "uniform"
            return {"distribution": kind, "min": among.low, "max": among.high}
        fault = "has no logarithmic range of whole numbers"
    elif any(isinstance(value, bool) or not isinstance(value, str | int | float) for value in among):
        fault = "cannot put these choices on a command line"
    if fault:
        raise ValueError(f"W&B {fault}, as for {path}, {among}: search it by --trials")
    return {"values": list(among)}
