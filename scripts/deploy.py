"""Shows a run's versions, or puts one in force: `python -m scripts.deploy RUN_FOLDER [--version N]`."""

from typing import Annotated

import tyro
from rich import box
from rich.table import Table

from experiments.versions import lineage, put_in_force
from scripts.display import clear_errors, console, say


def main(folder: Annotated[str, tyro.conf.Positional], version: int | None = None) -> None:
    """Shows all agents that were judged; with a version, rolls back (or forward) to it.

    Args:
      folder: the run folder.
      version: number of the version to put in force; nothing changes without.
    """
    with clear_errors():
        if version is not None:
            say(f"version {version} is now {put_in_force(folder, version)}")
            return
        rows = lineage(folder)
        if not rows:
            raise ValueError(f"{folder} has no versions: only a run with --gate.evidence keeps them")
        table = Table(title=f"versions of {folder}", title_justify="left", box=box.SIMPLE_HEAD)
        for name in ("version", "parent", "verdict", "real", "model error", "value error", "dreamed return"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*_cells(row))
        console.print(table)
        say("Errors and returns are those of the version, and of the one then deployed, on a day new to both.")


def _cells(row: dict) -> list[str]:
    why = row.get("why", "")
    verdict = f"deployed {why}".strip() if row["deployed"] else f"refused: {why}"
    pairs = []
    for test in ("model_error", "value_error", "dreamed_return"):
        both = (row.get(test), row.get(f"{test}_deployed"))
        pairs.append(" : ".join("-" if value is None else f"{value:.4g}" for value in both))
    return [str(row["version"]), str(row.get("parent", "-")), verdict, str(row.get("real", "-")), *pairs]


if __name__ == "__main__":
    tyro.cli(main, prog="python -m scripts.deploy")
