import zlib

import jax
import jax.numpy as jnp
import pytest

from dreamer.core import keys


def data(key):
    return tuple(jax.random.key_data(key).tolist())


def test_stream_by_hand():
    key = jax.random.fold_in(jax.random.key(7), zlib.crc32(b"act"))
    key = jax.random.fold_in(jax.random.fold_in(key, 3), 5)
    assert data(keys.stream(7, "act", 3, 5)) == data(key)


def test_each_seed_name_and_counter_has_its_own_key():
    streams = [
        keys.stream(seed, name, *counters)
        for seed in (0, 1)
        for name in ("act", "step")
        for counters in ((), (0,), (1,), (0, 1), (1, 0), (0, 0))
    ]
    assert len({data(key) for key in streams}) == len(streams)


def test_traced_counters_give_the_keys_of_python_ones():
    counters = jnp.arange(3)
    batched = jax.jit(jax.vmap(lambda copy: keys.stream(4, "reset", copy, 2)))(counters)
    assert [data(key) for key in batched] == [data(keys.stream(4, "reset", copy, 2)) for copy in range(3)]
    assert data(jax.jit(lambda seed: keys.stream(seed, "reset"))(9)) == data(keys.stream(9, "reset"))


@pytest.mark.parametrize("counter", [0, 2**31, 2**32 - 1])
def test_counters_to_the_edge_of_32_bits(counter):
    assert data(keys.stream(0, "act", counter)) == data(keys.stream(0, "act", jnp.uint32(counter)))
