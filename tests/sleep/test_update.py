import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core import trees
from dreamer.core.types import Params
from dreamer.sleep.update import (
    UpdateConfig,
    init_learner,
    init_train_state,
    make_optimizer,
    renew,
    train_step,
    update,
)

CONFIG = UpdateConfig(learning_rate=0.1, warmup_updates=0, weight_decay=0.01, max_grad_norm=2.0, final_share=1.0)


def learner_of(value, config):
    return init_learner(Params({}, {"w": jnp.asarray(value, jnp.float32)}), make_optimizer(config, num_updates=1000))


def advance(learner, config, num_updates, value_targets=None, gradient=None):
    """Updates on loss 3 w^2 / 2, or with a gradient given; returns all states."""
    optimizer = make_optimizer(config, num_updates=1000)
    targets = jnp.zeros(4) if value_targets is None else value_targets

    def loss(params):
        w = params.agent["w"]
        return (1.5 * w**2 if gradient is None else gradient * w).sum(), ({"given": w.sum()}, jnp.arange(2.0))

    @jax.jit
    def once(learner):
        return update(learner, loss, targets, optimizer=optimizer, config=config)

    states = []
    for _ in range(num_updates):
        learner, metrics, errors = once(learner)
        states.append((learner, metrics))
        np.testing.assert_array_equal(errors, [0, 1])
    return states


def test_members_of_a_map_that_share_their_parameters_step_down_the_mean_of_their_losses():
    optimizer = make_optimizer(CONFIG, num_updates=1000)
    state, wanted = init_train_state({"w": jnp.array([3.0, -1.0])}, optimizer), jnp.array([[1.0, 0.0], [0.0, 5.0]])

    def loss(target):
        return lambda params: (((params["w"] - target) ** 2).sum(), target)

    def shared(target):
        return train_step(state, loss(target), optimizer=optimizer, axis="members")

    def mean(params):
        return jnp.mean(jnp.array([loss(target)(params)[0] for target in wanted])), ()

    after, aux, norm = jax.vmap(shared, axis_name="members")(wanted)
    expected, _, expected_norm = train_step(state, mean, optimizer=optimizer)
    for member in (0, 1):
        np.testing.assert_allclose(after.params["w"][member], expected.params["w"], rtol=1e-6)
    np.testing.assert_allclose(norm, [expected_norm] * 2, rtol=1e-6)
    np.testing.assert_array_equal(aux, wanted)


def test_adamw_behind_a_clip_by_hand():
    w, m, v = 1.0, 0.0, 0.0
    states = advance(learner_of([1.0], CONFIG), CONFIG, 3)
    for count, (learner, metrics) in enumerate(states, start=1):
        gradient = 3 * w
        np.testing.assert_allclose(metrics["grad_norm"], gradient, rtol=1e-5)  # as it was before the clip
        np.testing.assert_allclose(metrics["given"], w, rtol=1e-5)
        clipped = min(gradient, 2.0)
        m, v = 0.9 * m + 0.1 * clipped, 0.999 * v + 0.001 * clipped**2
        adam = m / (1 - 0.9**count) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
        w -= 0.1 * (adam + 0.01 * w)
        np.testing.assert_allclose(learner.params.agent["w"], [w], rtol=1e-5)
        assert learner.updates == count


def test_sgd_by_hand():
    config = dataclasses.replace(CONFIG, optimizer="sgd", momentum=0.5)
    w, momentum = 1.0, 0.0
    for learner, _ in advance(learner_of([1.0], config), config, 4):
        # The decay is part of the gradient: after the clip, before the momentum, and times the step size.
        momentum = 0.5 * momentum + min(3 * w, 2.0) + 0.01 * w
        w -= 0.1 * momentum
        np.testing.assert_allclose(learner.params.agent["w"], [w], rtol=1e-5)


def test_sgd_warms_up_stays_and_falls_at_once():
    config = UpdateConfig(
        optimizer="sgd",
        momentum=0.0,
        learning_rate=0.1,
        warmup_updates=4,
        final_share=0.1,
        fall_after=2,
        weight_decay=0,
    )
    values = [1.0] + [float(s.params.agent["w"][0]) for s, _ in advance(learner_of([1.0], config), config, 8)]
    rates = -np.diff(values) / (3 * np.array(values[:-1]))
    np.testing.assert_allclose(rates, [0, 0.025, 0.05, 0.075, 0.1, 0.1, 0.01, 0.01], rtol=1e-4, atol=1e-6)


def renewed(learner, config):
    fresh = Params({"m": jnp.array([9.0])}, {"w": jnp.array([8.0])})
    optimizer = make_optimizer(config, num_updates=1000)

    @jax.jit
    def run(learner):
        made = learner.updates
        return renew(learner, lambda: fresh, optimizer=optimizer, config=config, made=made, num_updates=6)

    return run(learner)


def aged(config, updates):
    """A learner with weights 1 and 2, targets 5 and 6, and an optimiser that has moved."""
    params = Params({"m": jnp.array([1.0])}, {"w": jnp.array([2.0])})
    optimizer = make_optimizer(config, num_updates=1000)
    learner = init_learner(params, optimizer)
    for _ in range(3):
        opt_state = optimizer.update(params, learner.opt_state, params)[1]
        learner = learner.replace(opt_state=opt_state)
    target = Params({"m": jnp.array([5.0])}, {"w": jnp.array([6.0])})
    return learner.replace(target=target, updates=jnp.int32(updates))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("reset_heads", [True, False])
