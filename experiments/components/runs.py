"""What is run: MinAtar Breakout with one setting changed at a time; a part that the preset has is taken away, one that
it lacks is added."""

from experiments.config import Config, changed
from experiments.presets import PRESETS

REFERENCE = "as the preset"
"""The arm that every other differs from in one part."""

# Of what `minatar-100k` has: the board laid out, rows drawn uniformly, in batches of 64.
_BASE = changed(
    PRESETS["minatar-100k"],
    {"name": "components", "loop.real_transitions": 10_000, "evaluation.every": 2500}
    | {"model.torso": "dense", "replay.event_share": 0.0, "loop.batch_size": 64},
)

ARMS: dict[str, dict[str, Config]] = {
    "minatar-breakout": {
        REFERENCE: _BASE,
        "no consistency": changed(_BASE, {"model.consistency_weight": 0.0}),
        "no reanalysis": changed(_BASE, {"targets.research_fraction": 0.0, "targets.unsearched_policy": "action"}),
        "n-step values": changed(_BASE, {"targets.value_source": "n_step"}),
        "mixed values": changed(_BASE, {"targets.value_source": "mixed"}),
        "value prefix": changed(_BASE, {"model.value_prefix": 5, "model.lstm_size": 64}),
        "prioritised replay": changed(_BASE, {"replay.priority_exponent": 0.6, "replay.importance_exponent": 0.4}),
        "epsilon 0.1": changed(_BASE, {"loop.epsilon": 0.1}),
        "batches of 16": changed(_BASE, {"loop.batch_size": 16}),
    }
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
