import pytest

from experiments.config import changed
from experiments.presets import PRESETS
from experiments.space import Range, Space, flags

BASE = PRESETS["cartpole-jax"]


def test_fields_are_changed_by_path():
    made = changed(BASE, {"seed": 3, "update.learning_rate": 0.5, "loop.batch_size": 8, "loop.dream_ratio": 16})
    assert (made.seed, made.update.learning_rate, made.loop.batch_size, made.loop.dream_ratio) == (3, 0.5, 8, 16)
    assert changed(made, {"seed": 0, "update": BASE.update, "loop": BASE.loop}) == BASE
    assert changed(BASE, {}) == BASE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space(BASE, {"update.rate": (1,)}), "no field 'rate' in UpdateConfig: choose from .*learning_rate"),
        (lambda: Space(BASE, {"seed.x": (1,)}), "no field 'x' in int"),
        (lambda: Space(BASE, {"loop.batch_size": (8, 0)}), "loop.batch_size is 0: give 1 or more"),
        (lambda: Space(BASE, {"loop.batch_size": Range(0, 8)}), "loop.batch_size is 0: give 1 or more"),
        (lambda: Space(BASE, {"loop.batch_size": ()}), "has no values for loop.batch_size"),
        (lambda: Range(2, 1), "give low < high"),
        (lambda: Range(0, 1, log=True), "low > 0 where log"),
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
    back = changed(PRESETS["atari-smoke"], {"targets.clip_rewards": False})
    assert flags(back) == ["atari-smoke", "--targets.no-clip-rewards"]
