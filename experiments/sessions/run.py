"""Runs of sessions, from a config to a folder: pre-trained agents, and what is distilled from them."""

import dataclasses
from pathlib import Path

import jax

from agents.session_slot import SessionAgent
from dreamer.core import trees
from dreamer.core.types import Meters, PyTree
from dreamer.io import CheckpointError, Checkpoints, LogError, RunFolder, is_passing, read_log
from dreamer.wake import Deployed, envs
from experiments import folders
from experiments.run import use_compilation_cache
from experiments.sessions import distillation, pretraining
from experiments.sessions.config import (
    DistillationConfig,
    PretrainingConfig,
    SessionsConfig,
    sessions_from_dict,
    sessions_to_dict,
)
from experiments.sessions.pretraining import Watch


def run_or_resume(config: SessionsConfig, *, watch: Watch) -> tuple[Path, list[str]]:
    """Makes a run of `runs/`, or goes on with the one that the same code began there for the same config and seed.

    A run of distillation begins with its pre-trained agent, which is looked for, or made, in the same way.

    Returns: its finished folder, and what the user should be told.

    Raises:
      BusyError: a living process is making it.
      ContextGainError: the pre-trained agent makes too little of a session.
      ValueError, OSError: settings that do not fit, or files that cannot be read or written.
    """
    damaged = []
    for begun in folders.begun(config):
        if begun.deployed.exists():
            return begun.path, []
        if isinstance(config, DistillationConfig):
            continue  # a run of seconds: made anew beside the one that was cut short
        try:
            with RunFolder.open(begun.path, write=True) as folder:
                _pretrain(config, folder, resume=True, watch=watch)
            return begun.path, damaged
        except (CheckpointError, LogError) as error:
            if is_passing(error):
                raise
            damaged.append(f"begun anew, since {begun.path} is half-made or damaged and was left as it is: {error}")
    if isinstance(config, PretrainingConfig):
        return pretrain(config, watch=watch), damaged
    agent, messages = run_or_resume(dataclasses.replace(config.agent, seed=config.seed), watch=_first_half(watch))
    return distil(config, agent, watch=watch), messages


class ContextGainError(ValueError):
    """An agent that makes too little of what it has in memory for anything to be distilled from it."""


def pretrain(config: PretrainingConfig, *, watch: Watch) -> Path:
    """Pre-trains an agent in a new folder, which is returned."""
    use_compilation_cache()
    with _new_folder(config) as folder:
        _pretrain(config, folder, resume=False, watch=watch)
    return folder.path


def distil(config: DistillationConfig, agent: str | Path, *, watch: Watch) -> Path:
    """Distils sessions of the pre-trained agent in folder `agent` into students, in a new folder, which is returned.

    The student of the first job is deployed there.
    """
    use_compilation_cache()
    slot, params = load_agent(agent, min_context_gain=config.min_context_gain)
    with _new_folder(config) as folder:
        student, meters = distillation.live_and_learn(config, folder, slot, params, watch=watch)
        _deploy(config, folder, slot, student, meters)
    return folder.path


def load_agent(path: str | Path, *, min_context_gain: float) -> tuple[SessionAgent, PyTree]:
    """Returns the pre-trained agent of a run folder, and its parameters.

    Raises:
      ContextGainError: what it gains by a session is less than `min_context_gain`.
      ValueError: no such folder, or none of a finished pre-training; the message names it.
    """
    folder = RunFolder.open(path)
    config = pretrained_config(folder)
    if not folder.deployed.exists():
        raise ValueError(f"{path} is not pre-trained to its end: go on with it, or give another folder")
    last = read_log(folder.log)[-1]
    gain = last["session_return"] - last["student_return"]
    if gain < min_context_gain:
        raise ContextGainError(
            f"the agent of {path} succeeds {gain:.2f} more often with a session in memory than without, but "
            f"min_context_gain is {min_context_gain}: there is too little to distil. Pre-train it for longer "
            "(num_days), or give longer sessions"
        )
    slot, learner = pretraining.first_of(config)
    saved = Checkpoints(folder.checkpoints).restore(jax.eval_shape(lambda: learner))
    return slot, saved.tree.params.agent


def pretrained_config(folder: RunFolder) -> PretrainingConfig:
    """Returns the config of a folder of pre-training, or raises ValueError."""
    if folder.config.get("kind") != PretrainingConfig.kind:
        raise ValueError(f"{folder.path} holds no pre-trained agent: give the folder that scripts.pretrain printed")
    return sessions_from_dict(folder.config)


def _pretrain(config: PretrainingConfig, folder: RunFolder, *, resume: bool, watch: Watch) -> None:
    learner = pretraining.live_and_learn(config, folder, resume=resume, watch=watch)
    meters = Meters(**{name: read_log(folder.log)[-1][name] for name in dataclasses.asdict(Meters())})
    _deploy(config, folder, pretraining.first_of(config)[0], learner.params.agent, meters)


def _new_folder(config: SessionsConfig) -> RunFolder:
    path = Path(config.run.folder) if config.run.folder else folders.free(config)
    return RunFolder.create(path, sessions_to_dict(config), envs.make_jax(config.env).spec, identity=config.identity())


def _deploy(config: SessionsConfig, folder: RunFolder, slot: SessionAgent, params: PyTree, meters: Meters) -> None:
    """Writes the agent as it acts with nothing in memory, and only what that needs."""

    def apply(params: PyTree, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        evaluation = slot.agent.evaluate(params, (), obs)
        return evaluation.logits, evaluation.value

    obs = jax.numpy.zeros((1, *folder.spec.obs_shape), folder.spec.obs_dtype)
    used = trees.only_used(lambda params: apply(params, obs), params)
    about = {"spec": folder.spec, "config": sessions_to_dict(config), "version": 0}
    Deployed.of(apply, used, **about, meters=dataclasses.asdict(meters)).save(folder.deployed)


def _first_half(watch: Watch) -> Watch:
    """Returns a watch for what comes before a run itself."""
    return lambda share, score: watch(0.0, None)
