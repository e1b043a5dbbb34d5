import dataclasses
import importlib.util
import json

import pytest

from dreamer.io.run_folder import config_hash
from dreamer.wake import envs
from dreamer.wake.envs import EnvConfig, JobWorldConfig, KnobsConfig
from experiments import PRESETS, Config
from experiments.build import build
from experiments.config import EvaluationConfig, RunConfig, from_dict, to_dict
from experiments.control import without_dreams
from experiments.cost import cost_of
from experiments.presets import PAPERS
from tests import runs, tiny


@pytest.mark.parametrize("config", [*PRESETS.values(), runs.config()], ids=lambda config: config.name)
def test_json_and_back(config):
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert hash(config) == hash(from_dict(to_dict(config)))


def test_presets_have_their_own_name():
    assert set(PAPERS) == {name for name in PRESETS if name.startswith(("atari", "minatar"))}
    assert {name: config.name for name, config in PRESETS.items()} == {name: name for name in PRESETS}


def test_constructor_arguments_survive_json():
    env = EnvConfig("DeepSea-bsuite", "gymnax", kwargs=(("size", 10), ("mapping", "x"), ("scale", 0.5), ("flag", True)))
    assert from_dict(to_dict(tiny.config(env=env))).env == env


def test_the_hash_names_the_experiment_and_neither_seed_nor_folder():
    config = runs.config()
    assert config.hash() == dataclasses.replace(config, seed=7).hash() == runs.in_folder(config, "elsewhere").hash()
    assert config.hash() != tiny.config(loop=dict(dream_ratio=8)).hash()
    assert tiny.config(loop=dict(epsilon=0.1)).hash() != tiny.config(loop=dict(epsilon=0.1, spell=2)).hash()
    dreams, ensemble = dict(imagine=dict(real_share=0.5)), dict(ensemble=dict(num_members=2))
    for changed in (dreams, ensemble, dict(loop=dict(epsilon=0.1)), dict(replay=dict(event_share=0.5))):
        assert config.hash() != tiny.config(**changed).hash()
    assert config.hash() != tiny.config(env=dict(knobs=KnobsConfig(slip=0.1))).hash()
    assert config.hash() != tiny.config(env=dict(knobs=KnobsConfig(hold=2))).hash()
    assert "hold" not in tiny.config(env=dict(knobs=KnobsConfig(slip=0.1))).identity()["env"]["knobs"]
    assert not {"imagine", "ensemble"} & set(config.identity()) and not {"epsilon", "spell"} & set(
        config.identity()["loop"]
    )
    assert "event_share" not in config.identity()["replay"]
    on_host = dataclasses.replace(config, replay=dataclasses.replace(config.replay, placement="host"))
    assert config.hash() == on_host.hash()  # the same rows, wherever they lie
    assert not {"knobs", "oracle", "jobworld", "frame_stack"} & set(config.identity()["env"])
    assert tiny.config(env=dict(frame_stack=2)).identity()["env"]["frame_stack"] == 2
    job = tiny.config(env=EnvConfig("JobWorld-v0", "jobworld"))  # a later default is another experiment
    of_job = job.identity()["env"]["jobworld"]
    assert of_job | {"blocks": 1} == dataclasses.asdict(JobWorldConfig()) != of_job  # older than its rows, and off
    assert config.hash() == config_hash(config.identity())  # the one that is written into the run's folder and rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(env=dict(num_envs=0)), "num_envs is 0.*set it to 1 or more"),
        (
            dict(env=dict(oracle=True), ensemble=dict(num_members=2)),
            "env.oracle is set, .*num_members is 2 and .* give 1",
        ),
        (dict(env=dict(suite="gym")), "unknown suite 'gym'; did you mean: atari, gymnasium, gymnax"),
        (dict(seed=-1), "seed is -1: give an integer from 0"),
        (
            dict(replay=dict(capacity=6)),
            r"unroll_steps \+ td_steps is 4 rows, .* holds 3 a copy: raise .* to 8 or more",
        ),
        (dict(replay=dict(capacity=8)), "steps_per_day is 5, .* holds 4 rows a copy: raise replay.capacity to 10"),
        (dict(loop=dict(real_transitions=44)), "real_transitions is 44, no whole number of days of 10 .*: give 40"),
        (dict(loop=dict(real_transitions=3)), "real_transitions is 3, .*: give 10"),
        (dict(loop=dict(actor="nobody")), "loop.actor is 'nobody': give one of planner, student"),
        (dict(loop=dict(batch_size=0)), "loop.batch_size is 0: give 1 or more"),
        (dict(loop=dict(spell=4)), "loop.spell is 4 at loop.epsilon 0.0: give 1 decision or more, and 1 where"),
        (dict(loop=dict(epsilon=1.5)), r"loop.epsilon is 1.5: give a share in \[0, 1\]"),
        (
            dict(loop=dict(epsilon=0.1), targets=dict(unsearched_policy="action")),
            "epsilon is 0.1 and targets.unsearched_policy 'action', .* drawn at random: give epsilon 0",
        ),
        (
            dict(targets=dict(research_fraction=0.0)),
            "research_fraction is 0, unsearched_policy none and imagine.real_share 1, so no row teaches the policy",
        ),
        (dict(targets=dict(research_fraction=0.0, value_source="mixed")), "value_source is 'mixed' .*ask what search"),
        (
            dict(targets=dict(research_fraction=0.0, value_source="n_step", bootstrap="search")),
            "bootstrap 'search', which ask what search says",
        ),
        (dict(model=dict(torso="residual", num_channels=1)), "model.num_channels is 1, .*: give 2 or more"),
        (dict(search=dict(cool_at=(5, 6))), r"search.cool_at is \(5, 6\): give rising shares"),
        (dict(search=dict(num_considered=0)), "num_considered is 0: give 1 or more"),
        (dict(update=dict(learning_rate=0.0)), "learning_rate is 0.0.* give positive numbers"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        tiny.config(**change)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EvaluationConfig(episodes=0), "evaluation.episodes is 0: give 1 or more"),
        (lambda: EvaluationConfig(every=0), "evaluation.every is 0: give 1 or more"),
        (lambda: RunConfig(checkpoint_every=0), "run.checkpoint_every is 0"),
        (lambda: RunConfig(wandb="on"), "run.wandb is 'on': give one of disabled, offline, online"),
    ],
)
def test_settings_of_measuring_and_writing_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(search=dict(num_considered=3)), "num_considered is 3, but the environment has 2 actions: give at most 2"),
        (dict(augment=dict(shift=4)), r"augment.shift is 4, intensity 0.0, but observations of shape \(4,\) are no"),
        (dict(env=dict(id="CartPol-v1")), "unknown gymnax environment 'CartPol-v1'; did you mean: CartPole-v1"),
        (dict(env=dict(kwargs=(("colour", 1),))), "kwargs .*colour.* do not fit CartPole-v1"),
        (dict(env=EnvConfig("CartPol-v1", "gymnasium")), "unknown gymnasium environment 'CartPol-v1'; did you mean"),
        (dict(env=EnvConfig("Blackjack-v1", "gymnasium")), "observations Tuple.*supported: a Box observation"),
        (dict(env=EnvConfig("Pendulum-v1", "gymnasium")), "actions Box.*supported: .* Discrete actions"),
        (dict(env=EnvConfig("Pendulum-v1", "gymnax")), "actions Box; supported: Discrete"),
    ],
)
def test_what_does_not_fit_the_environment_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build(tiny.config(**change))


