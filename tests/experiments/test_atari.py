import imageio.v3 as iio
import jax
import numpy as np
import pytest

from dreamer.io import FactLog
from dreamer.wake.envs import AtariConfig, EnvConfig
from experiments import resume, run
from experiments.build import build
from experiments.config import EvaluationConfig
from experiments.evaluate import evaluate, film
from tests import runs

# So many frames a decision that an agent which knows nothing loses several lives in the six days.
GAME = AtariConfig(frame_skip=24, size=16, grey=True)


@pytest.fixture(scope="module")
def wired():
    pytest.importorskip("ale_py")
    env = EnvConfig("ALE/Breakout-v5", "atari", num_envs=2, max_steps=30, frame_stack=2, atari=GAME)
    parts = build(runs.config(env=env, evaluation=EvaluationConfig(episodes=1, every=48)))
    yield parts
    parts.close()


def test_an_interrupted_game_goes_on_with_new_ones(monkeypatch, tmp_path, wired):
    folder = tmp_path / "run"
    config = runs.in_folder(wired.config, folder)
    with runs.interrupt(monkeypatch, FactLog, "append", call=4, done=True), pytest.raises(KeyboardInterrupt):
        run(config, parts=wired)
    lived = runs.facts(folder)
    assert sum(day.terminated.sum() for _, _, day in lived) > 0  # lives were lost, and no game
    result = resume(folder, parts=wired)
    assert len(result.messages) == 1
    assert "ALE/Breakout-v5 could not be brought back" in result.messages[0]
    assert (result.meters.real, len(result.student)) == (48, 1)
    stored = runs.facts(folder)
    assert [continues for _, continues, _ in stored] == [True] * len(lived) + [False] * (6 - len(lived))
    for left, right in zip(lived, stored, strict=False):
        jax.tree.map(np.testing.assert_array_equal, left, right)
    first = stored[len(lived)][2].obs[0]  # [E, H, W, F]: new games, whose stacks hold one frame twice
    np.testing.assert_array_equal(first[..., 0], first[..., 1])
    assert evaluate(folder, num_episodes=2).shape == (2,)
    path, _ = film(folder, tmp_path / "game.gif")
    assert iio.improps(path).shape[1:] == (32, 32, 3)
