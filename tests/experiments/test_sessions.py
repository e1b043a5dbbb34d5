"""Runs of agents with a session slot: what they write, that they go on where they were, and what they refuse."""

import dataclasses
import shutil
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dreamer.io import Checkpoints, LogError, RunFolder, read_log
from dreamer.loop import ConsolidationConfig, Learner
from dreamer.sleep.carriers import UNLEARNED, Carried, CarrierConfig, NapConfig, make_carrier
from dreamer.sleep.teachers import TeacherConfig
from dreamer.sleep.update import init_train_state, make_optimizer
from dreamer.wake import Deployed, envs
from dreamer.wake import session as sessions
from dreamer.wake.envs import EnvConfig, jobs, of_job
from dreamer.wake.envs.frozen_lake import neighbours, place_of
from dreamer.wake.envs.jobs import codebook
from dreamer.wake.envs.jobworld import prompts
from dreamer.wake.envs.lakes import maps
from dreamer.wake.policy import live_one, make_act
from experiments import folders, sweep
from experiments.config import RunConfig
from experiments.consolidation import analysis
from experiments.consolidation import runs as question
from experiments.evaluate import evaluate, measured_world
from experiments.fields import changed
from experiments.measures import beliefs, bits, lake, reader
from experiments.results import read_rows, rows_of
from experiments.sessions import afterwards, distillation, dreams, ledger, pretraining
from experiments.sessions import run as sessions_run
from experiments.sessions.config import DistillationConfig, sessions_from_dict, sessions_to_dict
from experiments.sessions.dreams import make_dream
from experiments.sessions.pretraining_config import LIVED_BY, RECIPES, PretrainingConfig
from experiments.sessions.run import (
    ContextGainError,
    distil,
    load_agent,
    pretrain,
    pretrained_config,
    run_or_resume,
)
from experiments.workers import Ended
from scripts import distill as distill_script

AGENT = changed(
    PretrainingConfig(name="tiny-slot", run=RunConfig(wandb="disabled", checkpoint_every=64)),
    {
        "env.jobworld.num_keys": 4,
        "env.jobworld.num_answers": 2,
        "env.jobworld.chain_length": 2,
        "session_length": 16,
        "num_sessions": 4,
        "num_days": 2,
        "slot.num_slots": 16,
        "slot.width": 8,
        "slot.num_heads": 2,
        "slot.num_layers": 1,
        "num_jobs": 2,
        "episodes": 4,
    },
)
DISTIL = DistillationConfig(
    name="tiny-distillation",
    env=dataclasses.replace(AGENT.env, jobworld=dataclasses.replace(AGENT.env.jobworld, pool="distillation", job=1)),
    num_jobs=2,
    agent=AGENT,
    min_context_gain=-1.0,
    consolidation=ConsolidationConfig(num_nights=2, session_length=16, states_length=8, num_updates=2),
    episodes=4,
    run=RunConfig(wandb="disabled"),
)

_IN_BLOCKS = {"env.jobworld.blocks": 2, "agent.env.jobworld.blocks": 2}

ON_LAKE = changed(
    AGENT,
    {
        "env": RECIPES["lake"].env.with_jobs(size=3, num_holes=2, deadline=6),
        "name": "tiny-lake",
    },
)
DISTIL_LAKE = changed(DISTIL, {"env": ON_LAKE.env.with_jobs(pool="distillation", job=1), "agent": ON_LAKE})


def ignore(share, score):
    pass


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agents") / "agent"
    return pretrain(changed(AGENT, {"run.folder": str(folder)}), watch=ignore)[0]


@pytest.fixture(scope="module")
def distilled(agent, tmp_path_factory):
    folder = tmp_path_factory.mktemp("students") / "student"
    return distil(changed(DISTIL, {"run.folder": str(folder)}), agent, watch=ignore)


def test_pretraining_is_measured_saved_and_deployed(agent):
    rows = rows_of(agent, arm="agent")
    assert [(row["real"], row["updates"], row["final"]) for row in rows] == [(64, 2, 0), (128, 4, 1)]
    assert all(0 <= row["session_return"] <= 1 for row in rows)
    assert Deployed.load(RunFolder.open(agent).deployed).spec.id == "JobWorld-v0"
    assert Checkpoints(RunFolder.open(agent).checkpoints).days == [1, 2]


def test_pretraining_goes_on_where_it_was(agent, tmp_path):
    config = changed(AGENT, {"run.folder": str(tmp_path / "cut")})

    class CutError(RuntimeError):
        pass

    def cut(share, score):
        raise CutError

    with pytest.raises(CutError):
        pretrain(config, watch=cut)
    with pytest.raises(ValueError, match=r"cut is not pre-trained to its end: go on with it by scripts.pretrain"):
        load_agent(tmp_path / "cut", min_context_gain=-1.0)
    with pytest.raises(ValueError, match="was begun with other settings"):
        pretrain(changed(config, {"num_days": 3}), watch=ignore)
    assert pretrain(config, watch=ignore) == (tmp_path / "cut", [])
    found, whole = (load_agent(path, min_context_gain=-1.0)[1] for path in (tmp_path / "cut", agent))
    jax.tree.map(np.testing.assert_array_equal, found, whole)
    assert pretrain(config, watch=cut) == (tmp_path / "cut", [])  # it is finished: nothing is made again

    def told(path):
        return [{name: x for name, x in row.items() if name != "seconds"} for row in read_log(path / "log.jsonl")]

    assert told(tmp_path / "cut") == told(agent)


