"""The log: JSON whatever the metrics, cut where a run resumes, readable after a crash."""

import json
import math
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core.types import Meters
from dreamer.io import Log, LogError, read_log


def open_log(folder, resume_day=None, wandb_mode="disabled"):
    return Log(folder, wandb_mode=wandb_mode, project="test", config={"seed": 1}, resume_day=resume_day)


def write_days(log, first, last):
    for day in range(first, last):
        log.write(day, Meters(real=10 * day, updates=3 * day, seconds=0.5), {"loss": day / 3})


def test_rows_are_json_whatever_the_metrics(tmp_path):
    metrics = {
        "loss": jnp.float32(0.5),
        "half": jnp.bfloat16(1.5),
        "count": np.int64(7),
        "solved": np.True_,
        "note": "night",
        "nothing": None,
        "nan": float("nan"),
        "inf": jnp.array(-jnp.inf),
    }
    with open_log(tmp_path) as log:
        log.write(2, Meters(real=5, dreamed=6, seconds=1.25), metrics)
        text = (tmp_path / "log.jsonl").read_text()  # there before the log is closed

    def refuse(word):
        pytest.fail(f"{word} is not JSON")

    row = json.loads(text, parse_constant=refuse)
    assert row == {
        "day": 2,
        "real": 5,
        "replayed": 0,
        "dreamed": 6,
        "searched": 0,
        "updates": 0,
        "seconds": 1.25,
        "loss": 0.5,
        "half": 1.5,
        "count": 7,
        "solved": True,
        "note": "night",
        "nothing": None,
        "nan": None,
        "inf": None,
    }
    assert read_log(tmp_path / "log.jsonl") == [row]


def test_metrics_that_are_no_scalars_or_take_a_column_are_refused(tmp_path):
    with open_log(tmp_path) as log:
        with pytest.raises(LogError, match=r"Metric 'loss' is no scalar but float32\[3\]"):
            log.write(0, Meters(), {"loss": jnp.zeros(3)})
        with pytest.raises(LogError, match="Metric 'real' has the name of a column"):
            log.write(0, Meters(), {"real": 1})
    assert read_log(tmp_path / "log.jsonl") == []


def test_resumed_log_equals_the_uninterrupted_one(tmp_path):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    with open_log(tmp_path / "whole") as log:
        write_days(log, 0, 6)
    with open_log(tmp_path / "cut") as log:
        write_days(log, 0, 5)
    path = tmp_path / "cut" / "log.jsonl"
    with path.open("a") as file:
        file.write('{"day": 5, "rea')
    with open_log(tmp_path / "cut", resume_day=2) as log:
        assert [row["day"] for row in read_log(path)] == [0, 1, 2]
        write_days(log, 3, 6)
    assert path.read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


def test_resume_without_a_log_begins_one(tmp_path):
    with open_log(tmp_path, resume_day=4) as log:
        write_days(log, 5, 6)
    assert [row["day"] for row in read_log(tmp_path / "log.jsonl")] == [5]


def test_new_run_never_writes_into_an_old_log(tmp_path):
    open_log(tmp_path).close()
    with pytest.raises(LogError, match="already exists"):
        open_log(tmp_path)


def test_unwritable_folder_and_unknown_mode(tmp_path):
    with pytest.raises(LogError, match=r"cannot be written .* --run.folder"):
        open_log(tmp_path / "missing")
    with pytest.raises(LogError, match="run.wandb is 'on'; pick"):
        open_log(tmp_path, wandb_mode="on")


def test_read_leaves_out_a_torn_last_line_only(tmp_path):
    path = tmp_path / "log.jsonl"
    with open_log(tmp_path) as log:
        write_days(log, 0, 3)
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert [row["day"] for row in read_log(path)] == [0, 1]
    lines = whole.split(b"\n")
    for bad in (b"", b"{", b"[]", b'{"loss": 1}'):
        path.write_bytes(b"\n".join([lines[0], bad, *lines[2:]]))
        with pytest.raises(LogError, match=r"log.jsonl, line 2: not a row"):
            read_log(path)
    with pytest.raises(LogError, match="cannot be read"):
        read_log(tmp_path / "missing.jsonl")


def test_disabled_does_not_import_wandb(tmp_path):
    code = (
        "import sys; from dreamer.io import Log\n"
        f"Log({str(tmp_path)!r}, wandb_mode='disabled', project='p', config={{}}).close()\n"
        "assert 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_wandb_offline_gets_the_same_rows(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    sent, send = [], wandb.Run.log

    def watch(self, row, step):
        sent.append((step, row))
        send(self, row, step=step)

    monkeypatch.setattr(wandb.Run, "log", watch)
    with open_log(tmp_path, wandb_mode="offline") as log:
        write_days(log, 0, 2)
        log.write(2, Meters(), {"loss": math.nan})
    rows = read_log(tmp_path / "log.jsonl")
    assert [step for step, _ in sent] == [0, 1, 2]
    assert [row for _, row in sent[:2]] == rows[:2]
    assert sent[2][1] == {name: value for name, value in rows[2].items() if name != "loss"}
    assert list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))


def test_runs_side_by_side_are_runs_of_their_own_at_wandb(tmp_path):
    pytest.importorskip("wandb")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    one, two = (open_log(folder, wandb_mode="offline") for folder in folders)
    write_days(one, 0, 2)
    one.close()
    write_days(two, 0, 2)
    two.close()
    ids = [(folder / "wandb_id.txt").read_text() for folder in folders]
    assert ids[0] != ids[1]
    for folder, run_id in zip(folders, ids, strict=True):
        assert list(folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"))


def test_an_agent_of_a_wandb_sweep_names_the_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_RUN_ID", "named0by0it")
    for sweep, is_named in ((None, False), ("a-sweep", True)):
        if sweep:
            monkeypatch.setenv("WANDB_SWEEP_ID", sweep)
        folder = tmp_path / str(sweep)
        folder.mkdir()
        open_log(folder, wandb_mode="offline").close()
        assert ((folder / "wandb_id.txt").read_text() == "named0by0it") == is_named


def test_wandb_that_does_not_start_names_the_way_out(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")

    def fail(**_):
        raise wandb.errors.UsageError("no API key configured")

    monkeypatch.setattr(wandb, "init", fail)
    with pytest.raises(LogError, match=r"no API key configured.*--run.wandb disabled"):
        open_log(tmp_path, wandb_mode="online")
    assert not (tmp_path / "log.jsonl").exists()
