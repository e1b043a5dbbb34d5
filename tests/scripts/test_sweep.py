"""Sweeps as their users start them, and killed as machines kill them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.results import read_rows

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def sweeping(folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache")}
    command = [sys.executable, "-m", "tests.sweeping", folder / "results"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def until(true, *, seconds=600):
    """Waits; generous, for a machine that does other things too."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def writer(folder, *, not_by=None):
    """The process that learns in the run folder of seed 0, once it has made a checkpoint."""
    if not list(folder.glob("runs/*-seed0/checkpoints/day-*")):
        return None
    number = int(next(folder.glob("runs/*-seed0/.lock")).read_text() or 0)
    return number if number != not_by else None


@pytest.mark.timeout(900)
def test_whatever_is_killed_no_run_is_lost_and_none_repeated(tmp_path):
    rows = tmp_path / "results" / "tiny.csv"

    with sweeping(tmp_path) as process:
        worker = until(lambda: writer(tmp_path))
        os.kill(worker, signal.SIGKILL)
        out, err = process.communicate()
    assert (process.returncode, err) == (
        1,
        "error: 1 of 2 runs failed; the same command makes only those again\n",
    )
    assert "tiny, dreaming, seed 0: failed, its process was killed by SIGKILL (by hand, or" in out
    assert "tiny, dreaming, seed 1: deployed return" in out
    made = read_rows(rows)
    assert {row["seed"] for row in made} == {1}

    with sweeping(tmp_path) as process:
        worker = until(lambda: writer(tmp_path, not_by=worker))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()  # to the end of the last process that could say something
    assert (process.returncode, err) == (130, "stopped; the same command goes on where each run was\n")
    assert read_rows(rows) == made

    with sweeping(tmp_path) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.startswith("1 runs to make; the others have rows already\n")
    both = read_rows(rows)
    assert both[: len(made)] == made
    assert [row["seed"] for row in both[len(made) :]] == [0] * len(made)
    assert len(list((tmp_path / "runs").iterdir())) == 2  # each went on where it was begun
