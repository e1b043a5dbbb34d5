import importlib.util

import pytest

from tests.experiments.test_workers import behave


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray():
    with pytest.raises(ImportError, match=r"not installed .* pip install -r requirements-ray\.txt"):
        importlib.import_module("experiments.cluster")


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_each_task_ends_for_itself():
    pytest.importorskip("ray")
    from experiments.cluster import call_each

    told = []
    ended = {
        item: (outcome, error)
        for item, outcome, error in call_each(behave, ["dies", "fails", "returns"], tell=told.append)
    }
    assert ended["fails"] == (None, "KeyError: 'why'")
    assert ended["dies"][0] is None and ended["dies"][1].startswith("its task died (WorkerCrashedError: ")
    assert ended["returns"][0] is not None and ended["returns"][1] is None
    assert {"fails begins", "returns begins"} <= set(told)


def test_room_on_a_cluster():
    pytest.importorskip("ray")
    from experiments import cluster

    assert cluster._slots({"CPU": 4.0}) == (4, 0) and cluster._slots({"CPU": 8.0, "GPU": 2.0}) == (2, 2)
    with pytest.raises(ValueError, match="the Ray cluster has no CPU, and every run takes one"):
        cluster._slots({"GPU": 1.0})


def test_a_machine_without_the_folder_says_so(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from experiments import cluster

    monkeypatch.chdir(tmp_path)
    outcome, error = cluster._serve(behave, "returns", None, str(tmp_path / "away"))
    assert outcome is None and "cannot work in " in error and "a folder that all machines of the cluster have" in error
