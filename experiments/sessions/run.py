"""Runs of sessions, from a config to a folder: pre-trained agents, and what is distilled from them."""

import dataclasses
import time
from pathlib import Path

import jax

from dreamer.core import trees
from dreamer.core.ports import SessionAgent, in_copies
from dreamer.core.types import Meters, PyTree
from dreamer.io import BusyError, CheckpointError, Checkpoints, LogError, RunFolder, is_passing, read_log
from dreamer.sleep.carriers import Carried
from dreamer.wake import Deployed, envs
from experiments import folders
from experiments.run import use_compilation_cache
from experiments.sessions import distillation, pretraining
from experiments.sessions.config import DistillationConfig, SessionsConfig, sessions_from_dict, sessions_to_dict
from experiments.sessions.pretraining import Watch
from experiments.sessions.pretraining_config import PretrainingConfig

_PATIENCE = 1.0  # seconds between two looks at an agent that another process pre-trains


class ContextGainError(ValueError):
    """An agent that makes too little of what it has in memory for anything to be distilled from it."""


def run_or_resume(config: SessionsConfig, *, watch: Watch) -> tuple[Path, list[str]]:
    """Makes a run of `runs/`, or goes on with the one that the same code began there for the same config and seed.

    A run of distillation begins with its pre-trained agent, which is looked for, waited for, or made, in the same way;
    itself it takes less than a minute, and where it was cut short it is begun anew.

    Returns: its finished folder, and what the user should be told.

    Raises:
      BusyError: a living process is making it.
      ContextGainError: the pre-trained agent makes too little of a session.
      DivergedError: a loss that is not finite.
      ValueError, OSError: settings that do not fit, or files that cannot be read or written.
    """
    use_compilation_cache()
    damaged = []
    for begun in folders.begun(config):
        if begun.deployed.exists():
            return begun.path, damaged
        with RunFolder.open(begun.path, write=True) as folder:
            try:
                if isinstance(config, PretrainingConfig):
                    return folder.path, damaged + _pretrain(config, folder, resume=True, watch=watch)
                why = "it was cut short"
            except (CheckpointError, LogError) as error:
                if is_passing(error):
                    raise
                why = str(error)
        damaged.append(f"begun anew, since {begun.path} is half-made or damaged and was left as it is: {why}")
    if isinstance(config, PretrainingConfig):
        with _new_folder(config) as folder:
            _pretrain(config, folder, resume=False, watch=watch)
        return folder.path, damaged
    agent, messages = _agent_of(config, watch=watch)
    return distil(config, agent, watch=watch), damaged + messages


def _agent_of(config: DistillationConfig, *, watch: Watch) -> tuple[Path, list[str]]:
    """Returns the folder of a run's agent, which another process may be making: many runs begin with the same one."""
    while True:
        try:
            wanted = dataclasses.replace(config.agent, seed=config.seed)
            return run_or_resume(wanted, watch=lambda share, score: watch(0.0, None))
        except BusyError:
            time.sleep(_PATIENCE)


def pretrain(config: PretrainingConfig, *, watch: Watch) -> tuple[Path, list[str]]:
    """Pre-trains an agent in `config.run.folder`, or goes on with it there; without one as `run_or_resume`.

    Returns, raises: as `run_or_resume`; a folder that holds another run is a ValueError.
    """
    if not config.run.folder:
        return run_or_resume(config, watch=watch)
    use_compilation_cache()
    path = Path(config.run.folder)
    if not path.exists():
        with _new_folder(config) as folder:
            return path, _pretrain(config, folder, resume=False, watch=watch)
    with RunFolder.open(path, write=True) as folder:
        if dataclasses.replace(pretrained_config(folder), run=config.run) != config:
            raise ValueError(f"{path} was begun with other settings: give another --run.folder, or the same settings")
        if folder.deployed.exists():
            return path, []
        return path, _pretrain(config, folder, resume=True, watch=watch)