def test_renewal_by_hand(optimizer, reset_heads):
    config = dataclasses.replace(CONFIG, optimizer=optimizer, reset_every=2, shrink=0.25, reset_heads=reset_heads)
    old = aged(config, updates=4)
    new = renewed(old, config)
    kept = 0.0 if reset_heads else 0.25
    np.testing.assert_allclose(new.params.model["m"], [0.25 * 1 + 0.75 * 9])
    np.testing.assert_allclose(new.target.model["m"], [0.25 * 5 + 0.75 * 9])
    np.testing.assert_allclose(new.params.agent["w"], [kept * 2 + (1 - kept) * 8])
    np.testing.assert_allclose(new.target.agent["w"], [kept * 6 + (1 - kept) * 8])
    # Every moment and Adam's count begin anew; the place in the schedule stays.
    before, after = (sorted(float(x.sum()) for x in jax.tree.leaves(state.opt_state)) for state in (old, new))
    assert sum(value != 0 for value in before) >= 3
    assert after == [0.0] * (len(after) - 1) + [3.0]
    assert new.updates == 4 and new.return_spread == old.return_spread


@pytest.mark.parametrize(("updates", "due"), [(1, False), (2, True), (3, False), (4, True), (5, False), (6, False)])
def test_renewal_is_periodic_and_leaves_time_to_recover(updates, due):
    config = dataclasses.replace(CONFIG, reset_every=2)
    learner = aged(config, updates)
    assert (trees.digest(renewed(learner, config)) != trees.digest(learner)) == due  # 6 updates are the whole run


def test_clip_is_of_the_global_norm():
    # Adam forgets the scale of its first gradient but not of later ones: 3 and 4 have norm 5 and are scaled by 2/5.
    gradient = jnp.array([3.0, 4.0])
    (learner, metrics), *_ = advance(learner_of([0.0, 0.0], CONFIG), CONFIG, 1, gradient=gradient)
    np.testing.assert_allclose(metrics["grad_norm"], 5.0)
    first_moment = jax.tree.leaves(learner.opt_state[1][0].mu)[0]
    np.testing.assert_allclose(first_moment, 0.1 * gradient * 2 / 5, rtol=1e-6)


def test_warm_up_starts_at_zero_and_grows_linearly():
    config = UpdateConfig(learning_rate=0.1, warmup_updates=4, weight_decay=0.0)
    values = [1.0] + [float(s.params.agent["w"][0]) for s, _ in advance(learner_of([1.0], config), config, 6)]
    steps = -np.diff(values)
    # Adam's first steps on a nearly constant gradient are close to the step size.
    np.testing.assert_allclose(steps, 0.1 * np.minimum(np.arange(6) / 4, 1), atol=0.01)
    assert steps[0] == 0


def test_target_copies_at_its_period():
    config = dataclasses.replace(CONFIG, target_period=3, target_step=1.0)
    states = advance(learner_of([1.0], config), config, 7)
    online = [1.0] + [float(s.params.agent["w"][0]) for s, _ in states]
    target = [float(s.target.agent["w"][0]) for s, _ in states]
    assert target == [1.0, 1.0, online[3], online[3], online[3], online[6], online[6]]


def test_target_follows_as_a_running_mean():
    config = dataclasses.replace(CONFIG, target_period=2, target_step=0.25)
    target = 1.0
    for count, (learner, _) in enumerate(advance(learner_of([1.0], config), config, 5), start=1):
        if count % 2 == 0:
            target = 0.75 * target + 0.25 * float(learner.params.agent["w"][0])
        np.testing.assert_allclose(learner.target.agent["w"], [target], rtol=1e-6)


def test_spread_of_returns_by_hand():
    targets = jnp.arange(101.0)  # 5th to 95th percentile: 90
    learner, _ = advance(learner_of([1.0], CONFIG), CONFIG, 1, targets)[-1]
    np.testing.assert_allclose(learner.return_spread, 90, rtol=1e-6)
    learner, metrics = advance(learner, CONFIG, 1, jnp.full(7, 3.0))[-1]  # spread 0, at rate 1/2
    np.testing.assert_allclose(learner.return_spread, 45, rtol=1e-6)
    np.testing.assert_allclose(metrics["return_spread"], 45, rtol=1e-6)
    old = learner.replace(updates=jnp.int32(5000))
    learner, _ = advance(old, CONFIG, 1, jnp.full(7, 3.0))[-1]  # at rate 1/100 from the hundredth update on
    np.testing.assert_allclose(learner.return_spread, 45 * 0.99, rtol=1e-6)


def test_target_starts_as_a_copy_of_its_own():
    learner = learner_of([1.0], CONFIG)
    assert learner.target.agent["w"] is not learner.params.agent["w"]
    np.testing.assert_array_equal(learner.target.agent["w"], learner.params.agent["w"])


@pytest.mark.parametrize(
    ("setting", "value"),
    [("learning_rate", 0.0), ("max_grad_norm", -1.0), ("warmup_updates", -1), ("weight_decay", -0.1)]
    + [("target_period", 0), ("target_step", 1.5), ("momentum", 1.0), ("optimizer", "'adam'"), ("shrink", 1.5)]
    + [("final_share", -0.5), ("fall_after", -1), ("reset_every", -1)]
    + [("momentum", 0.5)],  # of sgd, and the default is adamw
)
def test_bad_settings_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=f"{setting}.* {value}"):
        UpdateConfig(**{setting: value.strip("'") if isinstance(value, str) else value})
