"""What is run: one session of a job, one night on its own states, and something that carries what it taught.

A window is what as many places of memory are worth unlearned, a table what as many states of the session are. The step
sizes of one low-rank change and one cartridge were chosen on two agents of another world before (docs/lab-notes.md);
that of `weights` and its updates are those of `consolidation`, and were not chosen here. In the task `fast-weights`
agents have such a memory in place of a cache, and keep it as the session left it. In `lake` a job is the map of a
frozen lake, of which a table knows only the cells that the session came to. In `larger` a job has twice the keys, and
its agents' sessions are twice as long, to load what carries it: 32 bits, for whoever does not know the numbering of
jobs, which are 2 ** 30.

In `coded` it is asked, too, how short a code tells what was learned; in `naps` the session is folded into a cartridge
first, as the carrier of that name learns it, and that teaches a low-rank change. In `decay` four jobs are lived one
after another, a session and a night each; one arm gives all weights as many updates as a low-rank change has.
"""

from dreamer.sleep.carriers import UNLEARNED
from experiments.config import RunConfig
from experiments.fields import changed
from experiments.sessions.config import DistillationConfig
from experiments.sessions.pretraining_config import RECIPES

_BASE = changed(
    DistillationConfig(name="compression", num_jobs=8, run=RunConfig(wandb="disabled")),
    {"consolidation.num_nights": 1, "consolidation.states": "session", "consolidation.states_length": 0},
)
_LEARNED = {
    "weights": (3e-4, 64),
    "lora": (1e-3, 256),
    "cartridge": (1e-2, 256),
    "window": (3e-4, 1),
    "table": (3e-4, 1),
}
"""Kind of carrier -> step size and updates; what is not learned is updated once, to no effect."""
PLAIN, ON_LAKE, LARGER = "jobworld", "lake", "larger"
SIZES = {
    PLAIN: {
        "weights": (0,),
        "lora": (1, 2, 4, 8, 16),
        "cartridge": (1, 2, 4, 8, 16),
        "window": (1, 2, 4, 8, 16, 32, 64),
        "table": (1, 2, 4, 8, 16),
    },
    ON_LAKE: {
        "weights": (0,),
        "lora": (1, 4),
        "cartridge": (1, 2, 4, 8),
        "window": (4, 16, 64),
        "table": (2, 4, 8, 16, 32),
    },
    LARGER: {
        "weights": (0,),
        "lora": (1, 4),
        "cartridge": (1, 2, 4, 8, 16),
        "window": (4, 16, 64, 128),
    },
}
"""Task -> kind of carrier -> its sizes; the largest window is the whole session."""


def arm(kind: str, size: int) -> str:
    """Returns the name of an arm."""
    return f"{kind} {size}" if size else kind


def _config(kind: str, size: int, base: DistillationConfig = _BASE) -> DistillationConfig:
    step, updates = _LEARNED[kind]
    learning = {"update.learning_rate": step, "consolidation.num_updates": updates}
    return changed(base, {"carrier.kind": kind, "carrier.size": size, **learning})


_BASES = {
    PLAIN: _BASE,
    ON_LAKE: changed(
        _BASE,
        {
            "name": "compression-lake",
            "env": RECIPES["lake"].env.with_jobs(pool="distillation", job=0),
            "agent": RECIPES["lake"],
        },
    ),
    LARGER: changed(
        _BASE,
        {
            "name": "compression-larger",
            "env.jobworld.num_keys": 16,
            "consolidation.session_length": 128,
            "agent.env.jobworld.num_keys": 16,
            "agent.session_length": 128,
            "agent.slot.num_slots": 128,
        },
    ),
}
_OF_SIZES = {
    task: {arm(kind, size): _config(kind, size, _BASES[task]) for kind, sizes in own.items() for size in sizes}
    for task, own in SIZES.items()
}
_ARMS = _OF_SIZES[PLAIN]
CODED, NAPS, DECAY, FAST = "coded", "naps", "decay", "fast-weights"
_THEN = arm("lora", 4)
_NAPS = {
    f"{arm('cartridge', size)}, then {_THEN}": changed(
        _ARMS[_THEN],
        {
            "nap.places": size,
            "nap.learning_rate": _LEARNED["cartridge"][0],
            "nap.num_updates": _LEARNED["cartridge"][1],
        },
    )
    for size in (1, 2, 4, 8)
}
_MORE = changed(_ARMS["weights"], {"consolidation.num_updates": _LEARNED["lora"][1]})
JOBS = 4
"""Jobs of the task `decay`, one after another."""
ARMS: dict[str, dict[str, DistillationConfig]] = {
    **_OF_SIZES,
    CODED: {
        name: changed(config, {"name": "compression-coded", "coded": True})
        for name, config in _ARMS.items()
        if config.carrier.kind not in UNLEARNED
    },
    NAPS: {name: changed(config, {"name": "compression-naps"}) for name, config in _NAPS.items()},
    DECAY: {
        name: changed(config, {"name": "compression-decay", "sequence": JOBS})
        for name, config in (_ARMS | _NAPS | {"weights, as many updates": _MORE}).items()
        if name in ("weights", "weights, as many updates", "lora 1", "lora 4", "lora 16", f"cartridge 4, then {_THEN}")
    },
    FAST: {
        "fast weights, 4 heads": changed(
            _config("window", 1), {"name": "compression-fast-weights", "agent.slot.memory": "fast_weights"}
        )
    },
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
