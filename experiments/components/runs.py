"""What is run: a preset with one part taken away, or one that it lacks added.

Breakout asks for the parts of EfficientZero, one at a time: what each adds to our own preset, or what it has of it is
worth; and for all of V2's at once, at MinAtar's size. Freeway, where a walk at random hardly ever arrives, asks for
ways to explore, each arm one step beyond the one before it. CartPole asks for its step size, since some of its agents
lose again what they had.
"""

from experiments.config import Config
from experiments.fields import changed
from experiments.presets import PRESETS

REFERENCE = "as the preset"
"""The arm that others are held against: the preset, but for what the task changes in all arms."""

_BUDGET = {"name": "components", "loop.real_transitions": 10_000, "evaluation.every": 2500}
# Of what `minatar-100k` has: the board laid out, rows drawn uniformly, in batches of 64.
_BREAKOUT = changed(
    PRESETS["minatar-100k"], _BUDGET | {"model.torso": "dense", "replay.event_share": 0.0, "loop.batch_size": 64}
)
# Six frames show when something moves; nearer to now than the preset looks, waiting costs more.
_FREEWAY = changed(
    PRESETS["minatar-100k"], _BUDGET | {"env.id": "Freeway-MinAtar", "env.frame_stack": 6, "targets.gamma": 0.98}
)
# V2's parts, in the preset's sizes: values of search for what was lived 500 transitions ago and before, not 5,000: a
# run is a tenth as long. The board is laid out, as above; batches, optimiser and lag are the preset's.
_V2 = changed(
    PRESETS["minatar-100k"],
    _BUDGET
    | {
        "name": "components-v2",
        "model.torso": "dense",
        "replay.event_share": 0.0,
        "replay.priority_exponent": 1.0,
        "replay.importance_exponent": 1.0,
        "replay.min_weight": 0.1,
        "targets.research_fraction": 1.0,
        "targets.value_source": "mixed",
        "targets.mixed_from": 0.3,
        "targets.mixed_after": 500,
        "targets.td_steps": 5,
        "model.value_prefix": 5,
        "model.lstm_size": 64,
        "model.consistency_weight": 5.0,
    },
)
_CARTPOLE = changed(PRESETS["cartpole"], {"name": "components-cartpole"})
_SPELLS = {"loop.epsilon": 0.2, "loop.spell": 32}

ARMS: dict[str, dict[str, Config]] = {
    "minatar-breakout": {
        REFERENCE: _BREAKOUT,
        "no consistency": changed(_BREAKOUT, {"model.consistency_weight": 0.0}),
        "no reanalysis": changed(_BREAKOUT, {"targets.research_fraction": 0.0, "targets.unsearched_policy": "action"}),
        "n-step values": changed(_BREAKOUT, {"targets.value_source": "n_step"}),
        "mixed values": changed(_BREAKOUT, {"targets.value_source": "mixed"}),
        "value prefix": changed(_BREAKOUT, {"model.value_prefix": 5, "model.lstm_size": 64}),
        "prioritised replay": changed(_BREAKOUT, {"replay.priority_exponent": 0.6, "replay.importance_exponent": 0.4}),
        "epsilon 0.1": changed(_BREAKOUT, {"loop.epsilon": 0.1}),
        "batches of 16": changed(_BREAKOUT, {"loop.batch_size": 16}),
        "all of V2": _V2,
    },
    "cartpole": {
        REFERENCE: _CARTPOLE,
        **{f"step size {size:g}": changed(_CARTPOLE, {"update.learning_rate": size}) for size in (3e-3, 1e-2)},
    },
    "minatar-freeway": {
        REFERENCE: _FREEWAY,
        "epsilon 0.2": changed(_FREEWAY, {"loop.epsilon": 0.2}),
        "epsilon 0.2, spells of 32": changed(_FREEWAY, _SPELLS),
        "spells, range of Q 0.05": changed(_FREEWAY, _SPELLS | {"search.relative_q_range": 0.05}),
    },
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
