"""What is run: MinAtar Breakout with one setting changed at a time; a part that the preset has is taken away, one that
it lacks is added."""

import dataclasses

from experiments.config import Config
from experiments.presets import PRESETS

REFERENCE = "as the preset"
"""The arm that every other differs from in one part."""

_PRESET = PRESETS["minatar-breakout"]
_BASE = dataclasses.replace(
    _PRESET,
    name="components",
    loop=dataclasses.replace(_PRESET.loop, real_transitions=20_000),
    evaluation=dataclasses.replace(_PRESET.evaluation, every=4000),
)


def _changed(**parts: dict) -> Config:
    """Returns the base with fields of its parts replaced: `_changed(model={"consistency_weight": 0.0})`."""
    return dataclasses.replace(
        _BASE, **{part: dataclasses.replace(getattr(_BASE, part), **fields) for part, fields in parts.items()}
    )


ARMS: dict[str, dict[str, Config]] = {
    "minatar-breakout": {
        REFERENCE: _BASE,
        "no consistency": _changed(model={"consistency_weight": 0.0}),
        "no reanalysis": _changed(targets={"research_fraction": 0.0, "unsearched_policy": "action"}),
        "n-step values": _changed(targets={"value_source": "n_step"}),
        "mixed values": _changed(targets={"value_source": "mixed"}),
        "value prefix": _changed(model={"value_prefix": 5, "lstm_size": 64}),
        "prioritised replay": _changed(replay={"priority_exponent": 0.6, "importance_exponent": 0.4}),
    }
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