def test_a_host_environment_whose_replay_does_not_fit_is_closed(monkeypatch):
    made, closed = [], []

    def make_host(*args):
        env = make(*args)
        close = env.close
        monkeypatch.setattr(env, "close", lambda: closed.append(env) or close())
        made.append(env)
        return env

    make = envs.make_host
    monkeypatch.setattr(envs, "make_host", make_host)
    with pytest.raises(ValueError, match="replay.capacity is 1000000000000, which takes"):
        build(tiny.config(env=EnvConfig("CartPole-v1", "gymnasium"), replay=dict(capacity=10**12)))
    assert len(made) == 1 and closed == made


@pytest.mark.parametrize(
    "switched",
    [
        dict(targets=dict(value_source="n_step")),  # mixed_from and mixed_after stay as they were
        dict(targets=dict(value_source="trace")),
        dict(replay=dict(priority_exponent=0.0)),  # importance weights are then 1, whatever their exponent
        dict(search=dict(method="puct")),
        dict(update=dict(optimizer="adamw")),
        dict(model=dict(value_prefix=0)),
    ],
)
def test_one_switch_of_a_preset_can_be_changed_alone(switched):
    config = PRESETS["atari100k-v2"]
    changes = {part: dataclasses.replace(getattr(config, part), **fields) for part, fields in switched.items()}
    assert dataclasses.replace(config, **changes) != config


