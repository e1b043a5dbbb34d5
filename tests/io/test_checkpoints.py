"""Checkpoints: bit for bit back, never a bad one over a good one, and a fall back when the newest is damaged."""

import logging
import threading

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core.trees import digest
from dreamer.io import CheckpointError, Checkpoints, require_finite


@flax.struct.dataclass
class State:
    params: dict
    key: jax.Array
    memory: tuple
    count: np.ndarray


def make_tree(seed=0):
    key = jax.random.key(seed)
    params = {
        "w": jax.random.normal(key, (3, 2)),
        "half": jnp.full((2,), 1.5, jnp.bfloat16),
        "none": jnp.zeros((0, 3)),
        "flag": jnp.array([True, False]),
        "steps": jnp.array(7, jnp.int32),
        "frozen": None,
    }
    return State(params, jax.random.split(key, 2), (), np.array([2**40 + seed]))


def files_of(path):
    return sorted(file for file in path.rglob("*") if file.is_file())


def test_everything_comes_back_bit_for_bit(tmp_path):
    tree, counters = make_tree(), {"real": 12, "seconds": 0.1, "names": ["a"]}
    Checkpoints(tmp_path).save(3, tree, counters)
    day, restored, read, messages = Checkpoints(tmp_path).restore(make_tree(1))
    assert (day, read, messages) == (3, counters, [])
    assert digest(restored) == digest(tree)
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    assert isinstance(restored.count, np.ndarray) and isinstance(restored.params["w"], jax.Array)
    assert restored.key.dtype == tree.key.dtype
    assert jax.random.uniform(restored.key[1]) == jax.random.uniform(tree.key[1])


def test_restores_into_an_abstract_tree(tmp_path):
    tree = {"w": jnp.arange(3.0), "key": jax.random.key(5), "none": jnp.zeros((0,))}
    Checkpoints(tmp_path).save(0, tree, {})
    restored = Checkpoints(tmp_path).restore(jax.eval_shape(lambda: tree)).tree
    assert digest(restored) == digest(tree)


def test_an_empty_tree_is_a_checkpoint_too(tmp_path):
    Checkpoints(tmp_path).save(0, (), {"real": 1})
    assert Checkpoints(tmp_path).restore(()) == (0, (), {"real": 1}, [])


def test_keeps_the_newest_and_forgets_days_that_are_lived_again(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for day in (0, 4, 9):
        checkpoints.save(day, make_tree(day), {})
    assert checkpoints.days == [4, 9]
    assert checkpoints.restore(make_tree()).tree.count == 2**40 + 9
    assert checkpoints.restore(make_tree(), day=4).tree.count == 2**40 + 4
    checkpoints.save(6, make_tree(66), {})
    assert checkpoints.days == [4, 6]
    checkpoints.save(6, make_tree(67), {})
    assert checkpoints.days == [4, 6]
    assert checkpoints.restore(make_tree()).tree.count == 2**40 + 67
    assert sorted(path.name for path in tmp_path.iterdir()) == ["day-00000004", "day-00000006"]


def test_not_finite_never_replaces_a_good_one(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, make_tree(), {})
    before = {file: file.read_bytes() for file in files_of(tmp_path)}
    for bad in (jnp.nan, jnp.inf):
        tree = make_tree()
        tree.params["half"] = jnp.array([1.0, bad], jnp.bfloat16)
        with pytest.raises(CheckpointError, match=r"Leaf \.params\['half'\] is not finite"):
            checkpoints.save(1, tree, {})
    assert {file: file.read_bytes() for file in files_of(tmp_path)} == before
    with pytest.raises(CheckpointError, match=r"Leaf \['b'\]"):
        require_finite({"a": jnp.ones(2), "b": np.array([np.nan])})
    require_finite(make_tree())


def test_what_cannot_be_saved_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match=r"Leaf \['n'\] is a int, no array"):
        checkpoints.save(0, {"n": 3}, {})
    for counters in ({"x": float("nan")}, {"x": jnp.ones(2)}):
        with pytest.raises(CheckpointError, match="counters of day 0 are not plain finite JSON"):
            checkpoints.save(0, make_tree(), counters)
    assert checkpoints.days == []
    with pytest.raises(CheckpointError, match="keep is 1"):
        Checkpoints(tmp_path, keep=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot be written .* --run.folder"):
        Checkpoints(tmp_path / "file" / "checkpoints")


def test_foreign_checkpoint_names_the_first_leaf_that_differs(tmp_path):
    saved = {"a": jnp.zeros(2), "b": jnp.zeros((2, 3))}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, saved, {})
    for like, words in (
        (saved | {"b": jnp.zeros((2, 4))}, r"it has \['b'\] float32\[2, 3\] where \['b'\] float32\[2, 4\] is"),
        (saved | {"a": jnp.zeros(2, jnp.int32)}, r"it has \['a'\] float32\[2\] where \['a'\] int32\[2\] is"),
        ({"a": jnp.zeros(2)}, r"it has \['b'\] float32\[2, 3\] where nothing is"),
        (saved | {"c": jnp.zeros(())}, r"it has nothing where \['c'\] float32\[\] is"),
    ):
        with pytest.raises(CheckpointError, match=r"belongs to another configuration: " + words):
            checkpoints.restore(like)


