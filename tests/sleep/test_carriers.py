"""What carries what a night taught: low-rank changes by hand, and memories that are the session's own places."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.session_slot import SessionSlotConfig, make_session_slot
from dreamer.core.ports import in_copies
from dreamer.core.types import Transition
from dreamer.sleep import carriers
from dreamer.sleep.carriers import CarrierConfig, make_carrier, spread
from tests import tiny

SPEC = tiny.spec()
SLOT = make_session_slot(SPEC, SessionSlotConfig(num_layers=2, width=8, num_heads=2, num_slots=6))
T = 5


@functools.cache
def params():
    like = jax.eval_shape(SLOT.agent.init, jax.random.key(0), jnp.zeros((1, *SPEC.obs_shape)))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 2, like)


@functools.cache
def session():
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, T, *SPEC.obs_shape)).astype(np.float32)
    ends = np.zeros(T, bool)
    action = rng.integers(SPEC.num_actions, size=T).astype(np.int32)
    return Transition(obs, np.ones((T, SPEC.num_actions), bool), action, obs[:, 0], ends, ends, next_obs)


def logits(agent):
    obs = session().obs
    return SLOT.agent.evaluate(agent.params, in_copies(agent.memory, T), obs).logits


def known(carrier):
    """What the carrier makes of the session, before anything is learned."""
    begun = carrier.begin(jax.random.key(0), params())
    filled = carrier.fill(begun, params(), session())
    assert jax.tree.map(jnp.shape, begun) == jax.tree.map(jnp.shape, filled)  # one optimiser's state fits both
    return filled


def test_changes_of_low_rank_by_hand():
    net = {"a": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}, "b": {"kernel": jnp.zeros((2, 3, 6))}}
    factors = carriers.low_rank(jax.random.key(0), net, rank=4)
    shapes = {name: (left.shape, right.shape) for name, (left, right) in factors.items()}
    # Rank 4 is more than three columns allow; the axes (2, 3, 6) are cut into 6 rows and 6 columns.
    assert shapes == {"['a']['kernel']": ((4, 3), (3, 3)), "['b']['kernel']": ((6, 4), (4, 6))}
    jax.tree.map(np.testing.assert_array_equal, carriers.added(net, factors), net)
    left, right = jnp.array([[1.0], [0], [2], [0]]), jnp.array([[1.0, 10, 100]])
    changed = carriers.added(net, {"['a']['kernel']": (left, right)})
    np.testing.assert_array_equal(changed["a"]["kernel"], [[2, 11, 101], [1, 1, 1], [3, 21, 201], [1, 1, 1]])
    np.testing.assert_array_equal(changed["a"]["bias"], net["a"]["bias"])


@pytest.mark.parametrize(("kind", "size"), [("weights", 0), ("lora", 2)])
def test_before_anything_is_learned_weights_are_those_of_the_first_agent(kind, size):
    carrier = make_carrier(CarrierConfig(kind, size), SLOT)
    agent = carrier.carried(known(carrier), params())
    assert agent.memory == ()
    jax.tree.map(np.testing.assert_array_equal, agent.params, params())


def test_a_whole_cartridge_begins_as_the_agent_with_its_session():
    carrier = make_carrier(CarrierConfig("cartridge", T), SLOT)
    agent = carrier.carried(known(carrier), params())
    with_session = SLOT.agent.evaluate(params(), SLOT.recall_in(params(), session(), T), session().obs).logits
    np.testing.assert_allclose(logits(agent), with_session, rtol=1e-5, atol=1e-6)


def test_a_short_one_holds_the_last_places():
    carrier = make_carrier(CarrierConfig("window", 2), SLOT)
    memory = carrier.carried(known(carrier), params()).memory
    whole = SLOT.recall_in(params(), session(), 1)
    for kept, all_of_it in zip(memory.held, whole.held, strict=True):
        np.testing.assert_array_equal(kept, all_of_it[:, T - 2 : T])
    assert memory.count.tolist() == [2]


def test_a_table_plays_what_the_reader_did_at_the_nearest_observation():
    carrier = make_carrier(CarrierConfig("table", 3), SLOT)
    agent = carrier.carried(known(carrier), params())
    told = SLOT.agent.evaluate(params(), SLOT.recall_in(params(), session(), T), session().obs).logits
    kept = spread(session().obs, 3)
    near = session().obs[kept] + 1e-3
    said = SLOT.agent.evaluate(agent.params, in_copies(agent.memory, 3), near)
    np.testing.assert_allclose(said.logits, told[kept], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(said.value, 0)
    gaps = ((session().obs[:, None] - session().obs[kept]) ** 2).sum(axis=-1)  # of all to those that are kept
    np.testing.assert_allclose(logits(agent), told[kept[gaps.argmin(axis=1)]], rtol=1e-4, atol=1e-5)


def test_what_is_spread_by_hand():
    # From the last, 1: the farthest is 9, the newer of the two; then 5, in the middle; nothing is kept twice before.
    points = jnp.array([[9.0], [5.0], [9.0], [1.0], [2.0], [1.0]])
    assert spread(points, 4).tolist() == [5, 2, 1, 4]
    assert spread(points[None, :, 0].T, 1).tolist() == [5]


def test_fast_weights_are_one_place_that_can_be_learned():
    config = SessionSlotConfig(num_layers=2, width=8, num_heads=2, num_slots=6, memory="fast_weights")
    slot = make_session_slot(SPEC, config)
    weights = jax.jit(slot.agent.init)(jax.random.key(0), jnp.zeros((1, *SPEC.obs_shape)))
    for kind in ("cartridge", "window"):
        carrier = make_carrier(CarrierConfig(kind, 1), slot)
        learned = carrier.fill((), weights, session())
        assert sum(leaf.size for leaf in jax.tree.leaves(learned)) == 2 * 2 * 4 * 4  # layers, heads, widths
        whole = slot.recall_in(weights, session(), 1)
        jax.tree.map(np.testing.assert_array_equal, carrier.carried(learned, weights).memory.held, whole.held)


def test_only_what_is_as_it_was_lived_cannot_learn():
    for kind, size in (("weights", 0), ("lora", 1), ("cartridge", 3), ("window", 3), ("table", 3)):
        carrier = make_carrier(CarrierConfig(kind, size), SLOT)
        learned = known(carrier)
        grads = jax.grad(lambda learned, carrier=carrier: (logits(carrier.carried(learned, params())) ** 2).sum())(
            learned
        )
        moves = max(float(abs(leaf).max()) for leaf in jax.tree.leaves(grads))
        assert (moves > 0) == (kind not in carriers.UNLEARNED), kind


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "adapter"}, "carrier.kind is 'adapter': give one of weights, lora, cartridge, window, table"),
        ({"kind": "lora"}, "carrier.size is 0 where kind is 'lora': give 1 or more"),
        ({"kind": "weights", "size": 4}, "carrier.size is 4 where kind is 'weights': give 0"),
        ({"kind": "window", "size": -1}, "carrier.size is -1 where kind is 'window': give 1 or more"),
    ],
)
def test_sizes_that_mean_nothing_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        CarrierConfig(**fields)