@pytest.mark.skipif(importlib.util.find_spec("Box2D") is not None, reason="the package is there")
def test_a_missing_package_is_named():
    with pytest.raises(ImportError, match="LunarLander-v3: .*pip install"):
        build(tiny.config(env=EnvConfig("LunarLander-v3", "gymnasium")))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tree: tree.pop("seed"), r"config does not fit this version.*missing fields \['seed'\]"),
        (lambda tree: tree["loop"].update(pace=1), r"config.loop does not fit.*unknown fields \['pace'\]"),
        (lambda tree: tree.update(loop=3), "config.loop is 3, where fields are expected"),
    ],
)
def test_a_file_of_another_version_is_refused(spoil, message):
    tree = to_dict(runs.config())
    spoil(tree)
    with pytest.raises(ValueError, match=message):
        from_dict(tree)


def test_the_control_differs_in_its_dreams_alone():
    config = runs.in_folder(PRESETS["cartpole"], "here")
    control = without_dreams(config)
    assert isinstance(control, Config)
    assert control.loop.dream_ratio == 1
    assert control.targets.num_searched(control.loop.batch_size) == 0
    assert (control.name, control.run.folder) == ("cartpole-no-dreams", "here-no-dreams")
    changed = {
        field.name
        for field in dataclasses.fields(Config)
        if getattr(control, field.name) != getattr(config, field.name)
    }
    assert changed == {"name", "loop", "targets", "update", "run"}
    # Its 46 updates are not to be spent on warming up.
    assert control.update == dataclasses.replace(config.update, warmup_updates=4)
    assert control.hash() != config.hash()


@pytest.mark.parametrize(
    ("imagine", "message"),
    [
        (dict(horizon=3), "imagine.real_share is 1, so nothing is imagined, but"),
        (dict(real_share=0.99), "imagine.real_share is 0.99, which leaves no imagined row of loop.batch_size 8"),
        (dict(real_share=0.5, doubt_scale=1.0), "imagine.doubt_scale is 1.0, but one model"),
        (dict(real_share=0.5, value_source="expansion"), "imagine.value_source is 'expansion', but one model"),
        (dict(real_share=0.5, begin_after=40), "imagine.begin_after is 40: give loop.learn_after"),
        (dict(real_share=0.5, begin_after=5), "imagine.begin_after is 5: give loop.learn_after .10. to"),
    ],
)
def test_dreams_that_would_change_nothing_are_refused(imagine, message):
    with pytest.raises(ValueError, match=message):
        tiny.config(loop=dict(learn_after=10), imagine=imagine)


def test_the_control_imagines_nothing():
    control = without_dreams(tiny.config(loop=dict(batch_size=4), imagine=dict(real_share=0.5)))
    cost = cost_of(control, tiny.spec(), 0, 10, 0)
    assert cost.dreamed == cost.searched == 0 and cost.replayed == 40
