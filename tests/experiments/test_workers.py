import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.workers import _share, call_each

ROOT = Path(__file__).parents[2]


def behave(item, tell):
    """What the workers of these tests do."""
    tell(f"{item} begins")
    match item:
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "fails":
            raise KeyError("why")
        case "sleeps":
            print(os.getpid(), flush=True)
            time.sleep(600)
        case "ends":
            os._exit(3)
    return sorted(os.sched_getaffinity(0)), signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_each_call_ends_for_itself():
    told, affinity = [], os.sched_getaffinity(0)
    num_processes = 2 * len(affinity)
    calls = call_each(behave, ["dies", "fails", "ends", "returns"], num_processes=num_processes, tell=told.append)
    ended = {item: (outcome, error) for item, outcome, error in calls}
    assert sorted(told) == ["dies begins", "ends begins", "fails begins", "returns begins"]
    cores, mask = ended.pop("returns")[0]
    assert len(cores) == 1 and mask == {signal.SIGINT}
    assert ended == {
        "dies": (None, "its process was killed by SIGKILL (by hand, or because memory ran out)"),
        "fails": (None, "KeyError: 'why'"),
        "ends": (None, "its process ended with exit code 3"),
    }
    assert os.sched_getaffinity(0) == affinity and not signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 3, 5, 7, 9})
    assert [_share(slot, 2) for slot in range(2)] == [{1, 5, 9}, {3, 7}]
    assert [_share(slot, 5) for slot in range(5)] == [{1}, {3}, {5}, {7}, {9}]
    assert [_share(slot, 7) for slot in (5, 6)] == [{1}, {3}]
    monkeypatch.delattr(os, "sched_getaffinity")
    assert _share(0, 2) is None


def test_nothing_to_do_and_nobody_to_do_it():
    assert list(call_each(behave, [], num_processes=3, tell=print)) == []
    with pytest.raises(ValueError, match="num_processes is 0: give 1 or more"):
        list(call_each(behave, ["returns"], num_processes=0, tell=print))


def test_no_worker_outlives_its_parent():
    code = (
        "from experiments.workers import call_each; from tests.experiments.test_workers import behave\n"
        "if __name__ == '__main__': list(call_each(behave, ['sleeps'], num_processes=1, tell=len))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)
        parent.kill()
        parent.stdout.read()  # comes to its end with the last process that could write to it
