import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.tabular import make_tabular_agent
from dreamer.core import returns
from dreamer.core.types import Params
from dreamer.sleep.search import SearchConfig, SearchResult, make_search
from dreamer.sleep.targets import TargetsConfig, make_targets
from tests import tiny
from world_models.tabular import make_tabular

GAMMA, K, N = 0.5, 1, 2
# Four rows of states 0 to 3 and what followed them; sequences are K + N = 3 rows long.
OBS = [[0, 1, 2, 3], [1, 2, 3, 3], [2, 3, 3, 3], [0, 1, 1, 1]]
ACTION = [[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
REWARD = [[1.0, 2.0, 4.0], [1.0, 2.0, 0.0], [8.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
TERMINATED = [[0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]]
VALID = [[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 0, 0]]  # row 3 was truncated, or is the newest there is
VALUE = [10.0, 20.0, 30.0, 40.0]
AGE = [0, 4, 5, 6]


def batch():
    return tiny.sequence(OBS, ACTION, reward=REWARD, terminated=TERMINATED, valid=VALID, age=AGE)


def world_and_agent():
    shape = (4, 2)
    world = tiny.World(np.minimum(np.arange(4)[:, None] + [[0, 1]], 3), np.zeros(shape), np.ones(shape), GAMMA)
    return make_tabular(*world.tables, num_unroll_steps=K), make_tabular_agent(*shape)


def params(value=VALUE):
    return Params({}, {"logits": jnp.zeros((4, 2)), "value": jnp.asarray(value)})


def told(searched_params, memory, latent, action_mask, keys, *, explore, return_spread, progress):
    """A search that answers with what it was given: policy one-hot on the state's parity, value 1000 + state."""
    assert explore == 1.0 and memory == () and action_mask.shape == (len(keys), 2)
    value = 1000.0 + latent + searched_params.agent["value"][0] + return_spread
    return SearchResult(latent % 2, jax.nn.one_hot(latent % 2, 2), value, jnp.zeros((len(latent), 2), jnp.int32), None)


def make(search=told, progress=1.0, **settings):
    settings = {"unroll_steps": K, "td_steps": N, "gamma": GAMMA, "value_source": "n_step", **settings}
    config = TargetsConfig(**settings)
    keys = jax.random.split(jax.random.key(0), (config.num_searched(4), config.num_roots))
    targets = jax.jit(make_targets(*world_and_agent(), search, config))
    given = {"return_spread": jnp.float32(0.5), "progress": jnp.float32(progress)}
    return functools.partial(lambda p, keys: targets(p, batch(), keys, **given), keys=keys)


N_STEP = [
    # 1 + 2/2 + 30/4; 2 + 4/2 + 40/4
    [9.5, 14.0],
    # 1 + 2/2, then the end; 2, then the end
    [2.0, 2.0],
    # 8, then the end; nothing was decided after it
    [8.0, 0.0],
    # one row known: 1 + 20/2, bootstrapped; nothing was decided after it
    [11.0, 0.0],
]
SAID = np.array([[1, 1], [1, 1], [1, 0], [1, 0]], np.float32)
SEARCHED = 1010.5 + np.array(OBS)[:, : K + 1]


def test_n_step_values_and_masks_by_hand():
    made = make(research_fraction=0.0)(params())
    np.testing.assert_allclose(made.value, N_STEP)
    np.testing.assert_array_equal(made.value_weight, SAID)
    np.testing.assert_array_equal(made.policy_weight, np.zeros((4, 2)))
    np.testing.assert_allclose(made.policy.sum(axis=-1), 1)


@pytest.mark.parametrize(("fraction", "num_searched"), [(0.0, 0), (0.5, 2), (0.6, 3), (1.0, 4)])
def test_share_that_is_searched_again(fraction, num_searched):
    config = TargetsConfig(research_fraction=fraction)
    assert config.num_searched(4) == num_searched
    made = make(research_fraction=fraction, unsearched_policy="action")(params())
    expected = np.eye(2)[np.array(ACTION)[:, : K + 1]]
    expected[:num_searched] = np.eye(2)[np.array(OBS)[:num_searched, : K + 1] % 2]
    np.testing.assert_array_equal(made.policy, expected)
    np.testing.assert_array_equal(made.policy_weight, SAID)
    np.testing.assert_allclose(made.value, N_STEP)


def test_a_share_that_is_a_whole_number_of_rows_is_not_rounded_up_further():
    for hundredths in range(101):
        assert TargetsConfig(research_fraction=hundredths / 100).num_searched(100) == hundredths


def traced(p, decay):
    """The same in plain Python: (value, weight) [B, K + 1]."""
    logits, values = np.asarray(p.agent["logits"]), np.asarray(p.agent["value"])
    value, weight = np.zeros((4, K + 1)), np.zeros((4, K + 1))
    for row in range(4):
        num_valid, states = int(np.sum(VALID[row])), OBS[row]
        ratios = [
            min(1.0, 2 * float(jax.nn.softmax(logits[states[i]])[ACTION[row][i]])) for i in range(len(ACTION[row]))
        ]
        later = values[states[num_valid]]
        for i in reversed(range(num_valid)):
            lam = decay * (ratios[i + 1] if i + 1 < num_valid else 1.0)
            discount = GAMMA * (1.0 - TERMINATED[row][i])
            later = REWARD[row][i] + discount * ((1 - lam) * values[states[i + 1]] + lam * later)
            if i <= K:
                value[row, i], weight[row, i] = later, ratios[i]
    return value, weight


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
def test_traces_are_cut_where_the_student_would_have_acted_otherwise(decay):
    p = params()
    p = p.replace(agent=p.agent | {"logits": jnp.array([[2.0, 0.0], [0.0, 1.0], [-1.0, 1.0], [0.0, 0.0]])})
    made = make(value_source="trace", trace_decay=decay, research_fraction=0.0)(p)
    value, weight = traced(p, decay)
    np.testing.assert_allclose(made.value, value, rtol=1e-6)
    np.testing.assert_allclose(made.value_weight, weight, rtol=1e-6)


def test_a_student_that_does_what_was_done_is_traced_to_the_end():
    # Ratios of 1 and decay 1: all known rewards, then the value of the last state.
    made = make(value_source="trace", trace_decay=1.0, research_fraction=0.0)(params())
    np.testing.assert_allclose(made.value[1:3, 0], [2.0, 8.0])
    np.testing.assert_array_equal(made.value_weight, SAID)


def test_rows_not_searched_say_nothing_by_default():
    made = make(research_fraction=0.5)(params())
    np.testing.assert_array_equal(made.policy_weight, SAID * np.array([[1], [1], [0], [0]]))
    np.testing.assert_array_equal(made.value_weight, SAID)


@pytest.mark.parametrize(
    ("age", "td_steps", "expected"),
    [
        # Two rows while fresh: 1 + 2/2 + 30/4, 2 + 4/2 + 40/4.
        (0, 2, [9.5, 14.0]),
        (9, 2, [9.5, 14.0]),
        # One row less from age 10 on, and never less than one: 1 + 20/2, 2 + 30/2.
        (10, 2, [11.0, 17.0]),
        (1000, 2, [11.0, 17.0]),
        # Three rows, then two, then one; what is known ends with the third row: 1 + 2/2 + 4/4 + 40/8.
        (9, 3, [8.0, 14.0]),
        (10, 3, [9.5, 14.0]),
        (20, 3, [11.0, 17.0]),
    ],
)
def test_windows_shrink_with_age(age, td_steps, expected):
    config = TargetsConfig(K, td_steps, GAMMA, 0.0, value_source="n_step", td_shrink_every=10)
    beyond = config.length - 3  # rows nobody lived, in the last state
    rows = tiny.sequence(
        [[0, 1, 2, 3] + [3] * beyond, [1, 2, 3, 3] + [3] * beyond, [0, 1, 1, 1] + [1] * beyond],
        [[1, 1, 0] + [0] * beyond] * 3,
        reward=[row + [0.0] * beyond for row in (REWARD[0], REWARD[1], REWARD[3])],
        terminated=[row + [0] * beyond for row in (TERMINATED[0], TERMINATED[1], TERMINATED[3])],
        valid=[row + [0] * beyond for row in (VALID[0], VALID[1], VALID[3])],
        age=[age, age, age],
    )
    keys = jax.random.split(jax.random.key(0), (0, K + 1))
    targets = make_targets(*world_and_agent(), told, config)
    made = targets(params(), rows, keys, return_spread=0.0, progress=0.0)
    ended = [2.0 if age // 10 + 1 < td_steps else 1 + 30 / 2, 2.0]  # 1 + 2/2 and the end, unless cut before it
    np.testing.assert_allclose(made.value, [expected, ended, [11.0, 0.0]])  # truncated: 1 + 20/2 at any age


@pytest.mark.parametrize(("progress", "stale"), [(0.0, 0), (0.49, 0), (0.5, 1), (1.0, 1)])
def test_early_in_the_run_mixed_values_are_n_step(progress, stale):
    made = make(progress=progress, research_fraction=1.0, value_source="mixed", mixed_after=5, mixed_from=0.5)(params())
    from_search = np.array([0, 0, stale, stale], bool)[:, None]  # ages 0, 4, 5, 6
    np.testing.assert_allclose(made.value * SAID, np.where(from_search, SEARCHED, N_STEP) * SAID)


@pytest.mark.parametrize(
    ("settings", "from_search"),
    [
        ({"value_source": "n_step"}, [0, 0, 0, 0]),
        ({"value_source": "search"}, [1, 1, 1, 1]),
        ({"value_source": "search", "research_fraction": 0.5}, [1, 1, 0, 0]),
        ({"value_source": "mixed", "mixed_after": 5}, [0, 0, 1, 1]),
        ({"value_source": "mixed", "mixed_after": 5, "research_fraction": 0.7}, [0, 0, 1, 0]),
    ],
)
def test_where_values_come_from(settings, from_search):
    made = make(**{"research_fraction": 1.0, **settings})(params())
    expected = np.where(np.array(from_search, bool)[:, None], SEARCHED, N_STEP)
    np.testing.assert_allclose(made.value * SAID, expected * SAID)
    np.testing.assert_array_equal(made.value_weight, SAID)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # As in N_STEP, but states 1, 2, 3 are worth 1011.5, 1012.5, 1013.5 where search has looked at them.
        ({}, [[2 + 1012.5 / 4, 4 + 1013.5 / 4], [2, 2], [8, 0], [1 + 1011.5 / 2, 0]]),
        # The last two rows are not searched.
        ({"research_fraction": 0.5}, [[2 + 1012.5 / 4, 4 + 1013.5 / 4], [2, 2], [8, 0], [11, 0]]),
        # From age 4 on windows of one row: nothing changes for what had ended, or is not known further.
        ({"td_shrink_every": 4}, [[2 + 1012.5 / 4, 4 + 1013.5 / 4], [1 + 1012.5 / 2, 2], [8, 0], [1 + 1011.5 / 2, 0]]),
        # Rows of age 5 and 6 are worth what search says at their own states.
        (
            {"value_source": "mixed", "mixed_after": 5},
            [[2 + 1012.5 / 4, 4 + 1013.5 / 4], [2, 2], SEARCHED[2], SEARCHED[3]],
        ),
    ],
)
def test_windows_that_end_in_search_by_hand(settings, expected):
    made = make(**{"research_fraction": 1.0, "bootstrap": "search", **settings})(params())
    np.testing.assert_allclose(made.value * SAID, np.array(expected) * SAID)
    searched = SAID * (np.arange(4) < 4 * settings.get("research_fraction", 1.0))[:, None]
    np.testing.assert_array_equal(made.policy_weight, searched)
    parity = np.eye(2)[np.array(OBS)[:, : K + 1] % 2]
    np.testing.assert_array_equal(made.policy * searched[..., None], parity * searched[..., None])


def test_no_gradient_reaches_whoever_made_the_targets():
    make_made = make(research_fraction=0.5, value_source="search")

    def total(value):
        made = make_made(params(value))
        return made.value.sum() + made.policy.sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.asarray(VALUE)), 0)


def test_real_search_of_real_states_with_the_params_given():
    model, agent = world_and_agent()
    search = make_search(model, agent, SearchConfig(num_simulations=4), gamma=GAMMA)
    made = make(search, research_fraction=1.0, value_source="search")
    low, high = made(params([0.0, 0, 0, 0])), made(params([0.0, 0, 80, 80]))
    np.testing.assert_allclose(low.policy, 0.5)
    np.testing.assert_allclose(low.value, 0)
    assert high.policy[0, 1, 1] > 0.9  # from state 1, action 1 leads to state 2
    np.testing.assert_allclose(high.policy[2, 1], 0.5, atol=1e-6)  # both actions stay in state 3
    assert (high.value[:3, 1] > 5).all()


def test_search_is_given_its_roots_own_masks():
    def masks(searched_params, memory, latent, action_mask, keys, **settings):
        policy = action_mask / action_mask.sum(axis=-1, keepdims=True)
        return SearchResult(latent, policy, latent.astype(jnp.float32), action_mask.astype(jnp.int32), None)

    rows = batch()
    allowed = np.ones((4, 3, 2), bool)
    allowed[0, 1, 0] = allowed[2, 0, 1] = False
    config = TargetsConfig(unroll_steps=K, td_steps=N, research_fraction=1.0, value_source="n_step")
    targets = make_targets(*world_and_agent(), masks, config)
    keys = jax.random.split(jax.random.key(0), (4, K + 1))
    made = targets(params(), rows.replace(action_mask=jnp.asarray(allowed)), keys, return_spread=0.0, progress=0.0)
    np.testing.assert_array_equal(made.policy, allowed[:, :2] / allowed[:, :2].sum(axis=-1, keepdims=True))


def test_where_no_decision_tells_search_is_allowed_everything():
    def counts(searched_params, memory, latent, action_mask, keys, **settings):
        num_allowed = action_mask.sum(axis=-1)
        return SearchResult(latent, action_mask / num_allowed[:, None], num_allowed * 1.0, action_mask * 1, None)

    rows = batch()
    first = np.tile([True, False], (4, 3, 1))  # recorded of every row, also of those that were not lived
    config = TargetsConfig(K, N, GAMMA, 1.0, value_source="n_step", bootstrap="search")
    keys = jax.random.split(jax.random.key(0), (4, config.num_roots))
    targets = make_targets(*world_and_agent(), counts, config)
    rows = rows.replace(action_mask=jnp.asarray(first), reward=jnp.zeros((4, 3)))
    made = targets(params(), rows, keys, return_spread=0.0, progress=0.0)
    # In state 2 of the first sequence an action was taken; its state 3, and the last one's state 1, end what is known.
    np.testing.assert_allclose(made.value, [[1 / 4, 2 / 4], [0, 0], [0, 0], [2 / 2, 0]])


def test_agrees_with_the_naive_window():
    rows, values = batch(), np.array(VALUE)[np.array(OBS)]
    discount = returns.discounts(1.0 - np.array(TERMINATED), GAMMA)
    for row in range(4):
        for k in range(K + 1):
            end = min(k + N, int(np.sum(VALID[row])))
            total, factor = 0.0, 1.0
            for i in range(k, end):
                total, factor = total + factor * REWARD[row][i], factor * discount[row, i]
            expected = total + factor * values[row, end] if k < np.sum(VALID[row]) else 0.0
            np.testing.assert_allclose(N_STEP[row][k], expected)
    assert rows.action.shape == (4, TargetsConfig(unroll_steps=K, td_steps=N).length)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("td_steps", 0), ("gamma", 1.5), ("research_fraction", 1.1), ("value_source", "td"), ("mixed_after", -1)]
    + [("unsearched_policy", "all"), ("unroll_steps", 0), ("mixed_from", 1.5), ("td_shrink_every", -1)]
    + [("td_shrink_every", 5), ("bootstrap", "search")]  # traces have no windows
    + [("bootstrap", "root")],
)
def test_bad_settings_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=f"targets.*{setting} is {value!r}"):
        TargetsConfig(**{setting: value})