def test_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="does not hold a checkpoint"):
        checkpoints.restore(make_tree())
    checkpoints.save(2, make_tree(), {})
    with pytest.raises(CheckpointError, match=r"does not hold a checkpoint of day 1; it has those of days \[2\]"):
        checkpoints.restore(make_tree(), day=1)


def damage(file, how):
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        file.write_bytes(b"")
    else:
        file.write_bytes(bytes(255 - byte for byte in content))


@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "garbled"])
def test_damage_to_any_file_falls_back(tmp_path, how):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, make_tree(0), {"day": 0})
    newest = checkpoints.save(1, make_tree(1), {"day": 1})
    for file in files_of(newest):
        content = file.read_bytes()
        damage(file, how)
        day, tree, counters, messages = checkpoints.restore(make_tree())
        assert (day, counters, digest(tree)) == (0, {"day": 0}, digest(make_tree(0)))
        assert len(messages) == 1 and f"{newest} cannot be read" in messages[0] and file.name in messages[0]
        file.write_bytes(content)
    assert checkpoints.restore(make_tree()).messages == []


def test_none_whole_lists_why(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for day in (0, 1):
        (checkpoints.save(day, make_tree(), {}) / "about.json").write_text("x")
    (tmp_path / "day-00000002").mkdir()
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* can be read(.|\n)*day-00000001(.|\n)*day-00000000"):
        checkpoints.restore(make_tree())


def test_counters_are_covered_by_the_digest(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, make_tree(), {"real": 1})
    about = checkpoints.save(1, make_tree(), {"real": 12}) / "about.json"
    about.write_text(about.read_text().replace('"real": 12', '"real": 13'))
    day, _, counters, messages = checkpoints.restore(make_tree())
    assert (day, counters) == (0, {"real": 1}) and "its digest is wrong" in messages[0]


def test_an_interrupted_save_leaves_the_old_ones(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, make_tree(), {})
    (tmp_path / "unfinished" / "arrays").mkdir(parents=True)
    (tmp_path / "unfinished" / "about.json").write_text("{")
    assert checkpoints.days == [0] and checkpoints.restore(make_tree()).day == 0
    checkpoints.save(1, make_tree(), {})
    assert not (tmp_path / "unfinished").exists()


def test_saving_is_quiet_and_leaves_no_thread(tmp_path, capfd, caplog):
    tree = make_tree()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, tree, {})
    threads = set(threading.enumerate())
    with caplog.at_level(logging.DEBUG):
        checkpoints.save(1, tree, {})
        checkpoints.restore(tree)
    assert set(threading.enumerate()) <= threads
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name == "absl"] == []
