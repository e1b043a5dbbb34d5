"""Trains an agent on the job: `python -m scripts.train PRESET --field value ...`."""

import contextlib
import dataclasses
import sys
from typing import Annotated

import tyro

from dreamer.core import mesh
from dreamer.io import RunFolder
from experiments import PRESETS, Config, Result, resume, run_seeds
from experiments.config import from_dict
from experiments.control import SUFFIX, without_dreams
from experiments.figures import learning_curve
from experiments.results import rows_of
from scripts.command import of_preset
from scripts.display import INTERPRETER, Watch, clear_errors, say, show_results


@dataclasses.dataclass(frozen=True)
class Train:
    """Lives, dreams and deploys."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    """The experiment."""
    resume: str | None = None
    """Run folder to go on with, under the settings that it was begun with."""
    control: bool = False
    """Also run the same experiment without dreams, and draw both."""
    num_seeds: int = 1
    """Seeds to run in one program, from `seed` on, each with a folder of its own; for environments on the device."""
    devices: int | None = None
    """Devices that share every batch, search and set of environment copies; None takes one, or, of several processes,
    all. It may change when a run is resumed."""
    coordinator: str | None = None
    """`host:port` of process 0, to run in several processes, on one host or many, which all get the same command line
    but `--process-id`; only process 0 writes. None takes $JAX_COORDINATOR_ADDRESS, and runs alone without."""
    num_processes: int | None = None
    """How many processes; None takes $JAX_NUM_PROCESSES, or what Slurm, MPI or the like say."""
    process_id: int | None = None
    """Number of this process, from 0; None takes $JAX_PROCESS_ID, or what Slurm, MPI or the like say."""


def main() -> None:
    """Parses the command line, runs, and shows what came of it; exits with 1 and one message on bad input."""
    with clear_errors():
        preset, train = of_preset(Train, sys.argv[1:], program="python -m scripts.train")
        results = _resume(train, preset) if train.resume else _run(train, preset)
        if mesh.writes():
            _show(results, preset)


def _run(train: Train, preset: str) -> dict[str, list[Result]]:
    mesh.join(train.coordinator, num_processes=train.num_processes, process_id=train.process_id)
    arms = {learning_curve.DREAMING: train.config}
    if train.control:
        arms[learning_curve.CONTROL] = without_dreams(train.config)
    results = {}
    for arm, config in arms.items():
        with Watch(config.name, preset=preset) if mesh.writes() else contextlib.nullcontext() as watch:
            results[arm] = run_seeds(config, train.num_seeds, num_devices=train.devices, watch=watch)
    return results


def _resume(train: Train, preset: str) -> dict[str, list[Result]]:
    if train != Train(PRESETS[preset], resume=train.resume, devices=train.devices):
        raise ValueError(
            "--resume goes on with one folder, under the settings in its config.json: leave out --control and all "
            "other fields, and go on with the folders of several seeds one by one"
        )
    begun = from_dict(RunFolder.open(train.resume).config).run.preset
    if begun not in ("", train.config.run.preset):  # "": begun from Python, with a config of one's own
        raise ValueError(f"{train.resume} was begun from the preset {begun}, not from {preset}: go on with {begun}")
    with Watch(train.resume, preset=preset) as watch:
        result = resume(train.resume, num_devices=train.devices, watch=watch)
    for message in result.messages:
        say(f"note: {message}", style="yellow")
    is_control = result.config.name.endswith(SUFFIX)
    return {learning_curve.CONTROL if is_control else learning_curve.DREAMING: [result]}


def _show(results: dict[str, list[Result]], preset: str) -> None:
    rows = [row for arm, group in results.items() for result in group for row in rows_of(result.folder, arm=arm)]
    dreaming = next(iter(results.values()))
    folder = dreaming[0].folder
    figures = [learning_curve.draw(rows, result.folder / "figures" / "learning_curve.png") for result in dreaming]
    show_results(results)
    ratio = max(1, dreaming[0].config.loop.dream_ratio // 2)
    lines = "run folder      {0}\ndeployed agent  {0}/deployed.safetensors"
    folders = "\n".join(lines.format(result.folder) for result in dreaming)
    say(
        f"""
figure          {figures[0]}
{folders}

What to do next
  {INTERPRETER} -m scripts.evaluate {folder} --film episode.gif   # measure and watch it
  {INTERPRETER} -m scripts.evaluate {folder} --planner            # the same with search
  {INTERPRETER} -m scripts.train {preset} --seed 1 --loop.dream-ratio {ratio}   # half the dreams
  {INTERPRETER} -m scripts.train --help                           # other environments
"""
    )


if __name__ == "__main__":
    main()