def test_labels_are_what_a_perfect_reader_believes():
    world = AGENT.env.jobworld
    slot, _, first = pretraining.parts_of(AGENT)
    env = of_job(AGENT.env, jnp.int32(5))
    live = jax.jit(lambda params: live_one(slot, env, params, seed=jnp.uint32(0), num_steps=16, remembers=True))
    session = live(first().params)
    policy, counts = reader.labels(AGENT.env, session)
    assert counts.all()
    np.testing.assert_allclose(policy.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(policy[0], 1 / world.num_answers)
    right = codebook(world, 5)[session.obs[:, : world.num_keys].argmax(axis=-1)]
    assert (jnp.take_along_axis(policy, right[:, None], axis=1) > 0).all()  # the truth is never ruled out
    assert float(policy[-1].max()) == 1  # and two answers are soon told apart


def test_labels_on_a_lake_lead_to_the_other_side():
    slot, _, first = pretraining.parts_of(ON_LAKE)
    env, holes = of_job(ON_LAKE.env, jnp.int32(5)), maps(3, 2)[5]
    live = jax.jit(lambda params: live_one(slot, env, params, seed=jnp.uint32(0), num_steps=16, remembers=True))
    session = live(first().params)
    policy, counts = reader.labels(ON_LAKE.env, session)
    assert counts.all()
    np.testing.assert_allclose(policy.sum(axis=-1), 1, rtol=1e-6)
    places = np.asarray(place_of(ON_LAKE.env.lake, session.obs))
    stepped = np.asarray(place_of(ON_LAKE.env.lake, session.next_obs))
    ahead = neighbours(ON_LAKE.env.lake)
    known_holes: set[int] = set()
    for place, onto, probs in zip(places, stepped, np.asarray(policy), strict=True):
        assert not known_holes & {int(ahead[place, action]) for action in np.flatnonzero(probs)}
        known_holes |= {int(onto)} if holes[onto] else set()
    assert known_holes  # it fell, and was told never to again


@pytest.mark.parametrize("config", [AGENT, changed(AGENT, {"env.jobworld.aliased": 0.5}), ON_LAKE])
def test_the_reader_lives_by_what_it_knows(config):
    """In six jobs: it does what `labels` give, and never what is ruled out; what it knows by acting, it knows by
    reading."""
    who, env_config = reader.make_reader(config.env), config.env

    @jax.jit
    @jax.vmap
    def live(number):
        env, act, seed = of_job(env_config, number), make_act(who.agent, greedy=False), number.astype(jnp.uint32)

        def decide(state, _):
            before, same = state.memory, {"seed": seed, "num_steps": 1, "remember": who.agent.remember}
            state, lived = sessions.live(env, act, (), state, **same)
            return state, (before, jax.tree.map(lambda leaf: leaf[0], lived))

        begun = sessions.begin(env, seed=seed, num_envs=1, memory=who.empty(1, 24))
        before, lived = jax.lax.scan(decide, begun, length=24)[1]
        said = jax.vmap(lambda memory, obs: who.agent.evaluate((), memory, obs).logits)(before, lived.obs)
        lived, before = jax.tree.map(lambda leaf: leaf[:, 0], (lived, before))
        once = live_one(who, env, (), seed=seed, num_steps=24, remembers=True)
        known = beliefs.beliefs(env_config, lived)[:-1] if env_config.suite == "jobworld" else ()
        return lived, once, before, known, jnp.exp(said[:, 0]), reader.labels(env_config, lived)[0]

    lived, once, before, known, said, policy = jax.device_get(live(jnp.arange(6) % env_config.job_world.num_jobs))
    jax.tree.map(np.testing.assert_array_equal, lived, once)
    np.testing.assert_allclose(said, policy, rtol=1e-6)
    if env_config.suite == "jobworld":
        np.testing.assert_array_equal(before.belief, known)
        assert known[:, -1].max(axis=-1).mean() > 0.9  # it has found out nearly all
    done = np.take_along_axis(policy, lived.action[..., None], axis=-1)[..., 0]
    assert (done > 0).all() and (done[policy.max(axis=-1) == 1] == 1).all()
    assert 0 < (policy.max(axis=-1) == 1).mean() < 1


@pytest.mark.parametrize("lived_by", LIVED_BY)
def test_sessions_to_learn_from_are_lived_by_whom_the_settings_say(monkeypatch, lived_by):
    config, lives = changed(AGENT, {"lived_by": lived_by}), []

    def live(who, *args, **settings):
        lives.append(who)
        return live_one(who, *args, **settings)

    monkeypatch.setattr(pretraining, "live_one", live)
    slot, optimizer, first = pretraining.parts_of(config)
    jax.eval_shape(pretraining.make_day(config, slot, optimizer), first(), jnp.uint32(0), jnp.int32(0))
    assert [who is slot for who in lives] == [lived_by == "agent"]
    assert ("lived_by" in config.identity()) == (config.hash() != AGENT.hash()) == (lived_by == "reader")
    assert sessions_from_dict(sessions_to_dict(config)) == config


def test_a_session_on_a_lake_is_folded_in_measured_and_deployed(tmp_path):
    folder, _ = pretrain(changed(ON_LAKE, {"run.folder": str(tmp_path / "agent")}), watch=ignore)
    assert Deployed.load(RunFolder.open(folder).deployed).spec.id == "FrozenLakeJob-v0"
    settings = {"run.folder": str(tmp_path / "student"), "sequence": 2, "num_jobs": 1, "distill.anchor_weight": 1.0}
    config = changed(DISTIL_LAKE, settings | {"consolidation.num_nights": 1})
    heard = []
    rows = rows_of(distil(config, folder, watch=lambda *news: heard.append(news)), arm="lake")
    assert [share for share, _ in heard] == [0, 0.5, 1]
    assert [(row["env_id"], row["real"], row["final"]) for row in rows] == [
        ("FrozenLakeJob-v0", 24, 0),
        ("FrozenLakeJob-v0", 48, 1),
    ]
    assert all(0 <= row["student_return"] <= 1 for row in rows)
    for row in rows:  # half-trained, it goes where it likes
        assert row["retained_bits"] < row["available_bits"] < 20 and row["available_bits"] > 0
    assert rows[0]["other_session_return"] is not None and rows[0]["old_kl"] >= 0
    assert evaluate(tmp_path / "student", num_episodes=3).shape == (3,)
    restored = sessions_from_dict(RunFolder.open(tmp_path / "student").config)
    assert restored.hash() == config.hash() and "jobworld" not in config.identity()["env"]
    assert "lake" not in DISTIL.identity()["env"]
    found, told = distill_script._parse([str(folder), "--env.lake.job", "2"])
    assert (found, told.env.lake.pool, told.env.lake.job) == (str(folder), "distillation", 2)


def test_a_night_is_measured_and_the_first_student_deployed(distilled):
    rows = rows_of(distilled, arm="distilled")
    assert [(row["real"], row["updates"], row["replayed"], row["final"]) for row in rows] == [
        (24, 2, 16, 0),
        (48, 4, 32, 1),
    ]
    assert all(row["available_bits"] <= 4 for row in rows)
    assert [row["other_session_return"] is not None for row in rows] == [False, True]
    returns = evaluate(distilled, num_episodes=3)
    assert returns.shape == (3,)
    with pytest.raises(ValueError, match="no world model and no planner"):
        evaluate(distilled, planner=True)


def test_success_is_told_whatever_is_paid_by_day(distilled, tmp_path):
    shutil.copytree(distilled, tmp_path / "paid")
    file = tmp_path / "paid" / "config.json"
    told = file.read_text()
    assert told.count('"feedback": "end"') == 2  # of its world, and of its agent's
    file.write_text(told.replace('"feedback": "end"', '"feedback": "step"'))
    world = measured_world(sessions_from_dict(RunFolder.open(tmp_path / "paid").config), 8)
    assert (world.jobworld.feedback, world.jobworld.look_cost, world.num_envs) == ("end", 0, 8)
    np.testing.assert_array_equal(evaluate(tmp_path / "paid", num_episodes=8), evaluate(distilled, num_episodes=8))


def test_jobs_are_taught_in_themselves_but_for_the_control():
    jobs = distillation.jobs_of(DISTIL)
    np.testing.assert_array_equal(jobs.number, jobs.taught)
    other = distillation.jobs_of(changed(DISTIL, {"teacher.kind": "other_job", "env.jobworld.job": 0}))
    assert not np.intersect1d(other.taught, other.number).size
    pretrained = AGENT.env.jobworld
    assert not set(DISTIL.jobs) & set(envs.jobs.pool_jobs(pretrained))


class InSequence(NamedTuple):
    """A student in three jobs, two nights in each."""

    config: DistillationConfig
    log: list[dict]
    rows: list[dict]
    stood: list[Learner]
    """After every night."""
    told: list[tuple[np.ndarray, np.ndarray]]
    """Beliefs and codebooks that each night's bits were reckoned by."""


def lived_in_sequence(weight, agent, path, monkeypatch):
    """Returns what is seen of who rehearses by so much."""
    stood, told, of, bits_of = [], [], distillation.of_all, ledger.bits_of

    def watched(turn, shared_by):
        turn = of(turn, shared_by)

        def standing_told(standing, *args):
            standing, outcome = turn(standing, *args)
            jax.debug.callback(stood.append, jax.tree.map(lambda leaf: leaf[0], standing.learner), ordered=True)
            return standing, outcome

        return standing_told

    monkeypatch.setattr(distillation, "of_all", watched)
    monkeypatch.setattr(ledger, "bits_of", lambda *args: told.append(args[1:]) or bits_of(*args))
    settings = {"distill.rehearsal_weight": weight, "sequence": 3, "num_jobs": 1, "update.learning_rate": 1e-2}
    settings |= {"consolidation.num_updates": 8, "env.jobworld.job": 0, "run.folder": str(path)}
    config = changed(DISTIL, settings)
    rows = rows_of(distil(config, agent, watch=ignore), arm="in sequence")
    jax.effects_barrier()
    return InSequence(config, read_log(path / "log.jsonl"), rows, jax.tree.map(jnp.asarray, stood), told)


@pytest.fixture(scope="module")
def in_sequence(agent, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return lived_in_sequence(10.0, agent, tmp_path_factory.mktemp("sequence") / "run", monkeypatch)


def test_jobs_follow_one_another(in_sequence):
    """Of a new job nothing is known by what an earlier one told."""
    rows, (numbers,) = in_sequence.rows, distillation.jobs_of(in_sequence.config).number
    assert [(row["real"], row["final"]) for row in rows] == [(24 * night, int(night == 6)) for night in range(1, 7)]
    assert [row["earlier_return"] is None for row in rows] == [True, True, False, False, False, False]
    assert [row["next_return"] is None for row in rows] == [False, False, False, False, False, True]
    assert all(
        0 <= row[name] <= 1 for row in rows for name in ("earlier_return", "next_return") if row[name] is not None
    )
    ends = [row["other_session_return"] is not None and row["old_kl"] > 0 for row in rows]
    assert ends == [False, True, False, True, False, True]
    assert len(in_sequence.told) == 6
    for night, (belief, truth) in enumerate(in_sequence.told):
        np.testing.assert_array_equal(truth, [codebook(DISTIL.env.jobworld, numbers[night // 2])])
        assert (np.take_along_axis(belief, truth[..., None], axis=-1) > 0).all()


def test_each_student_is_held_against_its_own_job():
    config = changed(DISTIL, {"sequence": 2, "env.jobworld.job": 0})
    numbers = distillation.jobs_of(config).number
    np.testing.assert_array_equal(numbers.T.reshape(-1), config.jobs)  # two students: of jobs 0 and 2, and of 1 and 3
    own, world = ledger.make_ledger(config, None, numbers), config.env.jobworld
    for stage in range(2):
        knows = np.eye(2)[[codebook(world, number) for number in numbers[:, stage]]]
        assert own.row(30 * knows, knows, stage) == pytest.approx({"retained_bits": 4, "available_bits": 4})
        assert own.row(30 * knows[::-1], knows, stage)["retained_bits"] < 0  # the other student's job


def test_what_the_last_night_of_a_job_leaves_is_rehearsed_from_then_on(in_sequence):
    log, stood = in_sequence.log, in_sequence.stood
    assert [row["rehearsal_kl"] > 0 for row in log] == [False, False, True, True, True, True]
    kept = [learner.rehearsed for learner in stood]
    np.testing.assert_array_equal([now.num_ended for now in kept], [0, 1, 1, 2, 2, 3])
    assert kept[0].obs.shape[:2] == (2, DISTIL.consolidation.states_length)
    evaluate_one = pretraining.parts_of(AGENT)[0].agent.evaluate
    for job, night in ((0, 1), (1, 3)):
        assert (kept[night - 1].policy[job] != kept[night].policy[job]).any()
        for later in kept[night + 1 :]:
            np.testing.assert_array_equal(later.obs[job], kept[night].obs[job])
            np.testing.assert_array_equal(later.policy[job], kept[night].policy[job])
        played = jax.nn.softmax(evaluate_one(stood[night].student.params, (), kept[night].obs[job]).logits)
        np.testing.assert_allclose(kept[night].policy[job], played, atol=1e-5)


@pytest.mark.learn
def test_who_rehearses_strays_less(agent, in_sequence, monkeypatch, tmp_path):
    free = lived_in_sequence(1e-9, agent, tmp_path / "free", monkeypatch).log
    assert in_sequence.log[-1]["rehearsal_kl"] < 0.5 * free[-1]["rehearsal_kl"]


def test_a_run_in_one_job_is_known_by_the_name_it_had():
    assert "sequence" not in DISTIL.identity()
    rehearses = changed(DISTIL, {"sequence": 2, "env.jobworld.job": 0, "distill.rehearsal_weight": 1.0})
    assert "rehearsal_weight" not in DISTIL.identity()["distill"]
    assert rehearses.identity()["distill"]["rehearsal_weight"] == 1.0
    assert changed(DISTIL, {"sequence": 2, "env.jobworld.job": 0}).identity()["sequence"] == 2


def test_bits_that_nobody_told_fail_the_run(agent, tmp_path, monkeypatch):
    """Students that answer by the codebook itself, while what they lived is not counted."""
    of = ledger.bits_of
    monkeypatch.setattr(distillation, "_of_the_job", lambda config, lived: [])
    monkeypatch.setattr(ledger, "bits_of", lambda told, belief, truth: of(30 * np.eye(2)[truth], belief, truth))
    config = changed(DISTIL, {"run.folder": str(tmp_path / "leak"), "env.jobworld.job": 0, "num_jobs": 4})
    with pytest.raises(bits.LeakError, match="more than the data could tell"):
        distil(config, agent, watch=ignore)
    assert not RunFolder.open(tmp_path / "leak").deployed.exists()


def test_ways_that_nobody_told_fail_the_run():
    """Students of maps of the common size that go by the map itself, while what they lived is not counted."""
    world, numbers = RECIPES["lake"].env, jnp.arange(600, 608)[:, None]
    config = changed(DISTIL_LAKE, {"env": world.with_jobs(pool="distillation", job=0), "agent": RECIPES["lake"]})
    own = ledger.make_ledger(config, None, numbers)
    nothing = jnp.broadcast_to(own.first, (8, *own.first.shape))
    knows = 30 * lake.ways(4, 5)[np.asarray(numbers)[:, 0]]
    with pytest.raises(bits.LeakError, match="more than the data could tell"):
        own.row(knows, nothing, 0)
    assert not np.asarray(own.first)[:500].any() and np.asarray(own.first)[527:].all()  # no job is one of pre-training


def test_bits_are_those_of_the_keys_that_a_job_asks():
    """Whatever a student says of keys that its job does not ask, it holds what it holds of the others."""
    config = changed(DISTIL, _IN_BLOCKS)
    numbers = jnp.array(config.jobs)[:, None]
    own, world = ledger.make_ledger(config, None, numbers), config.env.jobworld
    books = np.array([codebook(world, number) for number in config.jobs])
    asked = np.zeros((2, 4, 1), bool)
    for job, number in enumerate(config.jobs):
        asked[job, np.asarray(jobs.keys_asked(world, number))] = True
    knows = 30 * np.eye(2)[books]
    belief = np.where(asked, np.eye(2)[books], 0.5)
    for told in (knows, np.where(asked, knows, -knows)):
        assert own.row(told, belief, 0) == pytest.approx({"retained_bits": 2, "available_bits": 2})
    assert own.row(np.where(asked, 0, knows), belief, 0)["retained_bits"] == 0


def test_what_another_job_taught_is_not_counted_for_this_one(agent, tmp_path):
    """One night of the control: of the job tells the one decision that the student takes in it, and nothing else."""
    settings = {"env.jobworld.job": 0, "consolidation.num_nights": 1, "consolidation.states_length": 1}
    config = changed(DISTIL, settings | {"teacher.kind": "other_job", "run.folder": str(tmp_path / "control")})
    (row,) = rows_of(distil(config, agent, watch=ignore), arm="control")
    assert row["available_bits"] == 1
    assert row["session_return"] is None


def test_a_dream_is_of_what_the_reader_answers_but_for_its_errors():
    world = DISTIL.env.jobworld
    sure = 99 * jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])

    def reader(obs):
        assert obs.shape[0] == world.num_keys
        return sure

    def dreamed(error, key):
        state, _ = make_dream(DISTIL.env, error)(key, reader).env.reset(jax.random.key(9))
        return state.codebook

    keys = jax.random.split(jax.random.key(0), 64)
    right, wrong = (np.asarray(jax.vmap(lambda key, error=error: dreamed(error, key))(keys)) for error in (0.0, 1.0))
    np.testing.assert_array_equal(right, np.broadcast_to([0, 1, 0, 1], (64, 4)))
    assert 0.35 < (wrong == [0, 1, 0, 1]).mean() < 0.65


def test_two_dreams_agree_as_often_as_their_reader_is_sure_and_they_do_not_err():
    world = DISTIL.env.jobworld
    probs, obs = jnp.array([[1.0, 0.0], [0.75, 0.25], [0.5, 0.5]]), prompts(world)[:3]
    np.testing.assert_allclose(dreams.sure(world, 0.0, probs, obs), [1, 0.625, 0.5])
    np.testing.assert_allclose(dreams.sure(world, 0.5, probs, obs), [0.625, 0.625**2 + 0.375**2, 0.5])
    np.testing.assert_allclose(dreams.sure(world, 1.0, probs, obs), [0.5] * 3)

    def drawn(key):
        world = make_dream(DISTIL.env, 0.5)(key, lambda obs: jnp.log(probs[jnp.ones(4, int)]))
        return world.env.reset(key)[0].codebook

    found = np.asarray(jax.vmap(drawn)(jax.random.split(jax.random.key(0), 2000)))
    assert abs((found[:1000] == found[1000:]).mean() - (0.625**2 + 0.375**2)) < 0.03


def test_an_agent_of_another_seed_is_refused(agent):
    with pytest.raises(ValueError, match=r"seed is 3, but the agent .* was pre-trained with seed 0"):
        distil(dataclasses.replace(DISTIL, seed=3), agent, watch=ignore)


def test_a_run_waits_for_the_agent_that_another_process_makes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    about = sessions_to_dict(AGENT), envs.make_jax(AGENT.env).spec
    held = RunFolder.create(folders.free(AGENT), *about, identity=AGENT.identity())
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        held.close()  # the other process died before its first checkpoint

    monkeypatch.setattr(sessions_run, "time", types.SimpleNamespace(sleep=sleep))
    with pytest.raises(ContextGainError):
        run_or_resume(changed(DISTIL, {"min_context_gain": 1.0}), watch=ignore)
    assert len(waited) == 1


def test_an_agent_that_makes_nothing_of_a_session_is_refused(agent):
    with pytest.raises(ContextGainError, match=r"more often with a session .* min_context_gain is 2"):
        load_agent(agent, min_context_gain=2.0)


def test_a_folder_of_another_kind_is_refused(distilled):
    with pytest.raises(ValueError, match="holds no pre-trained agent: give the folder that scripts.pretrain printed"):
        load_agent(distilled, min_context_gain=0.0)


def test_a_sweep_pretrains_once_distils_and_finds_both_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(question, "ARMS", {"jobworld": {question.REFERENCE: DISTIL}})
    monkeypatch.setattr(question, "PANELS", {"jobworld": ((question.REFERENCE,),)})
    heard = []

    def here(call, items, *, tell):
        for item in items:
            yield Ended(item, call(item, tell), None)

    todo = sweep.jobs("consolidation", tasks=(), arms=(), seeds=range(1), root=tmp_path)
    sweep.sweep(todo, call_each=here, hear=heard.append)
    rows = read_rows(tmp_path / "consolidation" / "results" / "jobworld.csv")
    assert [row["real"] for row in rows] == [24, 48]
    assert heard[-1].end.startswith("deployed return")
    assert not sweep.jobs("consolidation", tasks=(), arms=(), seeds=range(1), root=tmp_path)
    made = set((tmp_path / "runs").iterdir())
    assert len(made) == 2
    assert run_or_resume(DISTIL, watch=ignore)[0].resolve() in made
    assert rows[-1]["seed"] == 0
    assert set((tmp_path / "runs").iterdir()) == made
    monkeypatch.setattr(analysis, "ARMS", question.ARMS)
    monkeypatch.setattr(analysis, "PANELS", question.PANELS)
    table, figures = analysis.analyse(tmp_path / "consolidation")
    assert "| jobworld | session, student's states | 1 | 48 |" in table
    assert [path.exists() for path in figures] == [True]


def test_a_damaged_pretraining_is_left_as_it_is_and_begun_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def stop(share, score):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_or_resume(AGENT, watch=stop)
    (begun,) = (tmp_path / "runs").iterdir()
    (begun / "log.jsonl").write_text("what\n" * 3)
    with pytest.raises(LogError), RunFolder.open(begun, write=True) as folder:
        pretraining.live_and_learn(AGENT, folder, resume=True, watch=ignore)
    path, messages = run_or_resume(AGENT, watch=ignore)
    assert path.resolve() != begun
    assert str(begun.name) in messages[0]


def test_trajectories_are_refined_failures_taken_over_and_longer_chains_asked(agent, tmp_path):
    settings = {"refine.arm": "rewrite", "refine.harm": 0.0, "recovery_episodes": 16, "horizons": (2, 16)}
    settings |= {"self_conditioning": 2, "episodes": 16}
    config = changed(DISTIL, settings)
    rows = rows_of(distil(changed(config, {"run.folder": str(tmp_path / "run")}), agent, watch=ignore), arm="rewritten")
    assert [row["real"] for row in rows] == [24, 48]  # a dream is no real transition
    for row in rows:
        assert 0 < row["replayed"] / row["updates"] < 8 and row["dreamed"] > 0
        shares = [row[f"recovered_{percent}"] for percent in (20, 40, 60, 80)]
        assert all(0 <= share <= 1 for share in (*shares, row["labels_right_before"], row["labels_right_after"]))
    assert [rows[0][name] for name in ("return_x2", "return_x16")] == [None, None]
    assert 0 <= rows[1]["return_x16"] <= rows[1]["return_x2"] <= 1 and rows[1]["return_x4"] is None
    assert rows[1]["independent_x16"] <= rows[1]["independent_x2"] <= rows[1]["student_return"]
    for who in ("alone", "remembering"):
        assert rows[0][f"wrong_{who}"] is None
        assert all(0 <= rows[1][name] <= 1 for name in (f"wrong_{who}", f"wrong_{who}_after"))
    assert rows[1]["dream_ratio"] == (rows[1]["replayed"] + rows[1]["dreamed"]) // 48


def test_what_independent_parts_give_is_estimated_without_bias():
    of, prob = 8, 0.7
    succeeded = np.arange(of + 1)
    for times in (1, 2, 4, 8):
        expected = (stats.binom.pmf(succeeded, of, prob) * afterwards.all_succeed(succeeded / of, times, of=of)).sum()
        np.testing.assert_allclose(expected, prob**times)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            {"num_jobs": 4, "carrier": CarrierConfig("lora", 2), "nap.places": 2, "nap.num_updates": 2},
            marks=pytest.mark.learn,
        ),
        {
            "num_jobs": 2,
            "distill.anchor_weight": 1.0,
            "teacher.weights": "ema",
            "distill.rehearsal_weight": 1.0,
            "sequence": 2,
            "consolidation.num_nights": 1,
        },
    ],
)
def test_jobs_that_share_a_student_teach_it_together(agent, settings):
    config = changed(DISTIL, settings | {"shared_by": 2, "env.jobworld.job": 0})
    slot, params = load_agent(agent, min_context_gain=-1.0)
    members = distillation.jobs_of(config)
    carrier, optimizer = make_carrier(config.carrier, slot), make_optimizer(config.update, config.num_nights)
    own_ledger, old = ledger.make_ledger(config, slot, members.number), distillation.old_sessions(config, slot)
    parts = {"carrier": carrier, "optimizer": optimizer, "ledger": own_ledger, "old": old}
    turn = jax.jit(distillation.of_all(distillation.make_turn(config, slot, **parts), config.shared_by))
    begun = Learner(
        init_train_state(carrier.begin(jax.random.key(0), params), optimizer),
        params if config.teacher.lasts else (),
        distillation.rehearsed_first(config, slot),
    )
    standing = distillation.Standing(begun, own_ledger.first)
    standing = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (config.num_jobs, *leaf.shape)), standing)
    for night in range(2):
        standing, _ = turn(standing, params, members, jnp.int32(night))
    learner, rehearsed = standing.learner.replace(rehearsed=()), standing.learner.rehearsed
    leaves = jax.tree.leaves(learner)  # weights, optimiser and lasting teacher
    learners = np.concatenate([np.asarray(leaf).reshape(config.num_jobs, -1) for leaf in leaves], axis=1)
    assert (learners[::2] == learners[1::2]).all() and len(np.unique(learners, axis=0)) == config.num_jobs / 2
    assert (np.asarray(standing.belief)[0] != np.asarray(standing.belief)[1]).any()  # their days are their own
    if rehearsed != ():  # and so is what each of them rehearses
        assert (np.asarray(rehearsed.num_ended) == 2).all() and (rehearsed.obs[0] != rehearsed.obs[1]).any()


