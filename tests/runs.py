"""Whole runs that are small: wired once, made once, shared by the tests of experiments and scripts."""

import dataclasses
import functools
import tempfile
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np

from dreamer.core import trees
from dreamer.io import Checkpoints, FactLog, read_log
from dreamer.wake.envs import EnvConfig
from experiments import Config, Result, run
from experiments.build import Parts, build
from experiments.recover import saved_state
from experiments.run import Watch
from tests import tiny

SUITES = ("gymnax", "gymnasium")  # CartPole under the jitted driver and under the host driver
NUM_DAYS = 6
CHECKPOINTS = (2, 4, 6)  # the nights they are made after


def config(suite: str = "gymnax", folder: Path | str | None = None, **changes) -> Config:
    """Six days of eight transitions, a checkpoint every second night, an evaluation every third."""
    made = tiny.config(
        env=EnvConfig("CartPole-v1", suite, num_envs=2),
        loop=dict(real_transitions=48, steps_per_day=4, dream_ratio=2, batch_size=4),
        search=dict(num_simulations=2),
        evaluation=dict(episodes=3, every=24),
        run=dict(wandb="disabled", checkpoint_every=16),
    )
    made = dataclasses.replace(made, **changes)
    return in_folder(made, folder)


def in_folder(made: Config, folder: Path | str | None) -> Config:
    return dataclasses.replace(made, run=dataclasses.replace(made.run, folder=folder and str(folder)))


@functools.cache
def parts(suite: str) -> Parts:
    """The wired experiment; all tests live in it by turns, so it is compiled once."""
    return build(config(suite))


@functools.cache
def _keep() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="dreamer-tests-")  # goes with the process


@functools.cache
def finished(suite: str) -> Result:
    """A run that nobody interrupted. Nothing may be written into its folder."""
    return run(config(suite, Path(_keep().name) / suite), parts=parts(suite))


def start(suite: str, folder: Path, watch: Watch | None = None) -> Result:
    return run(config(suite, folder), parts=parts(suite), watch=watch)


@contextmanager
def interrupt(monkeypatch, place: type, method: str, *, call: int, done: bool):
    """Interrupts as Ctrl-C would, at a call of a method, number `call` from 0: when it is `done`, or before."""
    original, calls = getattr(place, method), []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == call + 1 and not done:
            raise KeyboardInterrupt
        outcome = original(self, *args, **kwargs)
        if len(calls) == call + 1:
            raise KeyboardInterrupt
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(place, method, interrupted)
        yield


def rows(folder: Path) -> list[dict]:
    """The log without the one column in which equal runs differ."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read_log(folder / "log.jsonl")]


def learned(suite: str, folder: Path):
    """What the newest checkpoint holds."""
    like = jax.eval_shape(lambda: saved_state(parts(suite).init()))
    return Checkpoints(folder / "checkpoints").restore(like).tree


def facts(folder: Path) -> list[tuple]:
    return list(FactLog.open(folder / "facts").read())


def assert_same_run(suite: str, one: Result, other: Result) -> None:
    """Parameters, optimiser, keys, priorities, log, facts and returns are equal bit for bit."""
    assert trees.digest(learned(suite, one.folder)) == trees.digest(learned(suite, other.folder))
    assert rows(one.folder) == rows(other.folder)
    assert dataclasses.replace(one.meters, seconds=0) == dataclasses.replace(other.meters, seconds=0)
    np.testing.assert_array_equal(one.student, other.student)
    np.testing.assert_array_equal(one.planner, other.planner)
    for left, right in zip(facts(one.folder), facts(other.folder), strict=True):
        jax.tree.map(np.testing.assert_array_equal, left, right)
