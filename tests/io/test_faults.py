import pytest

from dreamer.io import CheckpointError, FactsError, LogError, is_passing
from dreamer.io.log import WandbError


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(28, "No space left on device"), True),
        (caused(FactsError("could not be written"), OSError(28, "No space left on device")), True),
        (caused(CheckpointError("cannot be read"), PermissionError(13, "Permission denied")), True),
        (
            caused(FactsError("cannot be read"), caused(ValueError("of the reader"), PermissionError(13, "Denied"))),
            True,
        ),
        (WandbError("no account"), True),
        (FactsError("There are no facts"), False),
        (caused(LogError("cannot be read"), FileNotFoundError(2, "No such file")), False),
        (caused(FactsError("its first record is not that of a fact log"), KeyError("format")), False),
        (IsADirectoryError(21, "Is a directory"), False),
    ],
)
def test_what_the_machine_may_mend(error, passes):
    assert is_passing(error) is passes
