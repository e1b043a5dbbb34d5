import jax
import numpy as np
import pytest

from dreamer.core import mesh


def test_one_device_spreads_nothing():
    tree = {"a": np.ones(3)}
    for num_devices in (None, 1):
        devices = mesh.over(num_devices)
        assert devices is mesh.ONE
        assert devices.spread(tree) is tree and devices.whole(tree) is tree
        assert devices.jit is jax.jit
    assert mesh.writes()


@pytest.mark.parametrize("num_devices", [0, -1, jax.device_count() + 1])
def test_devices_that_are_not_there(num_devices):
    there = jax.device_count()
    with pytest.raises(ValueError, match=f"devices is {num_devices}, but there are {there} .*: give 1 to {there}"):
        mesh.over(num_devices)


def test_rows_that_cannot_be_shared():
    four = mesh.ONE._replace(num=4)
    four.require_shares({"loop.batch_size": 8, "env.num_envs": 0})
    with pytest.raises(ValueError, match="env.num_envs is 6, which 4 devices cannot share evenly: .* multiple of 4"):
        four.require_shares({"loop.batch_size": 8, "env.num_envs": 6})


def test_alone_without_a_coordinator(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    mesh.join(None, num_processes=None, process_id=None)
    with pytest.raises(ValueError, match="name process 0 by --coordinator host:port"):
        mesh.join(None, num_processes=2, process_id=None)


def test_numbers_from_the_environment(monkeypatch):
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args: asked.append(args))
    met = []
    monkeypatch.setattr(mesh.multihost_utils, "sync_global_devices", met.append)
    for name, value in (("COORDINATOR_ADDRESS", "host:1"), ("NUM_PROCESSES", "3"), ("PROCESS_ID", "2")):
        monkeypatch.setenv(f"JAX_{name}", value)
    mesh.join(None, num_processes=None, process_id=None)
    mesh.join("other:2", num_processes=4, process_id=0)
    assert asked == [("host:1", 3, 2), ("other:2", 4, 0)]
    assert len(met) == 2
    monkeypatch.setenv("JAX_PROCESS_ID", "two")
    with pytest.raises(ValueError, match="JAX_PROCESS_ID is 'two': give a whole number"):
        mesh.join(None, num_processes=None, process_id=None)
