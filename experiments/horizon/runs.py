"""What is run: jobs learned in chains of 2, 4 or 8 keys, by what a session taught or by rewards, then longer ones.

Slack is half of the chain, as where the agents were pre-trained, all of them in chains of 4. Rewards come at the end of
a chain, so whoever learns by them alone finds the fewer the longer it is. The first three arms live as many real
transitions; the last, more.

Three tasks more change the world: two of eight keys look the same until they are looked at or answered wrongly
(`ambiguous`, with agents that were pre-trained so; a look costs a decision and nothing else), each reward comes eight
decisions late, in a later chain (`delayed`, in chains of 2 keys, which all arms learn where it does not; distillation
reads no rewards, and the policy gradient counts a chain's own alone, or in two more arms all that come until its own
has come), or a quarter of the keys has another answer before longer chains are asked (`drifting`). In
`self-conditioning` students who learned in chains of 4 keys are asked whether one mistake makes others likelier, in
chains of 32.
"""

from experiments.consolidation.runs import ARMS as CONSOLIDATION
from experiments.consolidation.runs import REFERENCE, REWARDS
from experiments.fields import changed
from experiments.sessions.checks import HORIZONS
from experiments.sessions.config import DistillationConfig

DREAMED, LONGER = "session, dreamed states", "policy gradient, for longer"
WINDOWED, WINDOWED_LONGER = (f"{arm}, later rewards counted" for arm in (REWARDS, LONGER))
AMBIGUOUS, DELAYED, DRIFTING, CONDITIONED = "ambiguous", "delayed", "drifting", "self-conditioning"
LENGTHS = {f"trained-{length}": length for length in (2, 4, 8)}
LENGTHS |= {AMBIGUOUS: 4, DELAYED: 2, DRIFTING: 4, CONDITIONED: 4}
"""Task -> keys of the chains that are learned in."""

_OF = CONSOLIDATION["jobworld"]
_TAUGHT = {
    REFERENCE: _OF[REFERENCE],
    DREAMED: _OF[DREAMED],
    REWARDS: changed(_OF[REWARDS], {"consolidation.num_nights": 12}),
    LONGER: _OF[REWARDS],
}

_LOOKS = {"env.jobworld.aliased": 0.25, "env.jobworld.look_cost": 0.0}
CHANGES = {
    AMBIGUOUS: _LOOKS | {f"agent.{name}": value for name, value in _LOOKS.items()},
    DELAYED: {"consolidation.late_rewards": 8},
    DRIFTING: {"drift": 0.25},
    CONDITIONED: {"horizons": (), "self_conditioning": 8},
}
"""Task -> how its world is another than that of the other tasks."""


def _in_chains(task: str, length: int) -> dict[str, DistillationConfig]:
    """Returns the arms of a task, learned in chains of so many keys."""
    own = {"env.jobworld.chain_length": length, "env.jobworld.slack": length // 2}
    settings = {"name": f"horizon-{task}", "horizons": HORIZONS} | own | CHANGES.get(task, {})
    arms = _TAUGHT
    if task == DELAYED:  # a chain of two keys is over after three decisions, and its reward eight later
        late = {WINDOWED: REWARDS, WINDOWED_LONGER: LONGER}
        arms = arms | {arm: changed(arms[of], {"consolidation.credit_window": 10}) for arm, of in late.items()}
    return {arm: changed(config, settings) for arm, config in arms.items()}


ARMS: dict[str, dict[str, DistillationConfig]] = {task: _in_chains(task, length) for task, length in LENGTHS.items()}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
