import sys

import pytest

from experiments import PRESETS
from experiments.fields import changed
from scripts import bench
from scripts.command import of_preset


def test_sizes_are_those_of_a_preset_as_changed():
    words = ["minatar-100k", "--num-seeds", "1", "--loop.batch-size", "64"]
    preset, asked = of_preset(bench.Bench, words, program="bench")
    assert (preset, asked.num_seeds, asked.repeats) == ("minatar-100k", 1, 7)
    assert asked.config == changed(PRESETS["minatar-100k"], {"loop.batch_size": 64})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-seeds", "1"], "name a preset first, then options: one of cartpole, "),
        (["nix"], "unknown preset 'nix'; choose one of: "),
        (["cartpole", "--repeats", "0"], "repeats is 0: give 1 or more"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(monkeypatch, capfd, words, message):
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    with pytest.raises(SystemExit) as end:
        bench.main()
    out, err = capfd.readouterr()
    assert end.value.code == 1 and out == ""
    assert f"error: {message}" in err and len(err.splitlines()) <= 3
