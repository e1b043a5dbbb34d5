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