def test_a_shared_student_costs_the_days_of_all_its_jobs_and_holds_what_one_policy_can(agent, tmp_path):
    config = changed(DISTIL, {"num_jobs": 4, "shared_by": 2, "env.jobworld.job": 0})
    rows = rows_of(distil(changed(config, {"run.folder": str(tmp_path / "run")}), agent, watch=ignore), arm="shared")
    assert [row["real"] for row in rows] == [48, 96] and rows[-1]["final"] == 1
    assert [row["replayed"] / row["updates"] for row in rows] == [16, 16]
    assert [row["dream_ratio"] for row in rows] == [config.row["dream_ratio"]] * 2
    # Members that each know their own job, and all of it was told: they are no one policy.
    numbers = jnp.array(config.jobs)[:, None]
    knows = np.eye(2)[[codebook(config.env.jobworld, number) for number in config.jobs]]
    told = {shared: ledger.make_ledger(changed(config, {"shared_by": shared}), None, numbers) for shared in (1, 2)}
    assert told[1].row(30 * knows, knows, 0)["retained_bits"] == pytest.approx(4)
    with pytest.raises(bits.LeakError, match="a student shared by 2 jobs retains"):
        told[2].row(30 * knows, knows, 0)
    both = np.repeat(
        knows.reshape(2, 2, 4, 2).mean(axis=1), 2, axis=0
    )  # of each two, in the order that they are shared
    assert told[2].row(np.log(both + 1e-9), knows, 0)["retained_bits"] < 4


