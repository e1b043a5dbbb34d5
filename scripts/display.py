"""What a run looks like in a terminal: one live line while it runs, one table at its end."""

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from experiments.run import Progress, Result

console = Console()


class Watch:
    """A live line in a terminal; elsewhere one plain line at each evaluation."""

    def __init__(self, title: str):
        """Takes the name of the run."""
        self._title = title
        self._live = Live(console=console, refresh_per_second=4, transient=False) if console.is_terminal else None
        self._began: tuple[float, int] | None = None
        self._said: float | None = None

    def __enter__(self) -> "Watch":
        if self._live:
            self._live.start()
            self._live.update(f"[bold]{self._title}[/bold]  compiling, and living the first day ...")
        else:
            console.print(f"{self._title}: compiling, and living the first day ...")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self._live:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        """Shows how far the run is."""
        if self._live:
            self._live.update(self._table(progress))
        elif progress.student_return is not None and progress.student_return != self._said:
            self._said = progress.student_return
            meters = progress.meters
            console.print(
                f"{self._title}: real {meters.real:,}/{progress.config.loop.real_transitions:,}  "
                f"updates {meters.updates:,}  searched {meters.searched:,}  "
                f"deployed return {progress.student_return:.1f}  {self._left(progress)} s left",
                highlight=False,
            )

    def _left(self, progress: Progress) -> int:
        """Returns the seconds left, at the pace since the first night was over (which compiled)."""
        now, real = time.perf_counter(), progress.meters.real
        self._began = self._began or (now, real)
        began, first = self._began
        if real == first:
            return 0
        return round((now - began) / (real - first) * (progress.config.loop.real_transitions - real))

    def _table(self, progress: Progress) -> Table:
        meters, config = progress.meters, progress.config
        deployed = "-" if progress.student_return is None else f"{progress.student_return:.1f}"
        cells = {
            "": f"[bold]{self._title}[/bold]",
            "real transitions": f"{meters.real:,} / {config.loop.real_transitions:,}",
            "dream ratio": f"{meters.replayed / max(1, meters.real):.0f}",
            "updates": f"{meters.updates:,}",
            "searched model calls": f"{meters.searched:,}",
            "deployed return": f"[bold green]{deployed}[/bold green]",
            "seconds left": f"{self._left(progress)}",
        }
        table = Table(box=None, padding=(0, 2))
        for name in cells:
            table.add_column(name, justify="left" if not name else "right")
        table.add_row(*cells.values())
        return table


def show_results(results: dict[str, Result]) -> None:
    """Prints the table at the end, a row a run."""
    table = Table(title="What was learned", title_justify="left")
    for name in (
        "run",
        "deployed student (no search)",
        "planner (with search)",
        "real transitions",
        "synthetic updates per real transition",
        "wall time",
    ):
        table.add_column(name, justify="left" if name == "run" else "right")
    for arm, result in results.items():
        table.add_row(
            f"{arm}, seed {result.config.seed}",
            f"{result.student.mean():.1f} ({result.student.min():.1f} to {result.student.max():.1f})",
            f"{result.planner.mean():.1f} ({result.planner.min():.1f} to {result.planner.max():.1f})",
            f"{result.meters.real:,}",
            f"{result.meters.replayed / max(1, result.meters.real):.0f}",
            f"{result.meters.seconds:.0f} s",
        )
    console.print(table)
    episodes = next(iter(results.values())).config.evaluation.episodes
    console.print(f"Returns are means over {episodes} episodes (lowest to highest) by the final parameters.")
