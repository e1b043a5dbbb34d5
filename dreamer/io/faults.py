"""Which faults pass: those of the machine around a run, and not of what the run left on its disk."""

from dreamer.io.log import WandbError

MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""Where a file should be is none: half-made or damaged."""


def is_passing(error: BaseException) -> bool:
    """Whether the same may succeed once the machine is mended: a full disk, a permission, an account.

    The errors of this room carry what the machine said as their cause.
    """
    if isinstance(error, WandbError):
        return True
    if isinstance(error, OSError) and not isinstance(error, MISSING):
        return True
    return error.__cause__ is not None and is_passing(error.__cause__)
