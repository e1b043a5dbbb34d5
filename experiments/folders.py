"""Where runs without a folder of their own lie: `runs/<name>-<hash>-seed<seed>`, with a number if that is taken."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from dreamer.io import RunFolder, RunFolderError, is_passing
from dreamer.io.run_folder import code_commit
from experiments.config import Config
from experiments.sessions.config import SessionsConfig


def free(config: Config | SessionsConfig) -> Path:
    """Returns a path for a run that does not exist yet."""
    base = _base(config)
    names = itertools.chain([base.name], (f"{base.name}-{number}" for number in itertools.count(2)))
    return next(path for path in map(base.with_name, names) if not path.exists())


def begun(config: Config | SessionsConfig) -> list[RunFolder]:
    """Returns the folders that this very code began for the config and its seed: finished ones first, then the newest.

    Those that lived in a world of somebody's own are not among them.

    A newer one was begun because no older one could go on.

    Raises:
      RunFolderError: a folder cannot be read now, so nobody knows whose it is.
    """
    wanted = config.hash(), config.seed, code_commit()
    found = [
        folder
        for folder in _whole(config)
        if (folder.config_hash, folder.config["seed"], folder.commit) == wanted and folder.spec.id == config.env.id
    ]
    return sorted(reversed(found), key=lambda folder: not folder.deployed.exists())


def require_world(folder: RunFolder, id: str) -> None:
    """Refuses a run that lived in another environment than `id`, the one at hand.

    Raises:
      ValueError: says so, and how to go on.
    """
    if folder.spec.id != id:
        raise ValueError(
            f"{folder.path} lived in {folder.spec.id}, but what was made for it is {id}: your own is handed over "
            "from Python, by `resume(path, parts=build(config, env))`, and measured by `Parts.evaluate`"
        )


def _whole(config: Config | SessionsConfig) -> Iterator[RunFolder]:
    """Yields the folders of the config and its seed, in the order they were named in."""
    base = _base(config)
    for path in (base, *sorted(base.parent.glob(f"{base.name}-[0-9]*"), key=lambda path: (len(path.name), path.name))):
        try:
            yield RunFolder.open(path)
        except RunFolderError as error:
            if is_passing(error):
                raise
            # There is none, or one whose maker died before it began.


def _base(config: Config | SessionsConfig) -> Path:
    return Path("runs") / f"{config.name}-{config.hash()}-seed{config.seed}"
