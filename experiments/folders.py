"""Where runs without a folder of their own lie: `runs/<name>-<hash>-seed<seed>`, with a number if that is taken."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from dreamer.io import RunFolder, RunFolderError
from dreamer.io.run_folder import code_commit
from experiments.config import Config


def free(config: Config) -> Path:
    """Returns a path for a run that does not exist yet."""
    base = _base(config)
    names = itertools.chain([base.name], (f"{base.name}-{number}" for number in itertools.count(2)))
    return next(path for path in map(base.with_name, names) if not path.exists())


def begun(config: Config) -> RunFolder | None:
    """Returns the folder of a run that this very code began for the config and its seed, a finished one first."""
    wanted = config.hash(), config.seed, code_commit()
    found = [
        folder for folder in _whole(config) if (folder.config_hash, folder.config["seed"], folder.commit) == wanted
    ]
    return max(found, key=lambda folder: folder.deployed.exists(), default=None)


def _whole(config: Config) -> Iterator[RunFolder]:
    base = _base(config)
    for path in (base, *sorted(base.parent.glob(f"{base.name}-[0-9]*"))):
        try:
            yield RunFolder.open(path)
        except RunFolderError:  # none, or one whose maker died before it began
            continue


def _base(config: Config) -> Path:
    return Path("runs") / f"{config.name}-{config.hash()}-seed{config.seed}"