@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_longer_chains_are_asked_of_a_job_that_stays_or_has_drifted(monkeypatch, drift):
    """Whoever answers by the first codebook is right in all keys of a job that stays, and in half of one of which half
    has changed; whoever answers by a session of the changed job is right in all. Only how they are asked is replaced.
    """
    config = changed(DISTIL, {"num_jobs": 2, "horizons": (2, 4), "drift": drift})
    world, numbers, asked = config.env.jobworld, jnp.array(config.jobs), []

    def codebook_of(env):
        return env.reset(jax.random.key(0))[0].codebook

    def returns(slot, env, agent, *, seed, num_episodes):
        reads = not isinstance(agent.memory, tuple)
        asked.append((env.max_steps, reads))
        return ((agent.memory if reads else agent.params) == codebook_of(env)).mean()

    def lived_in(slot, env, params, *, seed, num_steps, remembers):
        assert (env.max_steps, num_steps, remembers) == (world.deadline, config.agent.session_length, True)
        return codebook_of(env)

    monkeypatch.setattr(afterwards, "returns", returns)
    monkeypatch.setattr(afterwards, "live_one", lived_in)
    monkeypatch.setattr(afterwards, "having", lambda slot, params, session: Carried(params, session))
    books = jax.vmap(lambda number: codebook(world, number))(numbers)
    row = afterwards._far(config, None, jnp.arange(2, dtype=jnp.uint32))(Carried(books, ()), numbers, np.ones(2))
    alone = 1 - drift
    expected = {"return_x2": alone, "return_x4": alone}
    # Of two successes in four episodes one pair of six is all successes, and no four are.
    expected |= (
        {"independent_x2": 1 / 6, "independent_x4": 0.0} if drift else {"independent_x2": 1, "independent_x4": 1}
    )
    expected |= {"return_x1": alone, "adapted_x1": 1.0, "adapted_x2": 1.0, "adapted_x4": 1.0} if drift else {}
    assert row == pytest.approx(expected)
    lengths, whose = ((1, 2, 4), (False, True)) if drift else ((2, 4), (False,))
    assert asked == [(times * world.deadline, within) for times in lengths for within in whose]


