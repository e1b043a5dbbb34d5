"""The fact log: what was lived comes back bit for bit, whatever happened to the last write."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy

from dreamer.core.types import EnvSpec, Transition
from dreamer.io import FactLog, FactsError, export_minari
from dreamer.io.frames import frame
from dreamer.io.minari_export import episodes

SPEC = EnvSpec("Toy-v0", "toys", "0.1", (2, 3), "uint8", 4)
NUM_ENVS = 2
FIELDS = ("obs", "action_mask", "action", "reward", "terminated", "truncated", "next_obs")


def make_day(seed, num_steps=3, spec=SPEC, num_envs=NUM_ENVS):
    rng = np.random.default_rng(seed)
    lead = (num_steps, num_envs)
    return Transition(
        obs=rng.integers(0, 200, (*lead, *spec.obs_shape)).astype(spec.obs_dtype),
        action_mask=rng.random((*lead, spec.num_actions)) < 0.5,
        action=rng.integers(0, spec.num_actions, lead).astype(np.int32),
        reward=rng.normal(size=lead).astype(np.float32),
        terminated=rng.random(lead) < 0.2,
        truncated=rng.random(lead) < 0.2,
        next_obs=rng.integers(0, 200, (*lead, *spec.obs_shape)).astype(spec.obs_dtype),
    )


def assert_same(left, right):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
        assert getattr(left, name).dtype == getattr(right, name).dtype


def fill(folder, num_days, **kwargs):
    facts = FactLog.create(folder, SPEC, NUM_ENVS, **kwargs)
    for day in range(num_days):
        facts.append(day, make_day(day), continues=day != 1)
    return facts


def assert_holds(facts, num_days):
    assert facts.days == range(num_days)
    stored = list(facts.read())
    assert [(day, continues) for day, continues, _ in stored] == [(day, day != 1) for day in range(num_days)]
    for day, _, trajectory in stored:
        assert_same(trajectory, make_day(day))


def test_days_come_back_bit_for_bit(tmp_path):
    made = fill(tmp_path, 3)
    assert_holds(made, 3)
    opened = FactLog.open(tmp_path)
    assert opened.spec == SPEC and opened.num_envs == NUM_ENVS and opened.messages == []
    assert_holds(opened, 3)
    assert [day for day, _, _ in opened.read(first_day=2)] == [2]
    opened.append(3, make_day(3))
    assert_holds(FactLog.open(tmp_path), 4)


def test_empty_log(tmp_path):
    fill(tmp_path, 0)
    assert_holds(FactLog.open(tmp_path), 0)


def test_days_may_differ_in_length_and_hold_nan_rewards(tmp_path):
    facts = FactLog.create(tmp_path, SPEC, NUM_ENVS)
    days = [make_day(0, num_steps=1), make_day(1, num_steps=7)]
    days[0].reward[0, 0] = np.nan
    for day, trajectory in enumerate(days):
        facts.append(day, trajectory)
        facts.append(day, trajectory)
    for (_, _, stored), trajectory in zip(FactLog.open(tmp_path).read(), days, strict=True):
        assert_same(stored, trajectory)


def test_segments_rotate_and_go_on(tmp_path):
    facts = fill(tmp_path, 5, segment_bytes=2000)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"segment-{i:06d}.facts" for i in range(len(names))] and len(names) > 2
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    assert_holds(facts, 5)
    opened = FactLog.open(tmp_path, segment_bytes=2000)
    opened.append(5, make_day(5))
    assert_holds(FactLog.open(tmp_path), 6)


def test_a_day_larger_than_a_segment_has_one_of_its_own(tmp_path):
    fill(tmp_path, 3, segment_bytes=10)
    assert len(list(tmp_path.iterdir())) == 3
    assert_holds(FactLog.open(tmp_path), 3)


def test_last_record_torn_at_every_byte_is_cut_and_written_again(tmp_path):
    fill(tmp_path, 1)
    path = tmp_path / "segment-000000.facts"
    start = path.stat().st_size
    FactLog.open(tmp_path).append(1, make_day(1), continues=False)
    whole = path.read_bytes()
    for end in range(start + 1, len(whole)):
        path.write_bytes(whole[:end])
        facts = FactLog.open(tmp_path)
        assert facts.days == range(1)
        assert len(facts.messages) == 1 and f"Its {end - start} bytes are left out" in facts.messages[0]
        if end % 64 == 0:  # each costs a wait for the disk
            facts.append(1, make_day(1), continues=False)
            assert path.read_bytes() == whole
    path.write_bytes(whole[:start] + bytes(len(whole) - start))  # as a power cut leaves a file that had grown
    facts = FactLog.open(tmp_path)
    assert_holds(facts, 1)
    facts.append(1, make_day(1), continues=False)
    assert path.read_bytes() == whole


def test_damage_in_the_middle_names_file_and_day(tmp_path):
    fill(tmp_path, 1)
    path = tmp_path / "segment-000000.facts"
    start = path.stat().st_size
    facts = FactLog.open(tmp_path)
    facts.append(1, make_day(1), continues=False)
    end = path.stat().st_size
    facts.append(2, make_day(2))
    whole = path.read_bytes()
    for position in [*range(start, start + 24), *range(start + 24, end, 5)]:  # every byte of the head
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        with pytest.raises(FactsError, match=r"segment-000000.facts, record of day 1 .* days before it are intact"):
            FactLog.open(tmp_path)
    read = facts.read()
    assert next(read)[0] == 0
    with pytest.raises(FactsError, match="record of day 1"):
        next(read)
    path.write_bytes(whole)
    assert_holds(FactLog.open(tmp_path), 3)


def test_damage_at_the_end_of_an_earlier_segment_is_no_torn_tail(tmp_path):
    fill(tmp_path, 3, segment_bytes=10)
    path = tmp_path / "segment-000001.facts"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FactsError, match="segment-000001.facts, record of day 1"):
        FactLog.open(tmp_path)


def test_missing_foreign_and_damaged_segments(tmp_path):
    with pytest.raises(FactsError, match="There are no facts in"):
        FactLog.open(tmp_path / "missing")
    fill(tmp_path, 3, segment_bytes=10)
    path = tmp_path / "segment-000001.facts"
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(FactsError, match="Restore segment-000001.facts"):
        FactLog.open(tmp_path)
    for content in (b"", b"not facts", whole[:40], whole[:30] + b"\0" + whole[31:]):
        path.write_bytes(content)
        with pytest.raises(FactsError, match=r"segment-000001.facts: its first record is not that of a fact log"):
            FactLog.open(tmp_path)
    path.write_bytes((tmp_path / "segment-000000.facts").read_bytes())
    with pytest.raises(FactsError, match="segment-000001.facts says that it is segment 0"):
        FactLog.open(tmp_path)


def test_a_segment_whose_making_was_interrupted_does_not_count(tmp_path):
    fill(tmp_path, 1)
    (tmp_path / "segment-000001.facts.tmp").write_bytes(b"FA")
    assert_holds(FactLog.open(tmp_path), 1)


def test_create_refuses_a_folder_with_facts_or_that_cannot_be_written(tmp_path):
    fill(tmp_path / "facts", 1)
    with pytest.raises(FactsError, match="already holds facts"):
        FactLog.create(tmp_path / "facts", SPEC, NUM_ENVS)
    (tmp_path / "file").write_text("")
    with pytest.raises(FactsError, match=r"cannot be written .* --run.folder"):
        FactLog.create(tmp_path / "file" / "facts", SPEC, NUM_ENVS)


def test_gaps_are_refused(tmp_path):
    facts = FactLog.create(tmp_path, SPEC, NUM_ENVS)
    for day in (1, -1):
        with pytest.raises(FactsError, match=f"Day {day} cannot be stored .* day 0 comes next"):
            facts.append(day, make_day(0))
    assert_holds(FactLog.open(tmp_path), 0)


def test_a_day_lived_again_must_be_the_same(tmp_path):
    fill(tmp_path, 3, segment_bytes=2000)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    facts = FactLog.open(tmp_path)
    facts.append(2, make_day(2))
    for name in FIELDS:
        other = getattr(make_day(2), name).copy()
        other.reshape(-1).view(np.uint8)[-1] ^= 1
        with pytest.raises(FactsError, match=rf"facts differ: .*segment-00000\d.facts, day 2, field {name}"):
            facts.append(2, make_day(2).replace(**{name: other}))
    with pytest.raises(FactsError, match="day 1, field continues"):
        facts.append(1, make_day(1), continues=True)
    with pytest.raises(FactsError, match="day 0, field obs"):
        facts.append(0, make_day(0, num_steps=2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


STACKED = EnvSpec("Toy-v0", "toys", "0.1", (4, 5, 6), "uint8", 4, frame_stack=3)


def make_stacked_day(seed, num_steps=40):
    """A day of random frames, stacked by the rules: the newest comes last, an episode begins with copies."""
    rng, day = np.random.default_rng(seed), make_day(seed, num_steps, STACKED)
    draw = lambda: rng.integers(0, 256, (4, 5, 2), dtype=np.uint8)  # noqa: E731
    ended = day.terminated | day.truncated
    now = [np.concatenate([draw(), draw(), draw()], axis=-1) for _ in range(NUM_ENVS)]
    for tick in range(num_steps):
        day.obs[tick] = now
        now = [np.concatenate([stack[..., 2:], draw()], axis=-1) for stack in now]
        day.next_obs[tick] = now
        for copy in np.flatnonzero(ended[tick]):
            now[copy] = np.concatenate([draw()] * 3, axis=-1)
    return day


def test_stacks_come_back_bit_for_bit_from_frames_stored_once(tmp_path):
    facts, days = FactLog.create(tmp_path, STACKED, NUM_ENVS), [make_stacked_day(seed) for seed in range(3)]
    for day, trajectory in enumerate(days):
        facts.append(day, trajectory)
        facts.append(day, trajectory)  # lived again, and compared whole
    opened = FactLog.open(tmp_path)
    assert opened.spec == STACKED
    for (_, _, stored), trajectory in zip(opened.read(), days, strict=True):
        assert_same(stored, trajectory)
    pixels, begun = 4 * 5 * 2, sum((day.terminated | day.truncated)[:-1].sum() for day in days)
    frames = 3 * NUM_ENVS * (3 + 40) + begun  # each copy's first stack and the newest of each step; and what began
    other = sum(getattr(day, name).nbytes for day in days for name in FIELDS if "obs" not in name)
    heads = 4 * 1200
    assert (
        frames * pixels + other < (tmp_path / "segment-000000.facts").stat().st_size < frames * pixels + other + heads
    )
    with pytest.raises(FactsError, match="facts differ: .*day 1, field next_obs"):
        facts.append(1, days[1].replace(next_obs=days[1].next_obs[::-1]))


def test_a_torn_record_of_frames_is_cut_and_written_again(tmp_path):
    path, day = tmp_path / "segment-000000.facts", make_stacked_day(1)
    facts = FactLog.create(tmp_path, STACKED, NUM_ENVS)
    facts.append(0, make_stacked_day(0))
    start = path.stat().st_size
    facts.append(1, day)
    whole = path.read_bytes()
    for end in (start + 1, start + 500, len(whole) - 1):
        path.write_bytes(whole[:end])
        facts = FactLog.open(tmp_path)
        assert facts.days == range(1) and len(facts.messages) == 1
        facts.append(1, day)
        assert path.read_bytes() == whole


def test_stacks_by_other_rules_are_refused_and_nothing_is_written(tmp_path):
    facts, day = FactLog.create(tmp_path, STACKED, NUM_ENVS), make_stacked_day(0)
    before = (tmp_path / "segment-000000.facts").read_bytes()
    for name in ("obs", "next_obs"):
        spoilt = getattr(day, name).copy()
        spoilt[7, 1, 0, 0, 0] ^= 1  # a pixel of an old frame that the frames before do not show
        with pytest.raises(FactsError, match=f"Day 0 of Toy-v0 was not stored: {name} is no stack of 3 frames"):
            facts.append(0, day.replace(**{name: spoilt}))
    assert (tmp_path / "segment-000000.facts").read_bytes() == before


def test_facts_of_before_stacks_were_known_are_read(tmp_path):
    """The head that earlier versions wrote does not name the frame stack."""
    head = {"format": 1, "segment": 0, "num_envs": NUM_ENVS, "spec": dataclasses.asdict(SPEC)}
    del head["spec"]["frame_stack"]
    day = make_day(0)
    arrays = {name: getattr(day, name) for name in FIELDS}
    about = {"about": json.dumps({"day": 0, "continues": False})}
    records = frame(json.dumps(head).encode()) + frame(safetensors.numpy.save(arrays, about))
    (tmp_path / "segment-000000.facts").write_bytes(records)
    facts = FactLog.open(tmp_path)
    assert facts.spec == SPEC
    ((number, continues, stored),) = facts.read()
    assert (number, continues) == (0, False)
    assert_same(stored, day)
    made = FactLog.create(tmp_path / "now", SPEC, NUM_ENVS)
    made.append(0, day, continues=False)
    now = (tmp_path / "now" / "segment-000000.facts").read_bytes()
    assert now.endswith(frame(safetensors.numpy.save(arrays, about)))  # and written as then


def test_what_does_not_fit_the_spec_is_refused(tmp_path):
    facts = FactLog.create(tmp_path, SPEC, NUM_ENVS)
    day = make_day(0)
    for name, array in {
        "obs": day.obs.astype(np.float32),
        "next_obs": day.next_obs[..., :2],
        "action": day.action.astype(np.int64),
        "reward": day.reward[:, :1],
        "action_mask": day.action_mask[..., :3],
        "terminated": day.terminated[:2],
    }.items():
        with pytest.raises(FactsError, match=rf"Day 0, field {name}: .* does not fit Toy-v0 with 2 copies"):
            facts.append(0, day.replace(**{name: array}))
    with pytest.raises(FactsError, match="Day 0 has no transitions"):
        facts.append(0, make_day(0, num_steps=0))


def lived(rewards, terminated, truncated):
    """One copy that counts: observation i of the row is followed by i + 1, rewards as given."""
    spec = EnvSpec("Count-v0", "toys", "0.1", (1,), "float32", 2)
    steps = np.arange(len(rewards), dtype=np.float32)[:, None, None]
    column = lambda values, dtype: np.array(values, dtype)[:, None]  # noqa: E731
    return spec, Transition(
        obs=steps,
        action_mask=np.ones((len(rewards), 1, 2), bool),
        action=column([0] * len(rewards), np.int32),
        reward=column(rewards, np.float32),
        terminated=column(terminated, bool),
        truncated=column(truncated, bool),
        next_obs=steps + 1,
    )


def test_episodes_by_hand(tmp_path):
    spec, day = lived([1, 2, 3, 4], [0, 1, 0, 0], [0, 0, 0, 0])
    facts = FactLog.create(tmp_path, spec, 1)
    facts.append(0, day)
    facts.append(1, day)  # goes on with what day 0 left open
    facts.append(2, day, continues=False)  # cuts it
    found = [
        (e["rewards"].tolist(), e["terminations"].tolist(), e["truncations"].tolist(), e["observations"][:, 0].tolist())
        for e in episodes(facts)
    ]
    no, yes = False, True
    assert found == [
        ([1, 2], [no, yes], [no, no], [0, 1, 2]),
        ([3, 4, 1, 2], [no, no, no, yes], [no] * 4, [2, 3, 0, 1, 2]),
        ([3, 4], [no, no], [no, yes], [2, 3, 4]),
        ([1, 2], [no, yes], [no, no], [0, 1, 2]),
        ([3, 4], [no, no], [no, yes], [2, 3, 4]),
    ]


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bool", "int32"])
def test_minari_reads_the_export(tmp_path, monkeypatch, dtype):
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    spec = EnvSpec("Toy-v0", "toys", "0.1", (4, 4, 3), dtype, 4)
    facts = FactLog.create(tmp_path / "facts", spec, NUM_ENVS)
    for day in range(2):
        facts.append(day, make_day(day, num_steps=10, spec=spec))
    export_minari(facts, tmp_path / "datasets", "toy/lived-v0")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    dataset = minari.load_dataset("toy/lived-v0")
    expected = list(episodes(facts))
    assert dataset.total_steps == 2 * 10 * NUM_ENVS and dataset.total_episodes == len(expected)
    for read, wanted in zip(dataset.iterate_episodes(), expected, strict=True):
        for name, array in wanted.items():
            np.testing.assert_array_equal(getattr(read, name), array)
        assert len(read.observations) == len(read.actions) + 1
        assert dataset.observation_space.contains(read.observations[0])
        assert read.terminations[-1] or read.truncations[-1]
    with pytest.raises(FactsError, match="already exists"):
        export_minari(facts, tmp_path / "datasets", "toy/lived-v0")


def test_minari_export_refuses_what_it_cannot_do(tmp_path, monkeypatch):
    facts = fill(tmp_path / "facts", 0)
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    with pytest.raises(FactsError, match=r"Minari is not installed .* pip install -r requirements-minari\.txt"):
        export_minari(facts, tmp_path, "toy-v0")
