"""The run folder: what it writes, what it refuses, and one writer at a time."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreamer.core.types import EnvSpec
from dreamer.io import RunFolder, RunFolderError
from dreamer.io.run_folder import config_hash, git_commit

SPEC = EnvSpec("CartPole-v1", "gymnasium", "1.3.0", (4,), "float32", 2)
CONFIG = {"env": {"id": "CartPole-v1"}, "seed": 3, "folder": "a", "rate": 1e-3}
IDENTITY = {"env": {"id": "CartPole-v1"}, "seed": 3, "rate": 1e-3}


def test_create_then_open_gives_everything_back(tmp_path):
    path = tmp_path / "runs" / "one"
    with RunFolder.create(path, CONFIG, SPEC, identity=IDENTITY) as made:
        opened = RunFolder.open(path)
        assert opened.about == made.about
    assert opened.config == CONFIG and opened.spec == SPEC
    assert opened.config_hash == config_hash(IDENTITY) and len(opened.config_hash) == 12
    assert {"python", "jax", "flax", "optax", "mctx", "gymnasium", "gymnax", "numpy"} <= opened.about["versions"].keys()
    assert opened.about["device"]["platform"] == "cpu" and opened.about["start_time"].endswith("+00:00")
    paths = [opened.facts, opened.checkpoints, opened.log, opened.deployed, opened.figures]
    assert len(set(paths)) == 5 and all(place.parent == path for place in paths)


def test_config_hash_depends_on_values_and_not_on_order():
    assert config_hash({"a": 1, "b": [2]}) == config_hash({"b": [2], "a": 1})
    assert config_hash({"a": 1, "b": [2]}) != config_hash({"a": 1, "b": [3]})
    # sha256 of the canonical text {"a":1,"b":[2]}, by coreutils
    assert config_hash({"a": 1, "b": [2]}) == "0855bfc20eb6"
    with pytest.raises(RunFolderError, match="not plain finite JSON"):
        config_hash({"a": float("nan")})


def test_create_refuses_a_folder_that_holds_something(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"already holds something. Pass another --run.folder, .*--resume"):
        RunFolder.create(tmp_path, CONFIG, SPEC)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_create_goes_on_where_an_earlier_one_died(tmp_path):
    (tmp_path / ".lock").write_text("12345\n")
    (tmp_path / "config.json.tmp").write_text('{"form')
    RunFolder.create(tmp_path, CONFIG, SPEC).close()
    assert RunFolder.open(tmp_path).config == CONFIG


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot be written .* --run.folder"):
        RunFolder.create(tmp_path / "file" / "run", CONFIG, SPEC)


def test_open_refuses_missing_and_foreign_folders(tmp_path):
    with pytest.raises(RunFolderError, match="There is no run folder"):
        RunFolder.open(tmp_path / "missing")
    for content in (None, "", "not json", "[]", '{"format": 1}', '{"format": 1, "spec": {}}', b"\xff\xfe"):
        if content is not None:
            (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(RunFolderError, match="is not a run folder"):
            RunFolder.open(tmp_path)


def test_open_refuses_another_format(tmp_path):
    RunFolder.create(tmp_path, CONFIG, SPEC).close()
    about = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(RunFolderError, match=r"has format 99, this version reads format 1"):
        RunFolder.open(tmp_path)


def test_one_writer_at_a_time(tmp_path):
    made = RunFolder.create(tmp_path, CONFIG, SPEC)
    with pytest.raises(RunFolderError, match=f"Process {os.getpid()} is writing"):
        RunFolder.open(tmp_path, write=True)
    RunFolder.open(tmp_path).close()  # readers may
    made.close()
    made.close()
    with RunFolder.open(tmp_path, write=True):
        pass
    held = RunFolder.open(tmp_path, write=True)
    del held  # as after an exception in the same process
    RunFolder.open(tmp_path, write=True).close()


def test_lock_of_a_killed_process_is_taken_over(tmp_path):
    RunFolder.create(tmp_path, CONFIG, SPEC).close()
    # No jax in the child: it holds the lock in the way `lock` does, and dies without letting go.
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'r+'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / ".lock"], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        with pytest.raises(RunFolderError, match="is writing the run folder"):
            RunFolder.open(tmp_path, write=True)
        child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            RunFolder.open(tmp_path, write=True).close()
            return
        except RunFolderError:
            time.sleep(0.05)
    pytest.fail("the lock outlived its process")


def test_git_commit_of_a_file(tmp_path, monkeypatch):
    def git(*arguments):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    file = tmp_path / "code.py"
    file.write_text("1\n")
    assert git_commit(file) == "unknown"
    git("init")
    assert git_commit(file) == "unknown"
    git("add", "code.py")
    git("commit", "-m", "one")
    commit = git_commit(file)
    assert len(commit) == 40 and not commit.endswith("dirty")
    (tmp_path / "untracked.txt").write_text("")
    assert git_commit(file) == commit
    assert git_commit(tmp_path / "untracked.txt") == "unknown"
    results = tmp_path / "experiments" / "question" / "results" / "task.csv"
    results.parent.mkdir(parents=True)
    results.write_text("row\n")
    git("add", str(results))
    assert git_commit(file) == commit  # what a run writes is not what it ran
    file.write_text("2\n")
    two = git_commit(file)
    assert re.fullmatch(f"{commit}-dirty-[0-9a-f]{{8}}", two)
    results.write_text("row\nrow\n")
    assert git_commit(file) == two
    file.write_text("3\n")
    assert git_commit(file) not in (commit, two)
    monkeypatch.setenv("PATH", str(Path(tmp_path, "empty")))
    assert git_commit(file) == "unknown"
