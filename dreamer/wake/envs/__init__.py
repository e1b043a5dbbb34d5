"""Real environments behind two protocols. The libraries are imported when an environment of theirs is made."""

import dataclasses

import jax

from dreamer.wake.envs.base import DEVICE_SUITES, AtariConfig, EnvConfig, HostEnv, JaxEnv, KnobsConfig
from dreamer.wake.envs.host_jax import HostFromJax
from dreamer.wake.envs.jobs import JobWorldConfig
from dreamer.wake.envs.knobs import settled, with_knobs
from dreamer.wake.envs.lakes import LakeConfig
from dreamer.wake.envs.shown import Shown, showing_state

__all__ = [
    "AtariConfig",
    "EnvConfig",
    "HostEnv",
    "HostFromJax",
    "JaxEnv",
    "JobWorldConfig",
    "KnobsConfig",
    "LakeConfig",
    "Shown",
    "for_evaluation",
    "is_jax",
    "make_host",
    "make_jax",
    "of_job",
    "settled",
    "showing_state",
    "with_knobs",
]


def is_jax(config: EnvConfig) -> bool:
    """Whether the environment runs on the device, under the jitted driver."""
    return config.suite in DEVICE_SUITES


def for_evaluation(config: EnvConfig, num_envs: int) -> EnvConfig:
    """Returns what an agent that trains in `config` is measured in: `num_envs` copies of the ordinary task.

    That is whole games of Atari, and episodes that end and begin at the world's own start, under the world's own limit
    where `max_steps` was that of a continuing life. Slips, late rewards and drift are part of the task and stay; who
    makes an environment that drifts takes it `settled`.

    Raises:
      ValueError: a job whose codebook is redrawn, which only whoever lives its life meets.
    """
    if config.jobworld.period:
        raise ValueError(
            f"jobworld.period is {config.jobworld.period}, but an agent is measured in lives of its own, which begin "
            "in the job's first codebook: set 0, or measure it by the codebook in force (docs/sessions.md)."
        )
    if config.suite == "atari":
        config = dataclasses.replace(config, atari=dataclasses.replace(config.atari, life_loss_ends=False))
    max_steps = None if config.knobs.continuing else config.max_steps
    knobs = dataclasses.replace(config.knobs, continuing=False, visited_starts=0.0)
    return dataclasses.replace(config, num_envs=num_envs, max_steps=max_steps, knobs=knobs)


def make_jax(config: EnvConfig) -> JaxEnv:
    """Returns one copy of a device environment, its knobs turned; a driver makes `config.num_envs` of it.

    For an oracle its observations carry its state, as `showing_state` lays it out.

    Raises:
      ValueError: unknown id, a host suite, spaces that are not supported, or a knob that does not fit.
      ImportError: the suite is an extra that is not installed; the message names the command that does.
    """
    if config.oracle:
        return showing_state(make_jax(dataclasses.replace(config, oracle=False))).env
    # A continuing life has a limit of its own, and the world in it the one that it always had.
    bare = dataclasses.replace(config, max_steps=None) if config.knobs.continuing else config
    if config.suite == "gymnax":
        from dreamer.wake.envs import jax_gymnax

        return with_knobs(jax_gymnax.make(bare), config)
    if config.suite == "jobworld":
        from dreamer.wake.envs import jobworld

        return with_knobs(jobworld.make(bare), config)
    if config.suite == "jumanji":
        from dreamer.wake.envs import jax_jumanji

        return with_knobs(jax_jumanji.make(bare), config)
    if config.suite == "lake":
        from dreamer.wake.envs import frozen_lake

        return with_knobs(frozen_lake.make(bare), config)
    raise ValueError(f"suite {config.suite!r} runs on the host: make {config.id} with make_host.")


def of_job(config: EnvConfig, number: int | jax.Array) -> JaxEnv:
    """Returns the bare world of `config.job_world` in job `number` of all jobs, whichever the settings name.

    The number may be traced, so that a batch of sessions, each in a job of its own, is one `vmap` over numbers and
    `session_seed`s; a session is the same alone or beside others.
    """
    if config.suite == "lake":
        from dreamer.wake.envs import frozen_lake as family
    else:
        from dreamer.wake.envs import jobworld as family
    return family.of_job(config, number)


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
