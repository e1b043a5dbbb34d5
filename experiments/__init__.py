"""Experiments: configs and presets, the wiring, runs, their rows and figures, and one folder a question."""

from experiments.config import Config
from experiments.presets import PRESETS
from experiments.run import Result, resume, run, run_seeds

__all__ = ["PRESETS", "Config", "Result", "resume", "run", "run_seeds"]
