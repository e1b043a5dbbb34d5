import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.tabular import make_tabular_agent
from dreamer.core.ports import Agent
from dreamer.core.types import DreamTargets, Evaluation, Params
from dreamer.sleep import imagine as imagination
from dreamer.sleep.fit import FitConfig
from dreamer.sleep.imagine import Dreams, ImagineConfig, dream_loss, make_imagine
from dreamer.sleep.search import SearchConfig, make_search
from tests import tiny, toys
from world_models.oracle import make_oracle
from world_models.tabular import make_tabular

WORLD = tiny.corridor(3)


@functools.cache
def dreamer(config, world=WORLD):
    """Returns the jitted imagination of a world that is known, and a student that always goes right."""
    model, agent = make_tabular(*world.tables, num_unroll_steps=1), make_tabular_agent(*world.shape)
    search = make_search(model, agent, SearchConfig(num_simulations=8), gamma=world.gamma)
    imagine = make_imagine(model, agent, search, config, gamma=world.gamma, min_spread=0.01)
    right = jnp.full(world.shape, -20.0).at[:, 1].set(20.0)
    params = Params({}, {"logits": right, "value": jnp.zeros(world.shape[0])})

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def run(params, obs, keys, spread=1.0):
        mask = jnp.ones((len(obs), world.shape[1]), bool)
        return imagine(params, obs, mask, keys, return_spread=spread, progress=0.0)

    return run, params


def keys_of(number):
    return jax.random.split(jax.random.key(5), number)


