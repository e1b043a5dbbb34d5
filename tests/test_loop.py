import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.tabular import make_tabular_agent
from dreamer import replay as replays
from dreamer.core import trees
from dreamer.core.keys import stream
from dreamer.core.types import DreamTargets, Meters, Params, Transition
from dreamer.io import FactLog
from dreamer.loop import NIGHT_UPDATES, LoopConfig, LoopState, days_and_nights, make_night
from dreamer.replay import ReplayConfig
from dreamer.sleep.augment import AugmentConfig
from dreamer.sleep.fit import FitConfig
from dreamer.sleep.gate import STOPPED, Looks
from dreamer.sleep.imagine import ImagineConfig, make_imagine
from dreamer.sleep.targets import TargetsConfig
from dreamer.sleep.update import UpdateConfig, init_learner, make_optimizer
from experiments import build as build_module
from experiments.build import build
from tests import tiny, toys
from world_models.tabular import make_tabular


class Tape:
    """A loop's step that lives numbered transitions and writes down what it is asked to do."""

    def __init__(self, day_size=5, next_number=0, updates_before=0):
        self.day_size, self.next_number, self.updates_before = day_size, next_number, updates_before
        self.stored, self.nights = [], []

    def __call__(self, state, num_updates, *, store, live_on):
        if store:
            self.stored += list(np.ravel(state.pending.reward))
        self.nights.append(num_updates)
        pending = state.pending
        if live_on:
            numbers = np.arange(self.next_number, self.next_number + self.day_size, dtype=np.float32)
            self.next_number += self.day_size
            pending = Transition(**{f.name: numbers[None] for f in dataclasses.fields(Transition)})
        return LoopState(None, None, (), pending, None), {"night": jnp.float32(len(self.nights))}

    def turn(self, config, **kwargs):
        kwargs = {"state": LoopState(None, None, (), None, None), **kwargs}

        def cost_of(before, updates, lived):
            assert before + updates == sum(self.nights, self.updates_before)
            return Meters(real=lived, replayed=8 * updates, searched=1000 * updates + lived, updates=updates)

        return days_and_nights(self, config=config, cost_of=cost_of, **kwargs)


def config(**settings):
    return LoopConfig(**{"real_transitions": 60, "steps_per_day": 5, "dream_ratio": 3, "batch_size": 8, **settings})


def test_every_transition_is_handed_out_before_it_is_stored_and_stored_once():
    tape, handed = Tape(), []
    for event in tape.turn(config()):
        assert tape.stored == handed[: event.meters.real]
        if event.lived is not None:
            handed += list(np.ravel(event.lived.reward))
    assert handed == tape.stored == list(range(60))
    assert tape.next_number == 60  # no day is lived that nobody learns from


def test_events_and_meters_say_what_happened():
    tape, settings = Tape(), config(learn_after=12)
    events = list(tape.turn(settings))
    assert [event.nights for event in events] == list(range(13))
    assert events[0].meters == Meters() and events[-1].lived is None
    seconds = 0.0
    for event in events:
        real = 5 * event.nights
        updates = real * 3 // 8 if real >= 12 else 0
        assert dataclasses.replace(event.meters, seconds=0.0) == Meters(
            real=real, replayed=8 * updates, dreamed=0, searched=1000 * updates + real, updates=updates
        )
        assert event.meters.seconds >= seconds
        seconds = event.meters.seconds
    assert [bool(event.metrics) for event in events] == [bool(due) for due in tape.nights]
    assert tape.nights[:4] == [0, 0, 0, 5]  # the first day, two nights before `learn_after`, and one that catches up


@pytest.mark.parametrize("dream_ratio", [0, 1, 3, 7, 128])
@pytest.mark.parametrize("batch_size", [1, 8, 13, 128])
@pytest.mark.parametrize("learn_after", [0, 23, 60, 61])
def test_updates_are_exact_for_any_rhythm(dream_ratio, batch_size, learn_after):
    settings = config(dream_ratio=dream_ratio, batch_size=batch_size, learn_after=learn_after)
    tape = Tape()
    *_, last = tape.turn(settings)
    expected = 60 * dream_ratio // batch_size if learn_after <= 60 else 0
    assert sum(tape.nights) == last.meters.updates == settings.updates_due(60) == expected
    assert all(due >= 0 for due in tape.nights)
    # How long a day is never changes how much is learned from as many transitions.
    *_, other = Tape(day_size=20).turn(settings)
    assert other.meters.updates == expected


