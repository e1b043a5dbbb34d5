"""What is run: jobs learned in chains of 2, 4 or 8 keys, by what a session taught or by rewards, then longer ones.

Slack is half of the chain, as where the agents were pre-trained, all of them in chains of 4. Rewards come at the end of
a chain, so whoever learns by them alone finds the fewer the longer it is. The first three arms live as many real
transitions; the last, more.
"""

from experiments.config import changed
from experiments.consolidation.runs import ARMS as CONSOLIDATION
from experiments.consolidation.runs import REFERENCE, REWARDS
from experiments.sessions.config import HORIZONS, DistillationConfig

DREAMED, LONGER = "session, dreamed states", "policy gradient, for longer"
LENGTHS = {f"trained-{length}": length for length in (2, 4, 8)}
"""Task -> keys of the chains that are learned in."""

_OF = CONSOLIDATION["jobworld"]
_TAUGHT = {
    REFERENCE: _OF[REFERENCE],
    DREAMED: _OF[DREAMED],
    REWARDS: changed(_OF[REWARDS], {"consolidation.num_nights": 12}),
    LONGER: _OF[REWARDS],
}

ARMS: dict[str, dict[str, DistillationConfig]] = {
    task: {
        arm: changed(
            config,
            {
                "name": f"horizon-{task}",
                "horizons": HORIZONS,
                "env.jobworld.chain_length": length,
                "env.jobworld.slack": length // 2,
            },
        )
        for arm, config in _TAUGHT.items()
    }
    for task, length in LENGTHS.items()
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