@pytest.mark.parametrize(
    ("kind", "states"), [pytest.param("search", "student", marks=pytest.mark.learn), ("veteran", "dream")]
)
def test_a_teacher_that_plans_costs_model_calls_and_no_real_transitions(agent, tmp_path, kind, states):
    settings = {"teacher.kind": kind, "consolidation.states": states, "plan.search.num_simulations": 3}
    config = changed(DISTIL, settings | {"plan.num_rollouts": 1, "run.folder": str(tmp_path / "run")})
    rows = rows_of(distil(config, agent, watch=ignore), arm="planned")
    real = 24 if states == "student" else 16
    calls = 8 * (3 + 4 * DISTIL.env.jobworld.deadline)  # of eight states: the tree's, a rollout from root and leaves
    assert [(row["real"], row["searched"]) for row in rows] == [(real, calls), (2 * real, 2 * calls)]
    restored = sessions_from_dict(RunFolder.open(tmp_path / "run").config)
    assert restored.hash() == config.hash() != changed(config, {"plan.num_rollouts": 2}).hash()
    assert "plan" in changed(DISTIL, {"teacher.kind": kind}).identity() and "plan" not in DISTIL.identity()


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("lora", 2),
        ("table", 16),
        pytest.param("cartridge", 3, marks=pytest.mark.learn),
        pytest.param("window", 16, marks=pytest.mark.learn),
    ],
)
def test_what_is_carried_is_measured_and_deployed(agent, distilled, tmp_path, kind, size):
    night = {"consolidation.num_nights": 1, "consolidation.states": "session", "consolidation.states_length": 0}
    night |= {"update.learning_rate": 0.1}  # so that two updates move what is no change at first
    night |= {"carrier": CarrierConfig(kind, size), "coded": kind not in UNLEARNED, "run.folder": str(tmp_path / "run")}
    config = changed(DISTIL, night)
    (row,) = rows_of(distil(config, agent, watch=ignore), arm=kind)
    whole = rows_of(distilled, arm="weights")[-1]["carried_bytes"]
    place = 6 + 2 if kind == "table" else 2 * 8  # an observation and a policy; or a key and a value, of one layer
    assert row["carried_bytes"] < whole if kind == "lora" else row["carried_bytes"] == 4 * place * size
    assert (row["old_kl"] > 1e-6) == (kind == "lora")  # beside a memory the weights stay
    if kind not in UNLEARNED and row["coded_bits"] is not None:
        assert row["coded_return"] >= 0.95 * row["student_return"] and 0 < row["coded_bits"] < 8 * row["carried_bytes"]
    if kind == "window":  # the whole session: who reads it is who carries it
        assert row["student_return"] == row["session_return"]
    assert evaluate(tmp_path / "run", num_episodes=3).shape == (3,)


