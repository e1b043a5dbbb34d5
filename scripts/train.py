"""Trains an agent on the job: `python -m scripts.train PRESET --field value ...`."""

import dataclasses
import sys
from typing import Annotated

import tyro

from experiments import PRESETS, Config, Result, resume, run
from experiments.control import without_dreams
from experiments.figures import learning_curve
from experiments.results import rows_of
from experiments.run import DivergedError, use_compilation_cache
from scripts.display import Watch, console, show_results


@dataclasses.dataclass(frozen=True)
class Train:
    """Lives, dreams and deploys."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    """The experiment."""
    resume: str | None = None
    """Run folder to go on with, under the settings that it was begun with."""
    control: bool = False
    """Also run the same experiment without dreams, and draw both."""


def main() -> None:
    """Parses the command line, runs, and shows what came of it; exits with 1 and one message on bad input."""
    use_compilation_cache()
    try:
        choices = {name: (f"{config.env.suite} {config.env.id}", Train(config)) for name, config in PRESETS.items()}
        train = tyro.extras.overridable_config_cli(choices, config=(tyro.conf.FlagConversionOff,))
        results = _resume(train) if train.resume else _run(train)
    except (ValueError, OSError, ImportError, DivergedError) as error:
        console.print(f"[bold red]error:[/bold red] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted; go on with --resume and the run's folder. All facts are on disk.")
        sys.exit(130)
    _show(results)


def _run(train: Train) -> dict[str, Result]:
    arms = {learning_curve.DREAMING: train.config}
    if train.control:
        arms[learning_curve.CONTROL] = without_dreams(train.config)
    results = {}
    for arm, config in arms.items():
        with Watch(config.name) as watch:
            results[arm] = run(config, watch=watch)
    return results


def _resume(train: Train) -> dict[str, Result]:
    if train.control or train.config not in PRESETS.values():
        raise ValueError(
            "--resume goes on under the settings in the folder's config.json: leave out --control and all other fields"
        )
    with Watch(train.resume) as watch:
        result = resume(train.resume, watch=watch)
    for message in result.messages:
        console.print(f"[yellow]note:[/yellow] {message}", soft_wrap=True)
    return {learning_curve.DREAMING: result}


def _show(results: dict[str, Result]) -> None:
    rows = [row for arm, result in results.items() for row in rows_of(result.folder, arm=arm)]
    folder = next(iter(results.values())).folder
    figure = learning_curve.draw(rows, folder / "figures" / "learning_curve.png")
    show_results(results)
    console.print(
        f"""
figure          {figure}
run folder      {folder}
deployed agent  {folder / "deployed.safetensors"}

What to do next
  python -m scripts.evaluate {folder} --film episode.gif    # watch the deployed agent
  python -m scripts.evaluate {folder} --planner             # the same parameters with search
  python -m scripts.train {next(iter(results.values())).config.name} --seed 1 --loop.dream-ratio 32   # dream less
  python -m scripts.train --help                            # other environments
""",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
