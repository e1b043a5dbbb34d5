import dataclasses

import pytest
import yaml

from experiments.fields import changed
from experiments.presets import PRESETS
from experiments.sample_efficiency.runs import SPACE
from experiments.sessions.config import DistillationConfig
from experiments.sessions.pretraining_config import PretrainingConfig
from experiments.space import Range, Space, flags
from experiments.wandb_file import wandb_file

BASE = PRESETS["cartpole-jax"]


def test_fields_are_changed_by_path():
    made = changed(BASE, {"seed": 3, "update.learning_rate": 0.5, "loop.batch_size": 8, "loop.dream_ratio": 16})
    assert (made.seed, made.update.learning_rate, made.loop.batch_size, made.loop.dream_ratio) == (3, 0.5, 8, 16)
    assert changed(made, {"seed": 0, "update": BASE.update, "loop": BASE.loop}) == BASE
    assert changed(BASE, {}) == BASE


@pytest.mark.parametrize("config", [*PRESETS.values(), PretrainingConfig(), DistillationConfig()])
def test_each_field_may_be_what_it_is(config):
    def paths(part, above=""):
        for field in dataclasses.fields(part):
            value, path = getattr(part, field.name), f"{above}{field.name}"
            yield from paths(value, f"{path}.") if dataclasses.is_dataclass(value) else [(path, value)]

    for path, value in paths(config):
        assert changed(config, {path: value}) == config, path
    if hasattr(config, "search"):
        by_count = {"search.num_considered": "by_count", "search.num_simulations": "by_count"}
        assert changed(config, by_count).search.num_considered == "by_count"
        with pytest.raises(ValueError, match="search.num_simulations is 'many': give"):
            changed(config, {"search.num_simulations": "many"})


def test_a_space_is_named_by_all_that_is_searched():
    fields = {"loop.batch_size": (8, 16), "update.learning_rate": Range(1e-4, 1e-2, log=True)}
    space = Space(BASE, fields)
    assert space.hash() == Space(changed(BASE, {"seed": 5}), dict(reversed(fields.items()))).hash()
    others = [
        Space(changed(BASE, {"loop.dream_ratio": 16}), fields),
        Space(BASE, fields | {"loop.dream_ratio": (16, 32)}),
        Space(BASE, fields | {"loop.batch_size": (8, 32)}),
        Space(BASE, fields | {"update.learning_rate": Range(1e-4, 1e-2)}),
        Space(BASE, fields | {"update.learning_rate": (1e-4, 1e-2)}),
    ]
    assert len({space.hash(), *(other.hash() for other in others)}) == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space(BASE, {"update.rate": (1,)}), "no field 'rate' in UpdateConfig: choose from .*learning_rate"),
        (lambda: Space(BASE, {"seed.x": (1,)}), "no field 'x' in int"),
        (lambda: Space(BASE, {"loop.batch_size": ("8",)}), "loop.batch_size is '8': give int"),
        (lambda: Space(BASE, {"loop.batch_size": (8.0,)}), "loop.batch_size is 8.0: give int"),
        (lambda: Space(BASE, {"targets.gamma": (True,)}), "targets.gamma is True: give float"),
        (lambda: Space(BASE, {"env.kwargs": ({"size": 10},)}), "env.kwargs is .*: give tuple"),
        (lambda: Space(BASE, {"env.max_steps": ("none",)}), r"env.max_steps is 'none': give int \| None"),
        (lambda: Space(BASE, {"loop.batch_size": (8, 0)}), "loop.batch_size is 0: give 1 or more"),
        (lambda: Space(BASE, {"loop.batch_size": Range(0, 8)}), "loop.batch_size is 0: give 1 or more"),
        (lambda: Space(BASE, {"loop.batch_size": ()}), "has no values for loop.batch_size"),
        (lambda: Range(2, 1), "give low < high"),
        (lambda: Range(0, 1, log=True), "low > 0 where log"),
        (
            lambda: wandb_file(Space(BASE, {"targets.clip_rewards": (True, False)}), seeds=range(1)),
            "W&B cannot put these choices on a command line, as for targets.clip_rewards",
        ),
        (
            lambda: wandb_file(Space(BASE, {"loop.batch_size": Range(8, 64, log=True)}), seeds=range(1)),
            "W&B has no logarithmic range of whole numbers, as for loop.batch_size",
        ),
    ],
)
def test_what_cannot_be_searched(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_words_of_a_config_by_hand():
    assert flags(BASE) == ["cartpole-jax"]
    made = changed(
        BASE, {"name": "x", "update.learning_rate": 0.5, "targets.clip_rewards": True, "run.wandb": "online"}
    )
    assert flags(made) == [
        "cartpole-jax", "--name", "x", "--targets.clip-rewards", "--update.learning-rate", "0.5",
    ]  # fmt: skip
    named = changed(BASE, {"env.kwargs": (("size", 10), ("flag", True)), "env.max_steps": 9})
    words = flags(named)
    assert words == ["cartpole-jax", "--env.max-steps", "9", "--env.kwargs", "size", "10", "flag", "True"]
    back = changed(PRESETS["atari-smoke"], {"targets.clip_rewards": False})
    assert flags(back) == ["atari-smoke", "--targets.no-clip-rewards"]


def test_a_sweep_file_by_hand():
    space = Space(BASE, {"loop.batch_size": Range(8, 64), "fit.value_weight": Range(0.1, 1.0), **SPACE.fields})
    sweep = yaml.safe_load(wandb_file(space, seeds=range(3)))
    assert sweep["metric"] == {"name": "student_return", "goal": "maximize"}
    assert sweep["command"][:5] == ["${env}", "${interpreter}", "-m", "scripts.train", "cartpole-jax"]
    assert sweep["parameters"] == {
        "loop.batch_size": {"distribution": "int_uniform", "min": 8, "max": 64},
        "fit.value_weight": {"distribution": "uniform", "min": 0.1, "max": 1.0},
        "update.learning_rate": {"distribution": "log_uniform_values", "min": 3e-4, "max": 1e-2},
        "loop.dream_ratio": {"values": [16, 32, 64]},
        "targets.td_steps": {"values": [10, 20, 30]},
        "seed": {"values": [0, 1, 2]},
    }