def distil(config: DistillationConfig, agent: str | Path, *, watch: Watch) -> Path:
    """Distils sessions of the pre-trained agent in folder `agent` into students, in a new folder, which is returned.

    The student of the first job is deployed there.

    Raises: as `run_or_resume` and `load_agent`; an agent of another seed is a ValueError.
    """
    use_compilation_cache()
    pretrained = pretrained_config(RunFolder.open(agent))
    if pretrained.seed != config.seed:
        raise ValueError(
            f"seed is {config.seed}, but the agent of {agent} was pre-trained with seed {pretrained.seed}, and a run "
            f"is known by one seed: give {pretrained.seed}, or pre-train another agent with --seed {config.seed}"
        )
    slot, params = load_agent(agent, min_context_gain=config.min_context_gain)
    config = dataclasses.replace(config, agent=pretrained)
    with _new_folder(config) as folder:
        student, meters = distillation.live_and_learn(config, folder, slot, params, watch=watch)
        _deploy(config, folder, slot, agent=student, meters=meters)
    return folder.path


def load_agent(path: str | Path, *, min_context_gain: float) -> tuple[SessionAgent, PyTree]:
    """Returns the pre-trained agent of a run folder, and its parameters.

    Raises:
      ContextGainError: what it gains by a session is less than `min_context_gain`.
      CheckpointError: the checkpoint that its gain was measured of is not whole.
      ValueError: no such folder, or none of a finished pre-training; the message names it.
    """
    folder = RunFolder.open(path)
    config = pretrained_config(folder)
    if not folder.deployed.exists():
        raise ValueError(
            f"{path} is not pre-trained to its end: go on with it by scripts.pretrain --run.folder {path} and the "
            "settings that it was begun with, or give another folder"
        )
    last = read_log(folder.log)[-1]
    gain = last["session_return"] - last["student_return"]
    if gain < min_context_gain:
        raise ContextGainError(
            f"the agent of {path} succeeds {gain:.2f} more often with a session in memory than without, but "
            f"min_context_gain is {min_context_gain}: there is too little to distil. Pre-train it for longer "
            "(num_days), or give longer sessions"
        )
    slot, _, first = pretraining.parts_of(config)
    saved = Checkpoints(folder.checkpoints).restore(jax.eval_shape(first), day=last["day"])
    return slot, saved.tree.params


def pretrained_config(folder: RunFolder) -> PretrainingConfig:
    """Returns the config of a folder of pre-training, or raises ValueError."""
    if folder.config.get("kind") != PretrainingConfig.kind:
        raise ValueError(f"{folder.path} holds no pre-trained agent: give the folder that scripts.pretrain printed")
    return sessions_from_dict(folder.config)


def _pretrain(config: PretrainingConfig, folder: RunFolder, *, resume: bool, watch: Watch) -> list[str]:
    """Makes a run in its folder, or what it lacks; returns what the user should be told."""
    params, meters, messages = pretraining.live_and_learn(config, folder, resume=resume, watch=watch)
    _deploy(config, folder, pretraining.parts_of(config)[0], agent=Carried(params, ()), meters=meters)
    return messages


def _new_folder(config: SessionsConfig) -> RunFolder:
    path = Path(config.run.folder) if config.run.folder else folders.free(config)
    return RunFolder.create(path, sessions_to_dict(config), envs.make_jax(config.env).spec, identity=config.identity())


def _deploy(config: SessionsConfig, folder: RunFolder, slot: SessionAgent, *, agent: Carried, meters: Meters) -> None:
    """Writes the agent as it acts with what it carries, and only what that needs."""

    def apply(agent: Carried, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        evaluation = slot.agent.evaluate(agent.params, in_copies(agent.memory, obs.shape[0]), obs)
        return evaluation.logits, evaluation.value

    obs = jax.numpy.zeros((1, *folder.spec.obs_shape), folder.spec.obs_dtype)
    used = trees.only_used(lambda agent: apply(agent, obs), agent)
    about = {"spec": folder.spec, "config": sessions_to_dict(config), "version": 0}
    Deployed.of(apply, used, **about, meters=dataclasses.asdict(meters)).save(folder.deployed)
