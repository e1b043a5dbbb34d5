"""One run on one device, on eight that are made of the CPU, and in two processes: equal but for rounding."""

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from dreamer.core import mesh
from dreamer.io import FactLog, RunFolder, read_log
from experiments import resume
from experiments.build import build
from experiments.parallel import devices_for
from tests import hosts, runs, tiny

ROOT = Path(__file__).parents[2]
FLAGS = " ".join(f"--{name}={value}".lower() for name, value in tiny.QUICK.items())
TIMEOUT = 900  # seconds a process may take on a machine that is busy with others


def launch(*words, num_devices=1):
    """Starts a process that has as many CPU devices."""
    env = os.environ | {
        "XLA_FLAGS": f"{FLAGS} --xla_force_host_platform_device_count={num_devices}",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_NUM_CPU_DEVICES": str(num_devices),
    }
    command = [sys.executable, "-m", "tests.hosts", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def require_success(*processes):
    try:
        errors = [process.communicate(timeout=TIMEOUT)[1] for process in processes]
    finally:  # one that waits for another which failed
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(errors)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{how it was made: the run folder}; the last parameters lie beside each."""
    root = tmp_path_factory.mktemp("hosts")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    require_success(launch(root / "one", 1), launch(root / "eight", 8, num_devices=8))
    require_success(*(launch(root / "two", 2, f"127.0.0.1:{port}", 2, number) for number in range(2)))
    return {name: root / name for name in ("one", "eight", "two")}


def params(folder, process_id=0):
    with np.load(f"{folder}-{process_id}.npz") as arrays:
        return [arrays[name] for name in arrays.files]


def assert_close(one, other):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), one, other)


@pytest.mark.timeout(4 * TIMEOUT)
@pytest.mark.parametrize("name", ["eight", "two"])
def test_losses_targets_and_lives_are_those_of_one_device(folders, name):
    mine, its = (read_log(folders[which] / "log.jsonl") for which in (name, "one"))
    assert its[-1]["updates"] == 20
    assert {"loss", "value_target", "policy_loss", "student_return"} <= its[-1].keys()
    for left, right in zip(mine, its, strict=True):
        assert_close({**left, "seconds": 0.0}, {**right, "seconds": 0.0})
    for left, right in zip(runs.facts(folders[name]), runs.facts(folders["one"]), strict=True):
        assert_close(left, right)
    assert_close(params(folders[name]), params(folders["one"]))


def test_both_processes_end_with_the_same_parameters(folders):
    for left, right in zip(params(folders["two"]), params(folders["two"], 1), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_run_of_several_processes_goes_on_in_one(folders):
    folder = RunFolder.open(folders["two"])
    assert len(FactLog.open(folder.facts).days) == 4
    result = resume(folder.path)
    assert result.meters.updates == 20
    assert_close(float(result.student.mean()), read_log(folder.log)[-1]["student_return"])


def test_a_program_for_one_device_knows_of_no_other():
    parts = build(hosts.config())
    assert "sharding" not in parts.step.program.lower(parts.init(), 1, True, True).as_text()


@pytest.mark.parametrize(
    ("changes", "on_device", "message"),
    [
        (dict(loop=dict(batch_size=7)), True, "loop.batch_size is 7"),
        ({}, True, "env.num_envs is 2"),
        (dict(targets=dict(research_fraction=0.1)), False, "number of states searched again, .* is 3"),
        (dict(imagine=dict(real_share=0.6)), False, "number of imagined rows, .* is 3"),
        (dict(imagine=dict(real_share=0.5), targets=dict(research_fraction=0.75)), False, "imagine.real_share .* is 9"),
        ({}, False, None),
    ],
)
def test_every_kind_of_row_is_looked_at(monkeypatch, changes, on_device, message):
    monkeypatch.setattr(mesh, "over", lambda num: mesh.ONE._replace(num=num))
    config = tiny.config(**changes)  # 8 rows, 2 copies, 4 sequences of 3 states searched again
    if message is None:
        assert devices_for(config, 4, on_device=on_device).num == 4
        return
    with pytest.raises(ValueError, match=message):
        devices_for(config, 4, on_device=on_device)
