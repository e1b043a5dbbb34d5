import io

import pytest
from rich.console import Console

from experiments.sweep import Heard
from scripts import display


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(display.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_sweep_by_hand(monkeypatch, clock, is_terminal):
    screen = io.StringIO()
    monkeypatch.setattr(display, "console", Console(file=screen, force_terminal=is_terminal, width=100))
    with display.SweepWatch(4) as watch:
        watch(Heard("a", 0.5))  # resumed: what was done before is no measure of the pace
        watch(Heard("b", 0.0))
        clock[0] += 10
        watch(Heard("a", 0.75, student_return=12.25))
        assert watch._left() == "130 s left"  # a quarter of a run in 10 s, 3.25 runs to go
        display.console.print(watch._table())
        watch(Heard("b", 1.0, end="failed, KeyError: 1"))
        watch(Heard("a", 1.0, end="deployed return 13.00"))
    said = screen.getvalue()
    assert "b: failed, KeyError: 1  [1/4, 18 s left]\n" in said  # 1.25 runs in 10 s, 2.25 to go
    assert "a: deployed return 13.00  [2/4, 13 s left]\n" in said
    assert "75% deployed return 12.2" in " ".join(said.split())


def test_a_sweep_whose_runs_were_all_there(clock):
    watch = display.SweepWatch(2)
    watch(Heard("a", 1.0, end="deployed return 13.00"))
    assert watch._left() == "? s left"


def test_a_sweep_that_is_stopped_says_how_to_go_on(capfd):
    with pytest.raises(KeyboardInterrupt), display.SweepWatch(1):
        raise KeyboardInterrupt
    assert capfd.readouterr().err == "stopped; the same command goes on where each run was\n"
