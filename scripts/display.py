"""What a run looks like in a terminal: a live line while it runs, a table at its end, one message if it fails."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from rich import box
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dreamer.core.types import Meters
from dreamer.io import RunFolder, read_log
from dreamer.sleep.honesty import Honesty
from experiments.diary import DivergedError
from experiments.honesty import columns
from experiments.run import Progress, Result
from experiments.sessions.checks import HORIZONS
from experiments.sessions.failures import CUTS
from experiments.sweep import Heard

_PIPE_WIDTH = 140
"""Columns where there is no terminal to ask: rich would take 80 and break lines that somebody may search."""

INTERPRETER = os.path.relpath(sys.executable) if sys.prefix != sys.base_prefix else "python"
"""What to type for the Python that runs now, in the commands that are printed."""

console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
errors = Console(width=None if sys.stderr.isatty() else _PIPE_WIDTH, highlight=False, stderr=True)


def say(line: str, *, style: str = "") -> None:
    """Prints one line as it is, however long: no markup, no wrapping."""
    console.print(Text(line, style), soft_wrap=True)


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turns what can go wrong for the user into one message and exit code 1, without a traceback; Ctrl-C into 130."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not type(error).__module__.startswith("experiments."):
            raise  # a fault of the program's: whoever mends it needs the traceback
        errors.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(1)


class Watch:
    """A live line in a terminal; elsewhere one plain line at each evaluation."""

    def __init__(self, title: str, *, preset: str):
        """Takes the name of the run, and the preset that the command to resume it begins with."""
        self._title = title
        self._preset = preset
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._folders: tuple[Path, ...] = ()
        self._began: tuple[float, int] | None = None
        self._said: float | None = None

    def __enter__(self) -> "Watch":
        waiting = f"{self._title}: compiling, and living the first day ..."
        if self._live:
            self._live.start()
            self._live.update(Text(waiting))
        else:
            say(waiting)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self._live:
            self._live.stop()
        if error is None or not self._folders or isinstance(error, DivergedError):
            return
        what = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped by an error"
        commands = (f"{INTERPRETER} -m scripts.train {self._preset} --resume {folder}" for folder in self._folders)
        errors.print(Text(f"{what}; all facts are on disk. To go on: {' ; '.join(commands)}"), soft_wrap=True)

    def __call__(self, progress: Progress) -> None:
        """Shows how far the run is."""
        self._folders = progress.folders
        if progress.meters.real == 0:
            return
        left = self._left(progress)
        if self._live:
            self._live.update(self._table(progress, left))
        elif progress.student_return is not None and progress.student_return != self._said:
            self._said = progress.student_return
            meters = progress.meters
            say(
                f"{self._title}: real {meters.real:,}/{progress.config.loop.real_transitions:,}  "
                f"updates {meters.updates:,}  searched {meters.searched:,}  "
                f"deployed return {progress.student_return:.1f}  {left}"
            )

    def _left(self, progress: Progress) -> str:
        """Returns the time left, at the pace since the first night was over (which compiled)."""
        loop, meters = progress.config.loop, progress.meters
        # Days without updates and nights without days both count.
        now, done = time.perf_counter(), meters.real + meters.updates
        self._began = self._began or (now, done)
        began, first = self._began
        if done == first:
            return "? s left"
        return f"{(now - began) / (done - first) * (loop.real_transitions + loop.num_updates - done):,.0f} s left"

    def _table(self, progress: Progress, left: str) -> Table:
        meters = progress.meters
        student = progress.student_return
        cells = {
            "real\ntransitions": f"{meters.real:,}/{progress.config.loop.real_transitions:,}",
            "dream\nratio": f"{_dream_ratio(progress.meters):.4g}",
            "\nupdates": f"{meters.updates:,}",
            "searched\nmodel calls": f"{meters.searched:,}",
            "deployed\nreturn": Text("-" if student is None else f"{student:.1f}", "bold green"),
            "seconds\nleft": left.removesuffix(" s left"),
        }
        table = Table(box=None, padding=(0, 1), collapse_padding=True)
        table.add_column("", overflow="ellipsis", no_wrap=True)
        for name in cells:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_row(Text(self._title, "bold"), *cells.values())
        return table


class ShareWatch:
    """How much of a run is done, in a terminal; elsewhere a plain line at each score."""

    def __init__(self, title: str, *, said: str):
        """Takes the name of the run, and what its score is."""
        self._title = title
        self._said = said
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._score: float | None = None

    def __enter__(self) -> "ShareWatch":
        say(f"{self._title}: compiling ...")
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self._live:
            self._live.stop()

    def __call__(self, share: float, score: float | None) -> None:
        """Shows how far the run is."""
        self._score = self._score if score is None else score
        said = "" if self._score is None else f"{self._said} {self._score:.2f}"
        if self._live:
            table = Table(box=None, padding=(0, 1))
            table.add_row(self._title, ProgressBar(1.0, share, width=30), f"{share:.0%}", said)
            self._live.update(table)
        elif score is not None:
            say(f"{self._title}: {share:.0%}  {said}")


class SweepWatch:
    """How far the runs of a sweep are, in a terminal; what each came to, a line a run, everywhere."""

    def __init__(self, num_runs: int):
        """Takes the number of runs to make."""
        self._num_runs = num_runs
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._running: dict[str, Heard] = {}
        self._first: dict[str, float] = {}
        """Share of each run that was done when it was first heard of: more than nothing if it was resumed."""
        self._num_ended = 0
        self._began = time.perf_counter()

    def __enter__(self) -> "SweepWatch":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self._live:
            self._live.update("")
            self._live.stop()
        if isinstance(error, KeyboardInterrupt):
            errors.print(Text("stopped; the same command goes on where each run was"), soft_wrap=True)

    def __call__(self, heard: Heard) -> None:
        """Takes the news of one run."""
        self._first.setdefault(heard.title, heard.share)
        self._running[heard.title] = heard
        if heard.end is not None:
            del self._running[heard.title]
            self._num_ended += 1
            say(f"{heard.title}: {heard.end}  [{self._num_ended}/{self._num_runs}, {self._left()}]")
        if self._live:
            self._live.update(self._table())

    def _left(self) -> str:
        """Returns the time left if what remains goes at the pace so far."""
        done = self._num_ended + sum(heard.share for heard in self._running.values())
        gained = done - sum(self._first.values())
        if not gained:
            return "? s left"
        return f"{(time.perf_counter() - self._began) / gained * (self._num_runs - done):,.0f} s left"

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1))
        for heard in self._running.values():
            student = "" if heard.student_return is None else f"deployed return {heard.student_return:.1f}"
            table.add_row(heard.title, ProgressBar(1.0, heard.share, width=30), f"{heard.share:.0%}", student)
        table.add_row(f"{self._num_ended}/{self._num_runs} runs", "", "", self._left())
        return table


def show_results(results: dict[str, list[Result]]) -> None:
    """Prints the table at the end, a column an arm: {arm: its runs, one a seed}."""
    table = Table(title="What was learned", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("", no_wrap=True)
    for arm, group in results.items():
        first, last = group[0].config.seed, group[-1].config.seed
        seeds = f"seed {first}" if len(group) == 1 else f"seeds {first} to {last}"
        table.add_column(f"{arm}\n{seeds}", justify="right", no_wrap=True)
    groups = results.values()
    table.add_row("deployed student (no search)", *(_spread([run.student for run in group]) for group in groups))
    table.add_row("planner (with search)", *(_spread([run.planner for run in group]) for group in groups))
    table.add_row("real transitions", *(f"{group[0].meters.real:,}" for group in groups))
    table.add_row("synthetic updates per transition", *(f"{_dream_ratio(group[0].meters):.4g}" for group in groups))
    table.add_row("wall time", *(f"{group[0].seconds:.0f} s" for group in groups))
    console.print(table)
    group = next(iter(groups))
    episodes = f"{group[0].config.evaluation.episodes} episodes"
    if len(group) == 1:
        say(f"Returns are means over {episodes} (lowest to highest) by who is deployed.")
    else:
        say(f"Returns are means over {len(group)} seeds of {episodes} each (lowest to highest seed).")


_NIGHT_COLUMNS = {
    "real": ("real\ntransitions", "{:,}"),
    "updates": ("\nupdates", "{:,}"),
    "student_return": ("deployed,\nno session", "{:.2f}"),
    "session_return": ("session\nin memory", "{:.2f}"),
    "retained_bits": ("bits that\nit holds", "{:.1f}"),
    "available_bits": ("bits that the\ndata could tell", "{:.1f}"),
    "earlier_return": ("jobs before,\nno session", "{:.2f}"),
    "next_return": ("next day,\nno session", "{:.2f}"),
    **{f"recovered_{100 * cut:.0f}": (f"saved from\n{100 * cut:.0f} % on", "{:.2f}") for cut in CUTS},
    **{f"surprise_{step}": (f"bits off,\n{step} behind", "{:.1f}") for step in (0, 1, 3)},
}
_AT_ITS_END = {
    "other_session_return": ("success in another job, by a session of it", "{:.2f}"),
    "old_kl": ("nats from the first agent, where it reads that", "{:.2f}"),
    "return_x1": ("success after the drift", "{:.2f}"),
    **{f"return_x{times}": (f"success in chains {times} times as long", "{:.2f}") for times in HORIZONS},
    **{f"adapted_x{times}": (f"the same x {times}, by a new session", "{:.2f}") for times in (1, *HORIZONS)},
    "wrong_alone": ("places of longer chains first answered wrongly", "{:.3f}"),
    "wrong_alone_after": ("the same, after a mistake", "{:.3f}"),
    "wrong_remembering": ("such places, with the episode so far in memory", "{:.3f}"),
    "wrong_remembering_after": ("the same, after a mistake", "{:.3f}"),
    "carried_bytes": ("bytes stored", "{:,}"),
    "coded_bits": ("bits of a code", "{:,.0f}"),
    "coded_return": ("success by what it tells", "{:.2f}"),
}


def show_nights(folder: Path) -> None:
    """Prints what a run with a session slot measured, a line each time; and what was asked at the end of each job."""
    rows = [row for row in read_log(RunFolder.open(folder).log) if row.get("student_return") is not None]

    def told(row: dict, name: str, form: str) -> str:
        return "" if row.get(name) is None else form.format(row[name])

    def measured(columns: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
        return {name: about for name, about in columns.items() if any(row.get(name) is not None for row in rows)}

    columns, asked = measured(_NIGHT_COLUMNS), measured(_AT_ITS_END)
    table = Table(title="Mean return by what is in memory", title_justify="left", box=box.SIMPLE_HEAD)
    for title, _ in columns.values():
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*(told(row, name, form) for name, (_, form) in columns.items()))
    console.print(table)
    if ends := [row for row in rows if any(row.get(name) is not None for name in asked)]:
        table = Table(title="At the end of a job", title_justify="left", box=box.SIMPLE_HEAD)
        for title in ("real transitions", *(f"{row['real']:,}" for row in ends)):
            table.add_column(title, justify="left" if title == "real transitions" else "right")
        for name, (said, form) in asked.items():
            table.add_row(said, *(told(row, name, form) for row in ends))
        console.print(table)


def show_honesty(measured: Honesty) -> None:
    """Prints a model's errors, a line for each number of dreamed steps."""
    table = Table(title="What the model dreamed against what happened", title_justify="left", box=box.SIMPLE_HEAD)
    errors = columns(measured)
    for name in ("steps", "compared", *errors):
        table.add_column(name.replace("_", "\n"), justify="right")
    for step, (count, *values) in enumerate(zip(measured.num_compared, *errors.values(), strict=True), start=1):
        cells = ("-" if np.isnan(value) else f"{value:.4f}" for value in values)
        table.add_row(str(step), f"{count:,}", *cells)
    console.print(table)
    say("Mean absolute error of rewards, Brier score of continuations; doubt is the spread of an ensemble's members.")


def _spread(returns: list[np.ndarray]) -> str:
    """Returns mean and range of the returns [episodes] of one seed, or of several seeds' means."""
    values = returns[0] if len(returns) == 1 else np.array([own.mean() for own in returns])
    return f"{values.mean():.2f} ({values.min():.4g} to {values.max():.4g})"


def _dream_ratio(meters: Meters) -> float:
    """Returns the rows trained on for each real transition."""
    return (meters.replayed + meters.dreamed) / max(1, meters.real)
