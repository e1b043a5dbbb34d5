"""Whole runs with a gate: who acts, what is kept of it, and how one goes back.

And with all that a night may have: an ensemble, dreams from halfway on, priorities, renewed networks.
"""

import dataclasses
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core import trees
from dreamer.io import Checkpoints, Versions
from dreamer.loop import days_and_nights
from dreamer.sleep.gate import DEPLOYED, GateConfig, reasons
from dreamer.sleep.imagine import ImagineConfig
from dreamer.wake import Deployed
from experiments import resume, run
from experiments.build import build
from experiments.drivers import sleeping
from experiments.evaluate import evaluate
from experiments.fields import changed
from experiments.recover import saved_state
from experiments.versions import lineage, put_in_force
from tests import runs
from world_models.ensemble import EnsembleConfig

GATE = GateConfig("both", horizon=3, standard_errors=4.0)


DREAMS = ImagineConfig(0.5, horizon=2, begin_after=20, policy_source="none", value_source="expansion", doubt_scale=1.0)


def config(suite="gymnax", folder=None):
    made = runs.config(suite, folder, gate=GATE, imagine=DREAMS, ensemble=EnsembleConfig(2))
    changes = {
        "loop.actor": "student",  # nothing is searched but by the planner that is measured: compiles in half the time
        "targets.research_fraction": 0.0,
        "targets.unsearched_policy": "action",
        "replay.priority_exponent": 0.5,
        "replay.importance_exponent": 1.0,
        "update.reset_every": 9,
    }
    return changed(made, changes)


