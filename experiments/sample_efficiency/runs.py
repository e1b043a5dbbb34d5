"""What is run: each task with dreams and without, over seeds."""

from experiments.config import Config
from experiments.control import without_dreams
from experiments.figures.learning_curve import CONTROL, DREAMING
from experiments.presets import PRESETS

TASKS = {name: PRESETS[name] for name in ("cartpole", "deep-sea", "minatar-breakout")}

ARMS: dict[str, dict[str, Config]] = {
    task: {DREAMING: config, CONTROL: without_dreams(config)} for task, config in TASKS.items()
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
