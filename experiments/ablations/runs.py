"""What is run: gymnax CartPole at 1,000 real transitions, half of the trained rows imagined, one setting of the dreams
changed at a time; some arms change a second one.

Budget, warm-up and dream ratios are those of arms of `dream_scaling`, chosen from its rows: there the plain agent ends
above an agent that learned nothing and below the task's ceiling.
"""

from dreamer.sleep.gate import GateConfig
from experiments.config import Config
from experiments.dream_scaling import runs as scaling
from experiments.fields import changed
from experiments.presets import PRESETS

RATIOS = (16, 64)
"""Dream ratios; all arms of a task have the same."""
REFERENCE = "as reference"
"""Horizon 5, one branch, half of the rows imagined, search labels, one model, days of 10 decisions."""
MEMBERS = "ensemble of 3"
LAMBDA = "lambda values"
LONG = "days of 100"
HELD_BACK = "days of 100, held back"
"""The newest day is learned from a day later, so that the first night has to wait for the second."""
BLIND = GateConfig(look_every=10**6, standard_errors=1e9, min_entropy=0.0, max_kl=0.0)
"""A night that holds its day back and is looked at when it is over alone: what holding back by itself costs. The other
three settings are those of the rows, and of no effect."""
CHANGES: dict[str, tuple[str, dict]] = {
    "horizon 1": (REFERENCE, {"imagine.horizon": 1}),
    "horizon 15": (REFERENCE, {"imagine.horizon": 15}),
    "4 branches": (REFERENCE, {"imagine.branches": 4}),
    "nothing imagined": (REFERENCE, {"imagine": PRESETS["cartpole-jax"].imagine}),
    "a quarter imagined": (REFERENCE, {"imagine.real_share": 0.75}),
    "three quarters imagined": (REFERENCE, {"imagine.real_share": 0.25}),
    LAMBDA: (REFERENCE, {"imagine.value_source": "lambda"}),
    "lambda values, no policy labels": (LAMBDA, {"imagine.policy_source": "none"}),
    MEMBERS: (REFERENCE, {"ensemble.num_members": 3}),
    "ensemble of 3, weighed by doubt": (MEMBERS, {"imagine.doubt_scale": 1.0}),
    "ensemble of 3, expanded values": (MEMBERS, {"imagine.value_source": "expansion"}),
    LONG: (REFERENCE, {"loop.steps_per_day": 100}),
    "days of 100, gated": (LONG, {"gate.evidence": "both"}),
    HELD_BACK: (LONG, {"gate": BLIND, "loop.learn_after": 200}),
    "days of 100, nights watched": (HELD_BACK, {"gate": GateConfig(look_every=4)}),
    "one night": (REFERENCE, {"loop.steps_per_day": 1000}),
}
"""Arm -> the arm that it is held against, and what it changes there."""


def _arms(reference: Config) -> dict[str, Config]:
    arms = {REFERENCE: reference}
    for arm, (against, values) in CHANGES.items():
        arms[arm] = changed(arms[against], values)
    return arms


ARMS: dict[str, dict[str, Config]] = {
    f"ratio-{ratio}": _arms(
        changed(scaling.ARMS["cartpole-1000"][scaling.arm(ratio, "half imagined")], {"name": f"ablations-{ratio}"})
    )
    for ratio in RATIOS
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