def test_resuming_at_an_event_goes_on_as_if_nothing_had_happened():
    whole, half, rest = Tape(), Tape(), Tape()
    events = [dataclasses.replace(event.meters, seconds=0.0) for event in whole.turn(config())]
    for event in half.turn(config()):
        if event.nights == 5:
            break
    rest.next_number, rest.updates_before = half.next_number, event.meters.updates
    late = list(rest.turn(config(), state=event.state, after=event))
    assert half.stored + rest.stored == whole.stored
    assert [dataclasses.replace(event.meters, seconds=0.0) for event in late] == events[6:]
    assert half.nights + rest.nights == whole.nights
    assert late[0].meters.seconds >= event.meters.seconds


@pytest.mark.parametrize("dream_ratio", [3, 0])
def test_final_updates_are_made_in_nights_of_their_own(dream_ratio):
    tape, settings = Tape(), config(dream_ratio=dream_ratio, final_updates=25, final_night=10)
    events = list(tape.turn(settings))
    due = 60 * dream_ratio // 8
    assert tape.nights[-3:] == [10, 10, 5] and len(events) == 13 + 3
    assert tape.stored == list(range(60)) and tape.next_number == 60  # no day is lived or stored twice
    assert [event.lived is None for event in events] == [False] * 12 + [True] * 4
    assert [event.meters.updates for event in events[-4:]] == [due, due + 10, due + 20, due + 25]
    assert dataclasses.replace(events[-1].meters, seconds=0.0) == Meters(
        real=60, replayed=8 * (due + 25), searched=1000 * (due + 25) + 60, updates=due + 25
    )
    assert [settings.finished(60, event.meters.updates) for event in events[-4:]] == [False] * 3 + [True]
    assert settings.num_updates == due + 25 and not settings.finished(55, due + 25)


@pytest.mark.parametrize("nights", [11, 12, 13, 14])
def test_resuming_among_the_final_nights(nights):
    settings = config(final_updates=25, final_night=10)
    whole, half, rest = Tape(), Tape(), Tape()
    events = list(whole.turn(settings))
    event = next(event for event in half.turn(settings) if event.nights == nights)
    rest.next_number, rest.updates_before = half.next_number, event.meters.updates
    late = list(rest.turn(settings, state=event.state, after=event))
    assert half.nights + rest.nights == whole.nights and half.stored + rest.stored == whole.stored
    assert [other.meters.updates for other in late] == [event.meters.updates for event in events[nights + 1 :]]


def test_progress_is_of_the_updates_that_go_along_with_living():
    settings = config(final_updates=100)  # 22 updates while it lives
    np.testing.assert_allclose([settings.progress(n) for n in (0, 11, 22, 122)], [0, 0.5, 1, 1])
    assert config(dream_ratio=0, final_updates=5).progress(0) == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [("real_transitions", 0), ("steps_per_day", 0), ("batch_size", 0), ("dream_ratio", -1), ("learn_after", -1)]
    + [("actor", "teacher"), ("final_updates", -1), ("final_night", 0)],
)
def test_bad_rhythms_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=f"loop.{setting} is {value!r}"):
        LoopConfig(**{setting: value})


