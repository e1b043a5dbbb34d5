"""Real environments behind two protocols. The libraries are imported when an environment of theirs is made."""

import dataclasses

from dreamer.wake.envs.base import AtariConfig, EnvConfig, HostEnv, JaxEnv
from dreamer.wake.envs.host_jax import HostFromJax

__all__ = [
    "AtariConfig",
    "EnvConfig",
    "HostEnv",
    "HostFromJax",
    "JaxEnv",
    "for_evaluation",
    "is_jax",
    "make_host",
    "make_jax",
]


def is_jax(config: EnvConfig) -> bool:
    """Whether the environment runs on the device, under the jitted driver."""
    return config.suite in ("gymnax", "jumanji")


def for_evaluation(config: EnvConfig, num_envs: int) -> EnvConfig:
    """Returns what an agent that trains in `config` is measured in: `num_envs` copies, and whole games of Atari."""
    if config.suite == "atari":
        config = dataclasses.replace(config, atari=dataclasses.replace(config.atari, life_loss_ends=False))
    return dataclasses.replace(config, num_envs=num_envs)


def make_jax(config: EnvConfig) -> JaxEnv:
    """Returns one copy of a device environment; a driver makes `config.num_envs` of it.

    Raises:
      ValueError: unknown id, a host suite, or spaces that are not supported.
      ImportError: the suite is an extra that is not installed; the message names the command that does.
    """
    if config.suite == "gymnax":
        from dreamer.wake.envs import jax_gymnax

        return jax_gymnax.make(config)
    if config.suite == "jumanji":
        from dreamer.wake.envs import jax_jumanji

        return jax_jumanji.make(config)
    raise ValueError(f"suite {config.suite!r} runs on the host: make {config.id} with make_host.")


def make_host(config: EnvConfig, seed: int, *, render: bool = False) -> HostEnv:
    """Returns `config.num_envs` copies of any environment for the host driver.

    Args:
      config: which environment.
      seed: what all episodes follow from, together with (copy, episode); see `session.evaluation_seed`.
      render: ask a gymnasium environment for RGB frames, which may need a drawing library; others always draw.

    Raises:
      ValueError, ImportError: as `make_jax`.
    """
    if is_jax(config):
        return HostFromJax(make_jax(config), num_envs=config.num_envs, seed=seed)
    if config.suite == "atari":
        from dreamer.wake.envs import host_atari

        return host_atari.make(config, seed)
    from dreamer.wake.envs import host_gymnasium

    return host_gymnasium.make(config, seed, render=render)