def test_a_dream_by_hand_and_no_further_than_its_end():
    run, params = dreamer(ImagineConfig(real_share=0.5, horizon=4, value_source="lambda", trace_decay=1.0))
    dreams, metrics = run(params, jnp.array([0, 1]), keys_of(2))
    np.testing.assert_array_equal(dreams.action, 1)
    # One cell a step, a reward of 1 at the third, discounted by 0.9; the second dream begins one cell further on.
    np.testing.assert_allclose(dreams.targets.value[:, :3], [[0.81, 0.9, 1.0], [0.9, 1.0, 0.0]], rtol=1e-6)
    alive = [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
    np.testing.assert_array_equal(dreams.targets.policy_weight, alive)
    np.testing.assert_array_equal(dreams.targets.value_weight, alive)
    np.testing.assert_allclose(metrics["dream_alive"], 0)
    np.testing.assert_allclose(metrics["dream_weight"], 0.5)


def test_returns_say_nothing_of_the_last_state_and_search_does():
    for source, last in (("lambda", 0), ("expansion", 0), ("search", 1)):
        run, params = dreamer(ImagineConfig(real_share=0.5, horizon=2, value_source=source))
        dreams, _ = run(params, jnp.array([0]), keys_of(1))
        np.testing.assert_array_equal(dreams.targets.value_weight, [[1, 1, last]])
        np.testing.assert_array_equal(dreams.targets.policy_weight, [[1, 1, 1]])
    # Two steps from the reward, search finds it and prefers the way there although the prior is even.
    flat = params.replace(agent={**params.agent, "logits": jnp.zeros(WORLD.shape)})
    dreams, _ = run(flat, jnp.array([1]), keys_of(1))
    assert dreams.targets.policy[0, 0, 1] > 0.6 and dreams.targets.value[0, 0] > 0.1


def test_a_dream_without_search_teaches_the_value_alone():
    run, params = dreamer(
        ImagineConfig(real_share=0.5, horizon=3, policy_source="none", value_source="lambda", trace_decay=1.0)
    )
    dreams, _ = run(params, jnp.array([0]), keys_of(1))
    np.testing.assert_allclose(dreams.targets.value, [[0.81, 0.9, 1, 0]], rtol=1e-6)
    np.testing.assert_array_equal(dreams.targets.value_weight, [[1, 1, 1, 0]])
    np.testing.assert_array_equal(dreams.targets.policy_weight, 0)
    with pytest.raises(ValueError, match="policy_source is 'none', which searches nothing"):
        ImagineConfig(policy_source="none")


def test_a_dream_does_not_depend_on_its_neighbours():
    run, params = dreamer(ImagineConfig(real_share=0.5, horizon=3))
    params = params.replace(agent={**params.agent, "logits": jnp.zeros(WORLD.shape)})
    together, _ = run(params, jnp.array([0, 1, 2]), keys_of(3))
    alone, _ = run(params, jnp.array([1]), keys_of(3)[1:2])
    jax.tree.map(lambda all, one: np.testing.assert_allclose(all[1:2], one, rtol=1e-6), together, alone)
    assert len(set(map(tuple, np.asarray(together.action)))) > 1


def test_dreams_of_the_true_dynamics_are_what_would_happen():
    env = toys.corridor(4)
    model = make_oracle(env, lambda obs: (jnp.argmax(obs).astype(jnp.int32), jnp.int32(0)), num_unroll_steps=1)

    def undecided(params, memory, latent):
        zeros = jnp.zeros(len(latent[0]))
        return Evaluation(jnp.zeros((len(zeros), 2)), zeros, zeros[:, None])

    even = Agent(init=None, evaluate=undecided, value_loss=None, remember=None)
    config = ImagineConfig(real_share=0.5, horizon=6, value_source="lambda", trace_decay=1.0)
    imagine = make_imagine(
        model,
        even,
        make_search(model, even, SearchConfig(num_simulations=2), gamma=1.0),
        config,
        gamma=1.0,
        min_spread=0.01,
    )
    obs = jnp.eye(4)[jnp.array([0, 1, 2, 3, 2, 1, 3, 3])]
    run = jax.jit(
        lambda: imagine(Params({}, {}), obs, jnp.ones((8, 2), bool), keys_of(8), return_spread=1.0, progress=0.0)
    )
    dreams, _ = run()
    step, ended = jax.jit(env.step), 0
    for number in range(8):
        state, alive, left = (jnp.argmax(obs[number]).astype(jnp.int32), jnp.int32(0)), 1.0, []
        for row in range(6):
            assert dreams.targets.policy_weight[number, row] == alive
            state, _, reward, terminated, _ = step(jax.random.key(9), state, dreams.action[number, row])
            left.append(alive * float(reward))
            alive *= 1.0 - float(terminated)
        ended += alive == 0
        np.testing.assert_allclose(dreams.targets.value[number, 0], sum(left))
    assert 0 < ended < 8


def test_rows_without_weight_teach_nothing_and_the_model_learns_from_no_dream():
    model, agent = make_tabular(*WORLD.tables, num_unroll_steps=1), make_tabular_agent(*WORLD.shape)
    model = model._replace(
        init=None,
        observe=lambda params, obs: obs,
        step=lambda params, latent, action: (latent + action * params.astype(jnp.int32), params * 1.0, params),
    )
    weight = jnp.array([[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    targets = DreamTargets(jnp.full((2, 3, 2), 0.5).at[..., 0].set(0.9), weight, jnp.full((2, 3), 2.0), weight)
    dreams = Dreams(jnp.array([0, 2]), jnp.array([[1, 1], [1, 0]]), targets)
    params = Params(jnp.float32(1.0), agent.init(None, None))
    loss = functools.partial(
        dream_loss, model=model, agent=agent, config=FitConfig(policy_weight=1.0, value_weight=1.0)
    )
    learn = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, metrics), grad = learn(params, dreams, jnp.ones(2))
    assert grad.model == 0
    # Half squares of 2, weights 1 and a half, over 2 rows of 3 states; states 0 and 1 alone are learned about.
    np.testing.assert_allclose(grad.agent["value"], [-2 / 6, -1 / 6, 0, 0], rtol=1e-6)
    assert (np.asarray(grad.agent["logits"])[2:] == 0).all() and (np.asarray(grad.agent["logits"])[:2] != 0).all()
    np.testing.assert_allclose(metrics["dream_value_loss"], 2 * 1.5 / 6, rtol=1e-6)
    policy_loss = float(metrics["dream_policy_loss"]) * 1.5
    np.testing.assert_allclose(value, (2 * 1.5 + policy_loss) / 6, rtol=1e-5)
    # A row that was drawn four times as often as another counts a quarter, and what is told of it stays.
    (quarter, told), grad = learn(params, dreams, jnp.array([0.25, 1.0]))
    np.testing.assert_allclose(quarter, value / 4, rtol=1e-6)
    np.testing.assert_allclose(grad.agent["value"], [-0.5 / 6, -0.25 / 6, 0, 0], rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, told, metrics)


def rollout(num_dreams=2, horizon=3, num_members=4):
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(num_dreams, horizon, num_members)), rng.normal(size=(2, horizon + 1, num_members))
    continuation = rng.random((num_dreams, horizon, num_members))
    action = np.zeros((num_dreams, horizon), np.int32)
    return imagination._Rollout((), *(jnp.asarray(x) for x in (action, reward, continuation, value)))


def test_expansion_weighs_each_horizon_by_its_agreement():
    dream = rollout()
    found = imagination._expanded(dream, 0.9)
    for number in range(2):
        for start in range(3):
            means, weights = [], []
            for end in range(start + 1, 4):
                totals = []
                for m in range(4):
                    factor, total = 1.0, 0.0
                    for row in range(start, end):
                        total += factor * float(dream.reward[number, row, m])
                        factor *= 0.9 * float(dream.continuation[number, row, m])
                    totals.append(total + factor * float(dream.value[number, end, m]))
                means.append(np.mean(totals))
                weights.append(1 / (np.var(totals) + 1e-6))
            expected = np.dot(means, weights) / np.sum(weights)
            np.testing.assert_allclose(found[number, start], expected, rtol=1e-4)


@pytest.mark.parametrize(("source", "spread"), [("search", 0.5), ("lambda", 0.5), ("search", 0.0)])
def test_doubt_adds_up_along_the_dream_and_costs_weight(source, spread):
    world = tiny.corridor(6)
    model, agent = make_tabular(*world.tables, num_unroll_steps=1), make_tabular_agent(*world.shape)
    search = make_search(model, agent, SearchConfig(num_simulations=2), gamma=0.9)

    def members(params, latent, action):  # two opinions on each reward, half a point apart in state 1 alone
        after, reward, continuation = model.step(params, latent, action)
        apart = jnp.where(latent == 1, 0.25, 0.0)
        return after, jnp.stack([reward - apart, reward + apart], axis=1), jnp.stack([continuation] * 2, axis=1)

    config = ImagineConfig(real_share=0.5, horizon=3, value_source=source, doubt_scale=2.0)
    imagine = make_imagine(model._replace(members=members), agent, search, config, gamma=0.9, min_spread=0.25)
    params = Params({}, {"logits": jnp.full(world.shape, -20.0).at[:, 1].set(20.0), "value": jnp.zeros(7)})
    run = jax.jit(
        lambda: imagine(params, jnp.array([0]), jnp.ones((1, 2), bool), keys_of(1), return_spread=spread, progress=0)
    )
    dreams, metrics = run()
    # The standard deviation, 0.25, as a share of the spread, which is 0.25 at least, times the scale.
    weight = np.exp(-2.0 * 0.25 / max(spread, 0.25))
    np.testing.assert_allclose(dreams.targets.policy_weight, [[1, 1, weight, weight]], rtol=1e-5)
    # A searched value is of its state; a return from state 1 rests on the reward in doubt, the last state has none.
    of_value = [1, 1, weight, weight] if source == "search" else [1, weight, weight, 0]
    np.testing.assert_allclose(dreams.targets.value_weight, [of_value], rtol=1e-5)
    np.testing.assert_allclose(metrics["dream_doubt"], 0.25 / max(spread, 0.25) / 3, rtol=1e-5)


def test_expansion_earns_what_the_members_say_though_their_values_agree():
    dream = rollout()
    dream = dream.replace(value=jnp.zeros_like(dream.value), continuation=jnp.ones_like(dream.continuation))
    opinions = 1.0 + jnp.array([-0.1, -0.05, 0.05, 0.1])
    dream = dream.replace(reward=jnp.broadcast_to(opinions, dream.reward.shape))
    found = imagination._expanded(dream, 1.0)
    assert (found[:, 0] > 1.0).all() and np.allclose(found[:, -1], 1.0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("real_share", 0.0), ("real_share", 1.1), ("horizon", 0), ("branches", 0), ("begin_after", -1)]
    + [("doubt_scale", -1.0), ("trace_decay", 2.0), ("value_source", "hope"), ("policy_source", "luck")],
)
def test_bad_settings_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=f"imagine.{setting} is {value!r}"):
        ImagineConfig(**{setting: value})


def test_real_rows_are_never_fewer_than_their_share():
    assert [ImagineConfig(real_share=share).num_dreams(8) for share in (1.0, 0.55, 0.5, 0.01)] == [0, 3, 4, 7]