def whole_table_night(reward=0.0, clip_rewards=False, dreams=None, event_share=0.0, unroll_steps=1, **settings):
    """Returns (night, learner, replay) on tables; its targets are 1 + reward + the value that made them."""
    world = tiny.corridor(3)
    model, agent = make_tabular(*world.tables, num_unroll_steps=unroll_steps), make_tabular_agent(*world.shape)
    target, replay = (
        TargetsConfig(unroll_steps=unroll_steps, td_steps=1, clip_rewards=clip_rewards),
        ReplayConfig(capacity=20, priority_exponent=1.0, event_share=event_share),
    )
    loop, dreams = config(batch_size=4), dreams or ImagineConfig()
    optimise = UpdateConfig(
        learning_rate=0.1, warmup_updates=0, final_share=1.0, target_period=2, target_step=1.0, **settings
    )
    optimizer = make_optimizer(optimise, num_updates=1000)

    def targets(params, batch, keys, *, return_spread, progress):
        shape = len(batch.reward), unroll_steps + 1
        assert keys.shape == (shape[0] // 2, shape[1])  # half of the rows, K + 1 states
        value = 1 + batch.reward[:, : shape[1]] + params.agent["value"][jnp.zeros(shape, jnp.int32)]
        return DreamTargets(jnp.full((*shape, 2), 0.5), jnp.ones(shape), value, jnp.ones(shape))

    night = make_night(
        model,
        agent,
        targets,
        make_imagine(model, agent, None, dreams, gamma=world.gamma, min_spread=0.01),
        optimizer,
        loop=loop,
        replay=replay,
        target=target,
        imagination=dreams,
        fit=FitConfig(),
        optimise=optimise,
        augmentation=AugmentConfig(),
    )
    lead, states = (12, 1), jnp.zeros((12, 1), jnp.int32)
    flags, ones = jnp.zeros(lead, bool), jnp.ones((*lead, 2), bool)
    lived = Transition(states, ones, states, jnp.full(lead, reward), flags, flags, states)
    state = replays.insert(replays.init(replay, jax.tree.map(lambda leaf: leaf[0], lived), 1, frame_stack=1), lived)
    return night, init_learner(Params({}, agent.init(None, None)), optimizer), state


def test_events_within_the_unroll_are_what_a_night_asks_for():
    reward = jnp.zeros((12, 1)).at[5].set(0.5)
    night, learner, state = whole_table_night(reward, event_share=0.999, unroll_steps=2)
    _, after, _ = jax.jit(night)(learner, state, jnp.int32(0), jnp.int32(8), jnp.uint32(0))
    changed = np.flatnonzero(np.asarray(after.priority[0] != state.priority[0]))
    np.testing.assert_array_equal(changed, [4, 5])


@functools.cache
def table_night(**settings):
    """Returns (jitted night of (learner, replay, updates), learner, replay), see `whole_table_night`."""
    night, learner, state = whole_table_night(**settings)
    seed = jnp.uint32(0)
    return jax.jit(lambda learner, state, num: night(learner, state, learner.updates, num, seed)), learner, state


def test_targets_come_from_the_lagged_params():
    night, learner, state = table_night()
    values, told = [0.0], []
    for _ in range(5):
        learner, state, metrics = night(learner, state, jnp.int32(1))
        values.append(float(learner.params.agent["value"][0]))
        told.append(float(metrics["value_target"]))
    assert len(set(values)) == 6
    np.testing.assert_allclose(told, 1 + np.array(values)[[0, 0, 2, 2, 4]], rtol=1e-6)


def test_one_long_night_is_many_short_ones():
    night, learner, state = table_night()
    long = night(learner, state, jnp.int32(5))
    for _ in range(5):
        learner, state, _ = night(learner, state, jnp.int32(1))
    assert trees.digest(long[:2]) == trees.digest((learner, state))


@pytest.mark.parametrize(("reward", "told"), [(-7.0, 0.0), (0.5, 2.0), (0.0, 1.0)])
def test_the_night_learns_from_signs_and_the_facts_stay(reward, told):
    night, learner, state = table_night(reward=reward, clip_rewards=True)
    _, after, metrics = night(learner, state, jnp.int32(1))
    np.testing.assert_allclose(metrics["value_target"], told)
    np.testing.assert_array_equal(after.rows.reward[:, :12], reward)
    *_, metrics = table_night(reward=reward)[0](learner, state, jnp.int32(1))
    np.testing.assert_allclose(metrics["value_target"], 1 + reward)


LAST = 0.6  # of the values in the next test, between the sixth and the seventh


@pytest.mark.parametrize(("limit", "made"), [(9.0, 7), (0.0, 3), (0.5, 6), (LAST, 7)])
def test_a_night_ends_at_the_look_that_says_so(limit, made):
    learner, state = table_night()[1:]
    looked_at, *_ = whole_table_night()

    def look(params, highest):
        value = params.agent["value"][0]
        return jnp.maximum(highest, value), value > limit, {"value": value}

    looks = Looks(3, lambda params: params.agent["value"][0], look)
    settings = {"made": jnp.int32(0), "num_updates": jnp.int32(7), "seed": jnp.uint32(0), "looks": looks}
    values = [float(table_night()[0](learner, state, jnp.int32(n))[0].params.agent["value"][0]) for n in (3, 6, 7)]
    assert 0 < values[0] < 0.5 < values[1] < LAST < values[2] < 9.0  # what the limits are about
    *after, metrics = jax.jit(lambda learner, state: looked_at(learner, state, **settings))(learner, state)
    *plain, unseen = table_night()[0](learner, state, jnp.int32(made))
    assert trees.digest(after) == trees.digest(plain)
    assert metrics.pop(NIGHT_UPDATES) == made and metrics.pop(STOPPED) == (made < 7)
    np.testing.assert_allclose(metrics.pop("value"), after[0].params.agent["value"][0])
    assert metrics.keys() == unseen.keys()
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), metrics, unseen)