@pytest.mark.learn
def test_fast_weights_are_pretrained_kept_and_deployed(tmp_path):
    settings = {"slot.memory": "fast_weights", "run.folder": str(tmp_path / "agent")}
    folder, _ = pretrain(changed(AGENT, settings), watch=ignore)
    night = {"consolidation.num_nights": 1, "consolidation.states": "session", "consolidation.states_length": 0}
    night |= {"carrier": CarrierConfig("window", 1), "agent.slot.memory": "fast_weights"}
    config = changed(DISTIL, night | {"run.folder": str(tmp_path / "run")})
    (row,) = rows_of(distil(config, folder, watch=ignore), arm="kept")
    heads = config.agent.slot.num_heads
    assert row["carried_bytes"] == 4 * heads * (8 // heads) ** 2  # float32, one matrix a head, of one layer
    assert row["student_return"] == row["session_return"]
    assert evaluate(tmp_path / "run", num_episodes=3).shape == (3,)


@pytest.mark.learn
def test_a_nap_costs_updates_and_no_real_transitions(agent, tmp_path):
    settings = {"carrier": CarrierConfig("lora", 2), "nap": NapConfig(3, num_updates=5)}
    config = changed(DISTIL, settings | {"run.folder": str(tmp_path / "run")})
    rows = rows_of(distil(config, agent, watch=ignore), arm="napped")
    assert [(row["real"], row["updates"], row["replayed"]) for row in rows] == [(24, 7, 96), (48, 14, 192)]
    assert {row["dream_ratio"] for row in rows} == {4}
    assert "nap_kl" in read_log(tmp_path / "run" / "log.jsonl")[-1]


@pytest.mark.learn
def test_a_teacher_that_reads_on_is_measured_and_known(agent, tmp_path):
    settings = {"teacher.reads_on": True, "consolidation.session_length": 8, "recovery_episodes": 16}
    config = changed(DISTIL, settings | {"run.folder": str(tmp_path / "run")})
    rows = rows_of(distil(config, agent, watch=ignore), arm="read on")
    assert [row["real"] for row in rows] == [16, 32]
    assert all(0 <= row[name] <= 1 for row in rows for name in ("recovered_20", "told_right_before", "regret_1"))


def test_configs_are_what_was_written():
    naps = changed(DISTIL, {"carrier": CarrierConfig("lora", 2), "nap": NapConfig(3, num_updates=5)})
    reads_on = changed(DISTIL, {"teacher.reads_on": True, "consolidation.session_length": 8})
    for config in (AGENT, DISTIL, naps, reads_on):
        restored = sessions_from_dict(sessions_to_dict(config))
        assert restored == config and restored.hash() == config.hash()
    assert naps.hash() != changed(naps, {"nap": NapConfig(4, num_updates=5)}).hash()
    assert reads_on.hash() != changed(reads_on, {"teacher.reads_on": False}).hash()
    # What is off is in no identity, so that what was recorded before there was such a thing keeps its hash.
    assert "nap" not in DISTIL.identity() and "reads_on" not in DISTIL.identity()["teacher"]
    assert reads_on.identity()["teacher"]["reads_on"]
    assert dataclasses.replace(DISTIL, seed=3).hash() == DISTIL.hash()
    assert changed(DISTIL, {"agent.num_days": 9}).hash() != DISTIL.hash()
    assert changed(DISTIL, {"agent.seed": 9}).hash() == DISTIL.hash()


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (AGENT, {"num_days": 0}, "num_days is 0: give 1 or more"),
        (AGENT, {"session_length": 17}, "session_length is 17, but slot.num_slots is 16"),
        (AGENT, {"env.jobworld.pool": "test"}, "pre-trained on all jobs of the pool 'pretraining'"),
        (AGENT, {"prior_weight": -1.0}, "prior_weight is -1.0: give 0 or more"),
        (AGENT, {"lived_by": "nobody"}, "lived_by is 'nobody': give one of agent, reader"),
        (DISTIL, {"consolidation.session_length": 17}, "slot has room for 16"),
        (DISTIL, {"env.jobworld.job": 3}, "with all of them among the 4"),
        (DISTIL, {"env.jobworld.job": None}, "give the number of the first job"),
        (DISTIL, {"env.jobworld.pool": "pretraining"}, "which the agent knows"),
        (DISTIL, {"env.jobworld.period": 2}, "must stay: give 0"),
        (DISTIL, {"dream_error": 0.5}, "nothing is dreamed: give 0"),
        (DISTIL, {"plan.gamma": 0.9}, "plan.gamma is 0.9, but teacher.kind is 'session', who does not plan"),
        (DISTIL, {"plan.search.num_simulations": 3}, "plan.search.num_simulations is 3, but teacher.kind"),
        (DISTIL, {"teacher.kind": "search", "env.max_steps": 3}, "env.max_steps is 3, but .*: give None"),
        (DISTIL, {"teacher.kind": "search", "plan.search.num_considered": 3}, "plan.search.num_considered is 3"),
        (
            DISTIL,
            {"teacher.kind": "veteran", "teacher.weights": "ema"},
            "a plan is made once, .*: give weights 'frozen'",
        ),
        (
            DISTIL,
            {"refine.arm": "rewrite", "consolidation.states": "dream"},
            "consolidation.states is 'dream', but refine.arm is 'rewrite', .*: give 'student'",
        ),
        (
            DISTIL,
            {"refine.arm": "rewrite", "distill.state_weight": "trust"},
            "distill.state_weight is 'trust', but refine.arm .*: give 'uniform'",
        ),
        (DISTIL, {"horizons": (2, 3)}, r"horizons has \[3\]: give some of 2, 4, 8, 16"),
        (DISTIL, {"drift": 0.5}, "drift is 0.5: give 0, or with horizons a share"),
        (DISTIL, {"drift": 0.1, "horizons": (2,)}, "drift is 0.1: give 0, or with horizons a share of one key or more"),
        (
            DISTIL,
            {"recovery_episodes": 4, "teacher.weights": "ema"},
            "teacher.weights is 'ema', but recovery_episodes is 4, .*: give 'frozen' or 'first'",
        ),
        (
            DISTIL,
            {"carrier": CarrierConfig("table", 4), "consolidation.num_nights": 1, "distill.beta": 1.0}
            | {"consolidation.states": "session", "consolidation.states_length": 0},
            "but carrier.kind is 'table' and size 4, of which nothing is learned",
        ),
        (
            DISTIL,
            {"teacher.kind": "sharpened", "consolidation.session_length": 0, "consolidation.lived_by": "first"},
            "consolidation.session_length is 0, but lived_by is 'first'",
        ),
        (DISTIL, {"consolidation.late_rewards": 16}, "consolidation.late_rewards is 16, but no more than 16 decisions"),
        (DISTIL, {"consolidation.credit_window": 3}, "credit_window is 3, but no rewards are learned from: give 0"),
        (DISTIL, {"consolidation.credit_window": 8}, "rewards come 0 decisions late, and 8 are lived on end: give a"),
        (
            DISTIL,
            {"consolidation.credit_window": 3, "consolidation.late_rewards": 4},
            "credit_window is 3, but rewards come 4 decisions late",
        ),
        (DISTIL, {"self_conditioning": 9}, "and the agent's slot has room for 16: give 1 to"),
        (DISTIL, {"self_conditioning": -1}, "self_conditioning is -1, but it asks for chains of 2 keys or more"),
        (DISTIL, {"self_conditioning": 1, "env.jobworld.slack": 80}, "and the agent's slot has room for 16"),
        (
            DISTIL,
            {"self_conditioning": 1, "env.jobworld.error": "dead_end", "agent.env.jobworld.error": "dead_end"},
            "env.jobworld.error is 'dead_end', but self_conditioning is 1, .*: give 'no_op' or 'detour'",
        ),
        (
            DISTIL,
            {"self_conditioning": 1, "horizons": (2,), "drift": 0.5},
            "drift is 0.5, but self_conditioning is 1, .*: give 0.0",
        ),
        (
            DISTIL,
            {"self_conditioning": 1, "carrier": CarrierConfig("cartridge", 4), "consolidation.num_nights": 1},
            "self_conditioning is 1, but carrier.kind .*, a memory of the job as it was: give 0",
        ),
        (DISTIL, {"recovery_episodes": 4, "env.max_steps": 3}, "env.max_steps is 3, but horizons, recovery_episodes"),
        (
            DISTIL,
            {"env.jobworld.feedback": "step"},
            "env.jobworld.feedback is 'step', but the agent was pre-trained where it is 'end', and reads rewards",
        ),
        (
            DISTIL,
            {"recovery_episodes": 4, "env.jobworld.feedback": "step", "agent.env.jobworld.feedback": "step"},
            "env.jobworld.feedback is 'step', but recovery_episodes is 4",
        ),
        (DISTIL, {"env.max_steps": 1}, "env.max_steps is 1, but a chain has 2 keys"),
        (
            DISTIL,
            {"refine.arm": "drop_failures", "consolidation.states_length": 1},
            "states_length is 1, but a chain has 2 keys, and no episode could come to its end",
        ),
        (
            DISTIL,
            {"refine.arm": "rewrite", "consolidation.late_rewards": 2},
            "consolidation.late_rewards is 2, but refine.arm is 'rewrite'.*: give 0",
        ),
        (
            DISTIL,
            {"distill.reinforce_weight": 1.0, "consolidation.late_rewards": 8},
            "late_rewards is 8 with a distill.reinforce_weight, but the student lives 8 decisions on end",
        ),
        (
            DISTIL,
            {"consolidation.objective": "reinforce", "consolidation.session_length": 0}
            | {"consolidation.late_rewards": 8, "consolidation.credit_window": 0},
            "consolidation.late_rewards is 8, but no more than 8 decisions are lived",
        ),
        (
            DISTIL,
            {"consolidation.objective": "clone_successes", "consolidation.late_rewards": 2}
            | {"consolidation.states": "session", "consolidation.states_length": 0},
            "late_rewards is 2, but objective 'clone_successes' asks which episode was paid",
        ),
        (
            DISTIL,
            {"distill.reinforce_weight": 1.0, "consolidation.states_length": 1},
            "no episode could come to its end",
        ),
        (
            DISTIL,
            {"consolidation.objective": "clone_successes", "env.jobworld.feedback": "step"}
            | {"consolidation.states": "session", "consolidation.states_length": 0}
            | {"agent.env.jobworld.feedback": "step"},
            "feedback is 'step', but objective 'clone_successes' takes whatever was paid",
        ),
        (DISTIL, {"min_context_gain": float("nan")}, "min_context_gain is nan: give a difference of shares"),
        (DISTIL, {"nap.places": 2, "nap.learning_rate": float("nan")}, "nap.learning_rate is nan"),
        (DISTIL_LAKE, {"self_conditioning": 1}, "self_conditioning is 1, but only the suite 'jobworld'"),
        (DISTIL, {"consolidation.late_rewards": -1}, "consolidation.late_rewards is -1: give 0 or more"),
        (DISTIL, {"horizons": (2,), "env.max_steps": 3}, "env.max_steps is 3, but horizons, recovery_episodes"),
        (
            DISTIL,
            {"refine.arm": "drop_failures", "env.jobworld.feedback": "step", "agent.env.jobworld.feedback": "step"},
            "'step', but refine.arm .*: give 'end'",
        ),
        (DISTIL, {"carrier": CarrierConfig("lora", 9)}, "above the width 8 of the agent: give that rank or less"),
        (
            DISTIL,
            {"carrier": CarrierConfig("cartridge", 17), "consolidation.num_nights": 1},
            "but a session leaves 16 places",
        ),
        (
            DISTIL,
            {"carrier": CarrierConfig("window", 4), "consolidation.num_nights": 1, "update.weight_decay": 0.1},
            "update.weight_decay is 0.1, but carrier.kind .*: give 0.0",
        ),
        (
            DISTIL,
            {"carrier": CarrierConfig("cartridge", 4)},
            "num_nights is 2, but carrier.kind .*: give 1",
        ),
        (DISTIL, {"carrier": CarrierConfig("window", 4), "consolidation.num_nights": 1, "coded": True}, "coded is set"),
        (
            DISTIL,
            {
                "carrier": CarrierConfig("cartridge", 2),
                "consolidation.num_nights": 1,
                "agent.slot.memory": "fast_weights",
            },
            "but a session leaves 1 places",
        ),
        (DISTIL, {"nap.places": -1}, "nap.places is -1: give 0 or more"),
        (DISTIL, {"nap.num_updates": 3}, "nap.places is 0, so no nap is taken"),
        (DISTIL, {"nap": NapConfig(17)}, "nap.places is 17, but .*: give 1 to 16"),
        (
            DISTIL,
            {"nap": NapConfig(2), "teacher.weights": "ema"},
            "teacher.weights is 'ema', but nap.places is 2, .*: give 'frozen'",
        ),
        (
            DISTIL,
            {"teacher.reads_on": True},
            "session_length 16 with states_length 8 is more than the agent's slot has room for, 16: live less",
        ),
        (
            DISTIL,
            {"teacher.reads_on": True, "consolidation.session_length": 13, "consolidation.states_length": 3}
            | {"recovery_episodes": 4},
            "session_length 13 with an episode to recover from is more than",
        ),
        (
            DISTIL,
            {"teacher.reads_on": True, "consolidation.states": "dream"},
            "consolidation.states is 'dream', but teacher.reads_on is set, .*: give 'student'",
        ),
        (
            DISTIL,
            {"teacher.reads_on": True, "refine.arm": "rewrite"},
            "refine.arm is 'rewrite', but teacher.reads_on is set, .*: give 'raw'",
        ),
        (
            DISTIL,
            {"teacher.reads_on": True, "nap": NapConfig(2)},
            "nap.places is 2, but teacher.reads_on is set, .*: give 0",
        ),
        (
            DISTIL,
            {"consolidation": ConsolidationConfig(objective="reinforce", session_length=0), "teacher.reads_on": True},
            "which asks no teacher, but settings of teacher are changed",
        ),
        (DISTIL, {"recovery_episodes": -1}, "recovery_episodes is -1: give 0"),
        (
            DISTIL,
            {"recovery_episodes": 4, "env.jobworld.aliased": 0.5, "agent.env.jobworld.aliased": 0.5},
            "recovery_episodes is 4: give 0 .* and no key is aliased",
        ),
        (
            DISTIL,
            {"env.jobworld.num_keys": 5},
            "env.jobworld.num_keys is 5, but the agent was pre-trained where it is 4",
        ),
        (DISTIL, {"env.jobworld.error": "dead_end"}, "would take what it sees for something else"),
        (DISTIL, {"teacher.kind": "other_job", "env.jobworld.job": 1}, "has not as many other jobs"),
        (DISTIL_LAKE, {"consolidation.states": "dream"}, "consolidation.states is 'dream', but only the suite"),
        (DISTIL_LAKE, {"teacher.kind": "veteran"}, "teacher.kind is 'veteran', .*: give 'session' or 'other_job'"),
        (DISTIL_LAKE, {"refine.arm": "rewrite"}, "refine.arm is 'rewrite', but only the suite .*: give 'raw'"),
        (DISTIL_LAKE, {"horizons": (2,)}, r"horizons is \(2,\), but only"),
        (DISTIL_LAKE, {"env.lake.deadline": 7}, "env.lake.deadline is 7, but the agent was pre-trained where"),
        (DISTIL_LAKE, {"env": DISTIL.env}, "env.suite is 'jobworld', but the agent was pre-trained in 'lake'"),
        (ON_LAKE, {"env.lake.pool": "test"}, "env.lake.pool is 'test' and job None: an agent is pre-trained on all"),
        (ON_LAKE, {"env": EnvConfig("CartPole-v1", "gymnax")}, "sessions are told apart by jobs"),
        (DISTIL, {"env.knobs.slip": 0.1}, "env.knobs is .* leave it at"),
        (DISTIL, {"sequence": 0}, "sequence is 0"),
        (DISTIL, {"shared_by": 0}, "shared_by is 0"),
        (
            DISTIL,
            _IN_BLOCKS | {"consolidation.states": "dream"},
            "consolidation.states is 'dream', but env.jobworld.blocks is 2",
        ),
        (DISTIL, {"shared_by": 3}, "shared_by is 3, which does not divide num_jobs 2: give a num_jobs that is a"),
        (DISTIL, {"shared_by": 2, "coded": True}, "shared_by is 2, but coded is set"),
        (DISTIL_LAKE, {"shared_by": 2}, "shared_by is 2, but what one policy can hold of several maps"),
        (DISTIL, _IN_BLOCKS | {"shared_by": 2}, "shared_by is 2, but env.jobworld.blocks is 2, and jobs that share"),
        (DISTIL, _IN_BLOCKS | {"drift": 0.5, "horizons": (2,)}, "drift is 0.5, but env.jobworld.blocks is 2"),
        (DISTIL, _IN_BLOCKS | {"teacher.kind": "other_job"}, "teacher.kind is 'other_job', but env.jobworld.blocks"),
        (
            DISTIL,
            _IN_BLOCKS | {"num_jobs": 1, "sequence": 3, "env.jobworld.job": 0},
            "of 3 jobs of a student, 1 numbers apart, some are of one block and some are not",
        ),
        (
            DISTIL,
            {"shared_by": 2, "consolidation.num_nights": 1, "carrier": CarrierConfig("cartridge", 4)},
            "shared_by is 2, but carrier.kind is 'cartridge' and size 4",
        ),
        (DISTIL, {"horizons": (8,)}, "episodes is 4, but horizons asks how likely 8 all succeed"),
        (DISTIL, {"distill.rehearsal_weight": 1.0}, "rehearsal_weight is 1.0, but sequence is 1, and nothing was"),
        (
            DISTIL,
            {
                "distill.rehearsal_weight": 1.0,
                "sequence": 2,
                "num_jobs": 1,
                "env.jobworld.job": 0,
                "teacher.kind": "other_job",
                "consolidation.states": "dream",
            },
            "teacher.kind is 'other_job', but distill.rehearsal_weight is 1.0, and what is kept of a job is its",
        ),
        (DISTIL, {"sequence": 2}, "job is 1, num_jobs 2 and sequence 2: give the number of the first"),
        (AGENT, {"env.num_envs": 2}, "env.num_envs is 2"),
        (AGENT, {"update.reset_every": 5}, "update.reset_every is 5, which has no effect here"),
        (AGENT, {"num_jobs": 5}, "the pool 'test' holds 4"),
        (
            DISTIL,
            {"consolidation.states": "dream", "distill.reinforce_weight": 1.0},
            "rewards speak for what the student really did",
        ),
        (
            DISTIL,
            {
                "consolidation": ConsolidationConfig(
                    objective="clone", states="session", states_length=0, session_length=8
                ),
                "distill.beta": 1.0,
            },
            "settings of distill are changed",
        ),
        (DISTIL, {"consolidation.session_length": 0}, "where teacher.kind is 'session': give 1 or more"),
        (DISTIL, {"teacher.kind": "sharpened"}, "give 0, for nobody reads the session"),
        (
            DISTIL,
            {
                "consolidation": ConsolidationConfig(objective="reinforce", session_length=0),
                "teacher": TeacherConfig(weights="ema"),
            },
            "which asks no teacher",
        ),
    ],
)
def test_what_does_not_fit_is_refused(config, settings, message):
    with pytest.raises(ValueError, match=message):
        changed(config, settings)


def test_the_command_line_begins_from_its_agent(agent, capsys):
    folder, config = distill_script._parse([str(agent), "--consolidation.num-nights", "3"])
    assert type(config) is DistillationConfig and config.agent == pretrained_config(RunFolder.open(agent))
    assert (folder, config.consolidation.num_nights, config.seed) == (str(agent), 3, 0)
    assert config.consolidation.session_length == AGENT.session_length
    assert config.env.jobworld.num_keys == AGENT.env.jobworld.num_keys
    _, config = distill_script._parse([str(agent), "--teacher", "veteran", "--states=dream"])
    assert (config.teacher.kind, config.consolidation.states) == ("veteran", "dream")
    with pytest.raises(ValueError, match="settings of agent are those of"):
        distill_script._parse([str(agent), "--agent.num-days", "3"])
    with pytest.raises(SystemExit):
        distill_script._parse([str(agent), "--help"])
    told = capsys.readouterr().out
    assert "--shared-by" in told and "--agent." not in told
