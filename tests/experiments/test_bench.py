import jax
import jax.numpy as jnp
import pytest

from experiments import bench as bench_module
from experiments.bench import bench, matmul_flops
from tests import runs

A, B = jnp.ones((3, 5)), jnp.ones((5, 7))
PRODUCT = 2 * 3 * 5 * 7


def scanned(a, b):
    return jax.lax.scan(lambda carry, _: (carry + a @ b, None), jnp.zeros((3, 7)), length=4)[0]


def looped(a, b):
    return jax.lax.fori_loop(0, jnp.int32(a.sum()), lambda _, carry: carry + a @ b, jnp.zeros((3, 7)))


def chosen(a, b):
    return jax.lax.cond(a.sum() > 0, lambda: a @ b, lambda: jnp.zeros((3, 7)))


@pytest.mark.parametrize(
    ("function", "times"),
    [
        (jnp.matmul, 1),
        (jax.jit(jax.jit(jnp.matmul)), 1),
        (scanned, 4),
        (jax.jit(scanned), 4),
        (looped, 1),
        (chosen, 1),
        (lambda a, b: jax.grad(lambda a: (a @ b).sum())(a), 2),
    ],
)
def test_operations_by_hand(function, times):
    assert matmul_flops(jax.make_jaxpr(function)(A, B).jaxpr) == times * PRODUCT


def test_a_convolution_by_hand():
    image, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    convolve = lambda image, kernel: jax.lax.conv_general_dilated(  # noqa: E731
        image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert matmul_flops(jax.make_jaxpr(convolve)(image, kernel).jaxpr) == 2 * (2 * 8 * 8 * 4) * (3 * 3 * 3)


def test_the_speed_of_dreams(monkeypatch):
    timed = []

    def medians(calls, repeats):
        timed.extend(jax.block_until_ready(call()) for call in calls)
        return [2.0, 0.5]

    monkeypatch.setattr(bench_module, "_medians", medians)
    parts = runs.parts("gymnax")
    params = parts.init().learner.params
    lines = bench_module._dreams(parts, params, 64.0, 1)
    horizon = parts.config.imagine.horizon
    rates = [256 * horizon / seconds for seconds in (2.0, 0.5)]
    assert [line[:2] for line in lines] == [
        ("dreams, searched", f"{rates[0]:,.0f} steps/s"),
        ("dreams, not searched", f"{rates[1]:,.0f} steps/s"),
    ]
    assert lines[0][2].startswith(f"{rates[0] / 64:.2f} x the environment's own")
    (searched, _), (free, _) = timed
    assert searched.action.shape == free.action.shape == (256, horizon)
    assert float(searched.targets.policy_weight.sum()) > 0 == float(free.targets.policy_weight.sum())


def test_nothing_to_time():
    with pytest.raises(ValueError, match="repeats is 0: give 1 or more"):
        bench(runs.config("gymnax"), repeats=0)