def test_what_a_night_that_stopped_early_left_is_due_in_the_next_one():
    class Watched(Tape):
        def __call__(self, state, num_updates, **kwargs):
            state, metrics = super().__call__(state, num_updates, **kwargs)
            self.nights[-1] = made = min(num_updates, 2 if state.pending.reward.max() < 30 else 1)
            self.due.append(num_updates)
            return state, metrics | {NIGHT_UPDATES: jnp.int32(made)}

    tape, settings = Watched(), config(dream_ratio=4)
    tape.due = []
    *_, last = tape.turn(settings)
    assert tape.nights == [0] + [2] * 5 + [1] * 7
    assert tape.due[:7] == [0, 2, 3, 3, 4, 4, 5]  # 20 rows a day are 2.5 updates
    assert last.meters.updates == 17 < settings.num_updates and last.nights == 12 and last.lived is None
    assert tape.stored == list(range(60))


def test_heads_begin_anew_after_their_period_in_any_rhythm():
    night, learner, state = table_night(reset_every=2)
    long = night(learner, state, jnp.int32(5))
    for count in range(1, 6):
        learner, state, _ = night(learner, state, jnp.int32(1))
        assert (learner.params.agent["value"][0] == 0) == (count in (2, 4))  # tables begin at 0
    assert trees.digest(long[:2]) == trees.digest((learner, state))


# Without search, from the fourth update on.
LATE_DREAMS = ImagineConfig(real_share=0.5, horizon=2, begin_after=4, policy_source="none", value_source="lambda")


def test_what_dreams_say_is_a_mean_over_the_updates_that_dreamed():
    night, learner, state = table_night(dreams=LATE_DREAMS)
    *_, long = night(learner, state, jnp.int32(5))
    told = []
    for _ in range(5):
        learner, state, metrics = night(learner, state, jnp.int32(1))
        told.append(metrics)
    assert [float(metrics["dream_weight"]) > 0 for metrics in told] == [False] * 3 + [True] * 2
    for name, value in long.items():
        some = told[3:] if name.startswith("dream_") else told
        np.testing.assert_allclose(value, np.mean([metrics[name] for metrics in some]), rtol=1e-5)


