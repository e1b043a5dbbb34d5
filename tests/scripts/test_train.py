import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from dreamer.io import Checkpoints, RunFolder
from experiments import PRESETS, resume, run_seeds
from experiments.config import from_dict
from scripts import train
from scripts.command import of_preset
from scripts.display import INTERPRETER
from tests import runs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cli(monkeypatch, capfd):
    """Returns main(*words) -> (exit code, standard output, standard error), with the preset `tiny`."""
    monkeypatch.setitem(PRESETS, "tiny", runs.config("gymnasium"))
    # The host experiment, compiled once for all tests.
    monkeypatch.setattr(train, "run_seeds", functools.partial(run_seeds, parts=runs.parts("gymnasium")))
    monkeypatch.setattr(train, "resume", functools.partial(resume, parts=runs.parts("gymnasium")))

    def main(*words):
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, words)])
        code = 0
        try:
            train.main()
        except SystemExit as stop:
            code = stop.code
        return code, *capfd.readouterr()

    return main


def run_folders(text):
    return re.findall(r"run folder +(\S+)", text)


def test_a_run_from_the_command_line(cli, tmp_path):
    folder = tmp_path / ("a-rather-long-name-of-a-folder" * 4)
    code, out, err = cli("tiny", "--run.folder", folder)
    assert (code, err) == (0, "")
    assert run_folders(out) == [str(folder)]  # not wrapped
    assert (folder / "figures" / "learning_curve.png").stat().st_size > 10_000
    table = out[out.index("What was learned") : out.index("Returns are means")].splitlines()
    assert max(map(len, table)) <= 80
    cells = [line.split("  ") for line in map(str.strip, table)]
    cells = {words[0]: words[-1].strip() for words in cells if len(words) > 1}
    done = runs.finished("gymnasium")
    spread = f"{done.student.mean():.2f} ({done.student.min():.4g} to {done.student.max():.4g})"
    assert cells["deployed student (no search)"] == spread
    assert cells["planner (with search)"].startswith(f"{done.planner.mean():.2f} (")
    assert (cells["real transitions"], cells["synthetic updates per transition"]) == ("48", "2")
    assert re.fullmatch(r"\d+ s", cells["wall time"])
    assert "…" not in out
    progress = [line for line in out.splitlines() if line.startswith("tiny: real")]
    assert [line.split()[2] for line in progress] == ["24/48", "48/48"]
    assert re.search(r"updates 12  searched 192  deployed return \d+\.\d  \d+ s left$", progress[0])


def test_the_control_is_drawn_beside_it(cli, tmp_path, monkeypatch):
    def same_again(config):  # a real control would be compiled for itself
        return runs.in_folder(config, config.run.folder + "-control")

    monkeypatch.setattr(train, "without_dreams", same_again)
    code, out, err = cli("tiny", "--control", "--run.folder", tmp_path / "run")
    assert (code, err) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run-control"}
    assert re.search(r"dreaming +no dreams *\n +seed 0 +seed 0 *\n", out)
    assert re.search(r"real transitions +48 +48 *\n", out)