@functools.cache
def parts(suite="gymnax"):
    return build(config(suite))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with a gate. Nothing may be written into its folder."""
    return run(config(folder=tmp_path_factory.mktemp("gate") / "run"), parts=parts())


def test_every_night_but_the_last_is_judged_and_who_passed_is_kept(finished):
    rows, versions = lineage(finished.folder), Versions(finished.folder / "versions")
    assert [(row["day"], row["version"]) for row in rows] == [(0, 0)] + [(day, day - 1) for day in range(2, 7)]
    parent = None
    for row in rows:
        assert row["parent"] == parent and (row["why"] == "") == row["deployed"] if row["day"] else row["deployed"]
        assert versions.path(row["version"]).exists() == row["deployed"]
        assert row["real"] == 8 * row["version"]
        if row["day"]:
            assert {"model_error", "model_error_deployed", "value_error", "dreamed_return", "entropy", "kl"} <= set(row)
        parent = row["version"] if row["deployed"] else parent
    assert versions.in_force == parent
    assert sum(row["deployed"] for row in rows) >= 2  # the second has learned something
    deployed = finished.folder / "deployed.safetensors"
    assert deployed.read_bytes() == versions.path(parent).read_bytes()
    assert Deployed.load(deployed).version == parent
    np.testing.assert_array_equal(evaluate(finished.folder), evaluate(finished.folder, version=parent))
    assert parts().step.program._cache_size() == 1


def life(result, suite):
    """What a run leaves behind: its last checkpoint, its log and its lineage."""
    wired = parts(suite)
    like = jax.eval_shape(lambda: saved_state(wired.init()))
    saved = Checkpoints(result.folder / "checkpoints").restore(like).tree
    return trees.digest(saved), runs.rows(result.folder), [{**row, "seconds": 0} for row in lineage(result.folder)]


def cut_and_resumed(monkeypatch, suite, folder, *, call):
    with runs.interrupt(monkeypatch, Checkpoints, "save", call=call, done=False), pytest.raises(KeyboardInterrupt):
        run(config(suite, folder), parts=parts(suite))
    return resume(folder, parts=parts(suite))


@pytest.mark.parametrize("call", [0, 2])
def test_a_resumed_run_is_the_same_and_has_the_same_lineage(finished, monkeypatch, tmp_path, call):
    resumed = cut_and_resumed(monkeypatch, "gymnax", tmp_path / "run", call=call)
    assert resumed.messages == []
    np.testing.assert_array_equal(resumed.student, finished.student)
    np.testing.assert_array_equal(resumed.planner, finished.planner)
    assert life(resumed, "gymnax") == life(finished, "gymnax")
    assert [row["dreamed"] > 0 for row in runs.rows(finished.folder)] == [False] * 2 + [True] * 4  # from update 10 on


@pytest.mark.learn
def test_a_host_run_has_a_lineage_too_and_resumes(monkeypatch, tmp_path):
    result = run(config("gymnasium", tmp_path / "whole"), parts=parts("gymnasium"))
    assert [row["version"] for row in lineage(result.folder)] == list(range(6))
    resumed = cut_and_resumed(monkeypatch, "gymnasium", tmp_path / "cut", call=1)
    assert resumed.messages == [] and life(resumed, "gymnasium") == life(result, "gymnasium")
    assert parts("gymnasium").step.program._cache_size() == 1


def told(event):
    return event.metrics, event.state.evidence, event.state.pending, event.state.learner.params


@pytest.mark.learn
def test_each_seed_of_a_group_is_the_run_it_would_have_been():
    group, wired = build(config(), num_seeds=2), parts()
    start = group.init()
    starts = [(group.step, start), *((wired.step, own) for own in group.members(start))]  # programs take seeds as data
    lives = [days_and_nights(*start, config=wired.config.loop, cost_of=wired.cost_of) for start in starts]
    for together, *alone in zip(*lives, strict=True):
        for mine, event in zip(group.members(told(together)), alone, strict=True):
            jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-2, atol=1e-3), mine, told(event))
    assert together.meters.dreamed > 0


def broken(params, number):
    """Returns parameters in which one leaf, by turns each, is not a number, infinite or noise, or the heads are."""
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(number)
    place, kind = rng.integers(len(leaves)), number % 4
    if kind < 2:
        leaf = np.array(leaves[place])
        leaf.flat[rng.integers(leaf.size)] = (np.nan, np.inf)[kind]
        leaves[place] = jnp.asarray(leaf)
        return jax.tree.unflatten(structure, leaves)
    if kind == 2:
        leaves = [leaf + 10.0 ** rng.uniform(1, 6) * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
        return jax.tree.unflatten(structure, leaves)
    return jax.tree.map(
        lambda leaf: leaf + rng.uniform(300, 1e6) * (leaf.ndim == 2) * jnp.arange(leaf.size).reshape(leaf.shape), params
    )


def test_none_of_100_broken_nights_of_the_real_networks_is_deployed():
    wired = parts()
    events = days_and_nights(wired.step, wired.init(), config=wired.config.loop, cost_of=wired.cost_of)
    state = [next(events).state for _ in range(4)][-1]
    kept = jax.tree.map(np.array, state)
    before, passed = trees.digest(kept.deployed.params), []
    for number in range(100):
        state = jax.tree.map(jnp.asarray, kept)
        learner = state.learner.replace(params=broken(state.learner.params, number))
        after, _ = wired.step(state.replace(learner=learner), 0, store=True, live_on=False)
        if after.evidence[DEPLOYED] or trees.digest(after.deployed.params) != before:
            passed.append((number, number % 4))
        else:
            assert reasons(after.evidence)
    assert passed == []
    state, _ = wired.step(jax.tree.map(jnp.asarray, kept), 0, store=True, live_on=False)
    assert int(state.deployed.judged) == int(kept.learner.updates)


def test_without_a_gate_there_is_nothing_of_it():
    state = runs.parts("gymnax").init()
    assert state.deployed == state.evidence == () and state.acting is state.learner
    assert not (runs.finished("gymnax").folder / "versions").exists()
    assert runs.config().hash() == dataclasses.replace(runs.config(), gate=GateConfig()).hash() != config().hash()


def test_back_to_an_earlier_version(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    now = Versions(folder / "versions").in_force
    put_in_force(folder, 0)
    assert Deployed.load(folder / "deployed.safetensors").version == 0
    assert lineage(folder)[-1] == {"day": 6, "version": 0, "parent": now, "deployed": True, "why": "by hand"}
    resume(folder, parts=parts())  # measures, and changes nothing
    assert Deployed.load(folder / "deployed.safetensors").version == 0
    with pytest.raises(ValueError, match="there is no version 77 in .*: give one of 0, "):
        put_in_force(folder, 77)
    (folder / "deployed.safetensors").unlink()
    with pytest.raises(ValueError, match="has not finished"):
        put_in_force(folder, 0)
    with pytest.raises(ValueError, match="has no versions: only a run with --gate.evidence keeps them"):
        put_in_force(runs.finished("gymnax").folder, 0)


def watched(suite, folder=None):
    """Returns a config whose nights are looked at after every update, and stop for little."""
    changes = {"gate.look_every": 1, "gate.tolerance": 0.0, "gate.standard_errors": 0.0, "loop.learn_after": 16}
    return changed(config(suite, folder), changes | {"imagine.begin_after": 0})


@pytest.mark.parametrize("suite", ["gymnax", pytest.param("gymnasium", marks=pytest.mark.learn)])
def test_nights_stop_early_and_a_resumed_run_stops_where_it_did(monkeypatch, tmp_path, suite):
    wired = build(watched(suite))
    whole = run(watched(suite, tmp_path / "whole"), parts=wired)
    nights = [row for row in runs.rows(whole.folder) if "night_updates" in row]
    assert [row["day"] for row in nights] == [2, 3, 4, 5, 6]  # the first has but the day that is held back
    assert {"held_out_model_error", "held_out_value_error_worse", "stopped", "stopped_kl"} <= set(nights[0])
    made, spent = 0, []
    for row in nights:
        due = wired.config.loop.updates_due(row["real"]) - made
        made += int(row["night_updates"])
        spent.append(due - row["night_updates"])
        assert 1 <= row["night_updates"] <= due and row["updates"] == made
        assert row["stopped"] == (row["night_updates"] < due)
        assert row["replayed"] + row["dreamed"] == made * wired.config.loop.batch_size
    assert max(spent) > 0 and whole.meters.updates == made <= wired.config.loop.num_updates
    with runs.interrupt(monkeypatch, Checkpoints, "save", call=1, done=False), pytest.raises(KeyboardInterrupt):
        run(watched(suite, tmp_path / "cut"), parts=wired)
    resumed = resume(tmp_path / "cut", parts=wired)
    assert resumed.messages == [] and runs.rows(resumed.folder) == runs.rows(whole.folder)
    assert resume(tmp_path / "cut", parts=wired).meters.updates == made  # finished, whatever is still due
    assert wired.step.program._cache_size() == 1


def test_a_watched_night_learns_nothing_of_the_day_that_it_is_watched_by():
    wired = build(watched("gymnax"))
    events = days_and_nights(wired.step, wired.init(), config=wired.config.loop, cost_of=wired.cost_of)
    state = [next(events).state for _ in range(3)][-1]
    kept = jax.tree.map(np.array, state)
    nights = []
    for change in (0.0, 1000.0):
        other = jax.tree.map(jnp.asarray, kept)
        pending = other.pending.replace(reward=other.pending.reward + change)
        after, metrics = wired.step(other.replace(pending=pending), 1, store=True, live_on=False)
        nights.append((trees.digest(after.learner.params), float(metrics["held_out_model_error"])))
        assert int(after.replay.stored) == int(kept.replay.stored) + wired.config.loop.steps_per_day
    assert nights[0][0] == nights[1][0] and nights[0][1] < nights[1][1]


def test_looks_go_by_who_lived_the_day_though_another_be_deployed_after_it():
    state = parts().init()
    before, after = (state.deployed.replace(updates=number) for number in (1, 2))
    sleep = sleeping(
        night=lambda learner, replay, made, num_updates, seed, looks: (looks, replay, {}),
        judge=lambda learner, deployed, day, seed, due: (after, {}),
        looks=lambda params, day, return_spread: (params, return_spread),
        learned=lambda day: day,
    )
    rest = jnp.int32(0), jnp.int32(1), jnp.bool_(False), state.seed
    deployed, _, looks, *_ = sleep(state.learner, state.replay, before, state.pending, *rest)
    assert deployed is after and looks == (before.params, before.return_spread)


def test_settings_that_looks_cannot_have_are_refused():
    with pytest.raises(ValueError, match="gate.look_every is 5, .*learn_after is 0 .* learn_after 9 or more"):
        changed(config(), {"gate.look_every": 5, "imagine.begin_after": 0})
    with pytest.raises(ValueError, match="gate.look_every is 5, .*begin_after 20: give .* and begin_after 0"):
        changed(config(), {"gate.look_every": 5, "loop.learn_after": 16})
    with pytest.raises(ValueError, match="gate.look_every is 1, but each of 2 seeds"):
        build(watched("gymnax"), num_seeds=2)


def test_a_gate_needs_a_day_to_judge_by():
    with pytest.raises(ValueError, match="loop.final_updates is 5, but after the last day there is none to judge by"):
        dataclasses.replace(config(), loop=dataclasses.replace(config().loop, final_updates=5))