def conditions(jaxpr):
    """Yields the shape of every condition in a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "cond":
            yield equation.invars[0].aval.shape
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from conditions(inner)


def test_of_several_seeds_too_what_is_not_due_is_not_computed():
    night, *state = whole_table_night(dreams=LATE_DREAMS, reset_every=2)
    numbers = jnp.int32(0), jnp.int32(5)
    alone = jax.make_jaxpr(night)(*state, *numbers, jnp.uint32(0))
    several = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state)
    nights = jax.vmap(night, (0, 0, None, None, 0))
    together = jax.make_jaxpr(nights)(*several, *numbers, jnp.arange(2, dtype=jnp.uint32))
    assert [*conditions(together.jaxpr)] == [*conditions(alone.jaxpr)] == [(), ()]  # dreams, and new networks


def test_row_errors_become_priorities_and_none_are_changed_without_an_update():
    night, learner, state = table_night()
    _, after, metrics = night(learner, state, jnp.int32(0))
    assert trees.digest(after) == trees.digest(state)
    assert all(float(value) == 0 for value in metrics.values())
    learner = learner.replace(params=Params({}, {**learner.params.agent, "value": jnp.full(4, -1.5)}))
    _, after, _ = night(learner, state, jnp.int32(1))  # target 1, value -1.5
    changed = np.asarray(after.priority != state.priority)
    assert 1 <= changed.sum() <= 4
    np.testing.assert_allclose(after.priority[changed], 2.5)


@functools.cache
def counting_run():
    """Runs the whole engine on the tape recorder; returns its config, parts, events (as they were) and lived [T, E]."""
    settings = tiny.config(loop={"dream_ratio": 3, "learn_after": 20})
    parts = build(settings, env=toys.counting())
    events, lived = [], []
    for event in turn(parts):
        if event.lived is not None:
            lived.append(jax.tree.map(np.array, event.lived))
        events.append((event.nights, event.meters, event.metrics, int(event.state.learner.updates)))
    return settings, parts, events, jax.tree.map(lambda *days: np.concatenate(days), *lived), event.state


def turn(parts):
    return days_and_nights(parts.step, parts.init(), config=parts.config.loop, cost_of=parts.cost_of)


def test_the_engine_stores_each_life_whole_and_in_order():
    settings, _, _, lived, state = counting_run()
    assert lived.reward.shape == (20, 2)
    for copy in range(2):
        episode, step = 0, 0
        for i in range(20):
            tag = int(toys.counting_tag(stream(settings.seed, "reset", copy, episode)))
            np.testing.assert_array_equal(lived.obs[i, copy, :2], [tag, step])
            np.testing.assert_array_equal(lived.next_obs[i, copy, [0, 1, 3]], [tag, step + 1, lived.action[i, copy]])
            assert lived.reward[i, copy] == tag % 7 + step
            step += 1
            if lived.terminated[i, copy] or lived.truncated[i, copy]:
                episode, step = episode + 1, 0
        assert episode > 2
    assert state.replay.stored == 20
    rows = state.replay.rows
    for name in ("action_mask", "action", "reward", "terminated", "truncated"):
        np.testing.assert_array_equal(np.swapaxes(getattr(rows, name)[:, :20], 0, 1), getattr(lived, name))
    place, copies = np.asarray(rows.place[:, :20]).T, np.arange(2)
    np.testing.assert_array_equal(state.replay.frames[copies, place], lived.obs)
    np.testing.assert_array_equal(state.replay.frames[copies, place + 1], lived.next_obs)


def test_the_engine_never_learns_across_a_reset():
    settings, _, _, _, state = counting_run()
    batch = replays.sample(settings.replay, state.replay, jax.random.key(0), batch_size=200, length=4)
    tags, steps = batch.obs[..., 0], batch.obs[..., 1]
    assert 0.2 < batch.valid.mean() < 1
    np.testing.assert_array_equal(tags, np.broadcast_to(tags[:, :1], tags.shape))
    np.testing.assert_array_equal((steps[:, 1:] - steps[:, :-1])[batch.valid], 1)


def test_the_engine_remembers_stacks_by_their_frames_and_learns_from_augmented_ones(tmp_path):
    settings = tiny.config(
        loop={"real_transitions": 60, "actor": "student", "dream_ratio": 2},
        replay={"capacity": 32, "priority_exponent": 0.5, "importance_final": 1.0},
        targets={"research_fraction": 0.0, "unsearched_policy": "action"},
        augment={"shift": 1, "intensity": 0.05},
    )
    parts, lived = build(settings, env=toys.stacked()), []
    facts = FactLog.create(tmp_path, parts.spec, 2)
    for event in turn(parts):
        if event.lived is not None:
            lived.append(jax.tree.map(np.array, event.lived))
            facts.append(event.nights, lived[-1])
    assert all(np.isfinite(value) for value in event.metrics.values())
    for (_, _, stored), day in zip(FactLog.open(tmp_path).read(), lived, strict=True):
        jax.tree.map(np.testing.assert_array_equal, stored, day)
    lived = jax.tree.map(lambda *days: np.concatenate(days), *lived)
    state = event.state.replay
    assert state.frames.shape == (2, 16 + 3, 3, 3, 1) and 8 < replays.num_stored(state) < 32
    batch = replays.sample(settings.replay, state, jax.random.key(0), batch_size=64, length=4)
    tick, copy = 29 - np.asarray(batch.age) // 2, np.asarray(batch.index) // 16
    np.testing.assert_array_equal(batch.obs[:, 0], lived.obs[tick, copy])
    for row in range(4):
        held = np.asarray(batch.valid[:, row])
        np.testing.assert_array_equal(batch.obs[held, row + 1], lived.next_obs[tick[held] + row, copy[held]])


def test_the_engine_counts_what_it_does():
    settings, _, events, _, _ = counting_run()
    for nights, meters, metrics, updates in events:
        due = 10 * nights * 3 // 8 if nights >= 2 else 0
        assert (meters.real, meters.updates, meters.replayed) == (10 * nights, due, 8 * due) and updates == due
        # Four simulations for each decision, and in each update for 3 states of each of 4 of the 8 sequences.
        assert meters.searched == 4 * (10 * nights + due * 4 * 3)
        assert all(np.isfinite(value) for value in metrics.values())
    assert "grad_norm" in events[-1][2] and events[1][2] == {}


def test_the_engine_is_compiled_once_and_a_second_life_is_the_same():
    _, parts, _, _, state = counting_run()
    *_, last = turn(parts)
    assert parts.step.program._cache_size() == 1
    assert trees.digest((last.state.learner, last.state.replay)) == trees.digest((state.learner, state.replay))


def test_the_student_by_day_searches_nothing_by_day():
    student, planner = (
        build(tiny.config(loop={"actor": actor}), env=toys.counting()) for actor in ("student", "planner")
    )
    assert [parts.cost_of(0, 0, 10).searched for parts in (student, planner)] == [0, 40]
    assert [parts.cost_of(5, 2, 10).searched for parts in (student, planner)] == [2 * 4 * 3 * 4, 2 * 4 * 3 * 4 + 40]


def test_branches_begin_in_one_replayed_state(monkeypatch):
    seen = []
    make = build_module.make_imagine

    def overheard(*args, **settings):
        imagine = make(*args, **settings)

        def hear(params, obs, *rest, **told):
            jax.debug.callback(lambda obs: seen.append(np.asarray(obs)), obs)
            return imagine(params, obs, *rest, **told)

        return hear

    monkeypatch.setattr(build_module, "make_imagine", overheard)
    imagine = {"real_share": 0.5, "horizon": 2, "branches": 2}
    for _ in turn(build(tiny.config(imagine=imagine), env=toys.counting())):
        pass
    jax.effects_barrier()
    starts = np.stack(seen)  # [updates, 4 rollouts, obs]
    assert len(starts) == 20 and starts.shape[1] == 4
    np.testing.assert_array_equal(starts[:, 0::2], starts[:, 1::2])
    assert (starts[:, 0] != starts[:, 2]).any(axis=-1).mean() > 0.5


@pytest.mark.parametrize("begin_after", [0, pytest.param(23, marks=pytest.mark.learn)])
def test_rollouts_are_counted_row_by_row_and_begin_on_time(begin_after):
    imagine = {"real_share": 0.55, "horizon": 3, "branches": 2, "begin_after": begin_after}
    parts = build(tiny.config(imagine=imagine), env=toys.counting())
    twin, first = Meters(), begin_after * 4 // 8
    for event in turn(parts):
        for update in range(twin.updates, event.meters.updates):
            dreamed = 3 if update >= first else 0  # of 8 rows five are real, for 0.55 is rounded up
            searched = 4 * (math.ceil(0.5 * (8 - dreamed)) * 3 + dreamed * 4)
            twin = twin.plus(Meters(replayed=8 - dreamed, dreamed=dreamed, searched=searched, updates=1), seconds=0.0)
        lived = 10 * bool(event.nights)
        twin = twin.plus(Meters(real=lived, searched=4 * lived), seconds=0.0)
        assert dataclasses.replace(event.meters, seconds=0.0) == twin
        if event.metrics:
            assert (float(event.metrics["dream_weight"]) > 0) == (event.meters.dreamed > 0)
            assert all(np.isfinite(value) for value in event.metrics.values())
    assert twin.real == 40 and twin.updates == 20 and twin.dreamed == 3 * (20 - first)
    assert parts.step.program._cache_size() == 1
