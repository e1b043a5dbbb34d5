"""Random streams named by their use and numbered by counters, so that no key is ever stored or reused.

A key is a function of (seed, stream name, counters). Counters count things that happened (episode of a copy, decision
of an episode, update of a run), never a batch or device index: 1 copy or 1,024, one device or eight, interrupted or
not, the same things get the same randomness.
"""

import zlib

import jax


def stream(seed: int | jax.Array, name: str, *counters: int | jax.Array) -> jax.Array:
    """Returns the typed key of `name` at `counters`.

    Args:
      seed: the run's one seed; a Python int or a traced scalar.
      name: what the key is for, e.g. "act"; part of the experiment's identity, so renaming one changes results.
      *counters: non-negative scalars, each below 2**32.
    """
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    for counter in counters:
        key = jax.random.fold_in(key, counter)
    return key