def test_an_existing_folder(cli, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    code, out, err = cli("tiny", "--run.folder", tmp_path)
    assert code == 1
    assert err.startswith(f"error: The run folder {tmp_path} already holds something. Pass another --run.folder")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cartpol"], "error: unknown preset 'cartpol'; did you mean: cartpole, cartpole-jax"),
        (["tiny", "--loop.dream-ration", "3"], "--loop.dream-ratio INT"),
        (["tiny", "--env.num-envs", "0"], "num_envs is 0"),
        (["tiny", "--loop.actor", "me"], "loop.actor is 'me': give one of planner, student"),
        (["tiny", "--replay.capacity", "4"], "replay holds 2 a copy: raise replay.capacity to 8 or more"),
        (["tiny", "--seed", "x"], "Error parsing --seed"),
        (["tiny", "--resume", "nowhere"], "There is no run folder nowhere"),
        (["tiny", "--resume", "nowhere", "--seed", "1"], "leave out --control and all other fields"),
        (["tiny", "--resume", "nowhere", "--control"], "leave out --control and all other fields"),
        (["--seed", "1"], "error: name a preset first, then options: one of cartpole, "),
        ([], "Expected one of {cartpole"),
    ],
)
def test_bad_input_is_one_clear_error(cli, words, message):
    code, out, err = cli(*words)
    assert code in (1, 2)
    assert message in " ".join(err.replace("│", " ").split()).replace("{ ", "{")
    assert out.startswith("nowhere: compiling") or out == ""
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--search.num-considered", "3"], "search.num_considered is 3, but the environment has 2 actions"),
        (["--env.id", "Blackjack-v1"], "error: Blackjack-v1 has observations Tuple(Discrete(32), Discrete(11)"),
        (["--env.id", "CartPol-v1"], "unknown gymnasium environment 'CartPol-v1'; did you mean: CartPole-v1"),
        (["--env.kwargs", "colour", "3"], "kwargs {'colour': 3} do not fit CartPole-v1"),
        (["--run.folder", f"{__file__}/run"], "cannot be written"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(cli, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "run_seeds", run_seeds)
    code, _, err = cli("tiny", *words)
    assert code == 1
    assert message in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_tells_how_to_go_on(cli, monkeypatch, tmp_path):
    folder = tmp_path / "run"
    with runs.interrupt(monkeypatch, Checkpoints, "save", call=1, done=False):
        code, _, err = cli("tiny", "--run.folder", folder)
    assert code == 130
    assert err == (
        f"interrupted; all facts are on disk. To go on: {INTERPRETER} -m scripts.train tiny --resume {folder}\n"
    )
    *_, preset, flag, where = err.split()
    code, out, err = cli(preset, flag, where)
    assert (code, err) == (0, "")
    assert runs.rows(folder) == runs.rows(runs.finished("gymnasium").folder)
    damaged = max((folder / "checkpoints").glob("day-*")) / "about.json"
    damaged.write_text("{}")
    (folder / "deployed.safetensors").unlink()
    code, out, err = cli(preset, flag, where)
    assert (code, err) == (0, "")
    assert f"note: The checkpoint {damaged.parent} cannot be read" in out
    assert runs.rows(folder) == runs.rows(runs.finished("gymnasium").folder)


def test_an_error_on_the_way_tells_how_to_go_on(cli, monkeypatch, tmp_path):
    folder = tmp_path / "run"

    def full(self, *args, **kwargs):
        raise OSError("[Errno 28] no space left on [device]")  # brackets are not markup

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", full)
        code, _, err = cli("tiny", "--run.folder", folder)
    assert code == 1
    how, error = err.splitlines()
    command = f"{INTERPRETER} -m scripts.train tiny --resume {folder}"
    assert how == f"stopped by an error; all facts are on disk. To go on: {command}"
    assert error == "error: [Errno 28] no space left on [device]"
    assert cli("tiny", "--resume", folder)[0] == 0


def test_a_loss_that_is_not_finite(cli, monkeypatch, tmp_path):
    wired = runs.parts("gymnasium")

    def ruined(state, num_updates, *, store, live_on):
        params = jax.tree.map(lambda leaf: leaf * float("inf"), state.learner.params)
        state = state.replace(learner=state.learner.replace(params=params))
        return wired.step(state, num_updates, store=store, live_on=live_on)

    monkeypatch.setattr(train, "run_seeds", functools.partial(run_seeds, parts=wired._replace(step=ruined)))
    code, _, err = cli("tiny", "--run.folder", tmp_path / "run")
    assert code == 1
    assert err.startswith(f"error: night 1 of {tmp_path / 'run'} made ")
    assert "Try a smaller --update.learning-rate" in err
    assert len(err.splitlines()) == 1


def test_a_folder_of_another_preset(cli, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs.finished("gymnasium").folder, folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"preset": ""', '"preset": "catch"'))
    code, _, err = cli("tiny", "--resume", folder)
    assert (code, err) == (1, f"error: {folder} was begun from the preset catch, not from tiny: go on with catch\n")


def test_a_new_process_goes_on_where_this_one_was_interrupted(monkeypatch, tmp_path):
    folder = tmp_path / "run"
    with runs.interrupt(monkeypatch, Checkpoints, "save", call=0, done=True), pytest.raises(KeyboardInterrupt):
        runs.start("gymnax", folder)
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    command = [sys.executable, "-m", "scripts.train", "cartpole-jax", "--resume", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert run_folders(done.stdout) == [str(folder)]
    config = from_dict(RunFolder.open(folder).config)
    assert config == runs.config("gymnax", folder)
    again = shutil.copytree(folder, tmp_path / "again")
    runs.assert_same_run("gymnax", resume(again, parts=runs.parts("gymnax")), runs.finished("gymnax"))


def test_help_explains_every_field(cli):
    code, out, _ = cli("tiny", "--help")
    assert code == 0
    words = " ".join(out.replace("│", " ").split())
    assert "--env.kwargs size 10" in words
    assert "Rows trained on for each real transition" in words
    assert "--control, --no-control" in words
    code, out, _ = cli("--help")
    assert code == 0
    assert "minatar-100k" in out


def test_constructor_arguments_from_the_command_line():
    words = ["deep-sea", "--env.kwargs", "size", "10", "mapping", "x", "--seed", "3"]
    preset, parsed = of_preset(train.Train, words, program="train")
    assert preset == "deep-sea"
    assert parsed.config.env.kwargs == (("size", 10), ("mapping", "x"))
    assert parsed.config.seed == 3
