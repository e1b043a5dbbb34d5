"""Writing files so that a crash, of the process or of the machine, leaves the old content or the new, never a mix."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole: on return it is on disk, and before that the old one is untouched."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a file for this process alone while it is read and written over; whoever comes second waits.

    The kernel drops the lock with the process. The lock is a hidden file beside it, for the file itself is replaced.
    """
    with path.with_name(f".{path.name}.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on disk, without which a new file can vanish in a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(path: Path) -> None:
    """Waits until everything under a folder is on disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            sync_folder(Path(folder, name))
        sync_folder(Path(folder))
