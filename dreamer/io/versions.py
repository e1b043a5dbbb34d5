"""The agents that a run deployed, one after the other, and why others were refused: a file each, and their lineage."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamer.io.files import sync_folder, write_atomically
from dreamer.io.log import cut_log, plain, read_log

LINEAGE_NAME = "lineage.jsonl"
VERSION, DEPLOYED = "version", "deployed"
"""Columns of every row: number of the night that made an agent, and whether it was put in force."""


class VersionsError(ValueError):
    """A version that is not there, and which ones are."""


class Versions:
    """The versions of one run: `<number>.safetensors` of each that was deployed, and a row for each that was judged.

    Attributes:
      folder: where they lie; there from the first row on.
    """

    def __init__(self, folder: str | Path):
        """Takes the folder, which need not exist."""
        self.folder = Path(folder)
        self._lineage = self.folder / LINEAGE_NAME

    def path(self, number: int) -> Path:
        """Returns where the agent of a night lies, or is to lie."""
        return self.folder / f"{number:08d}.safetensors"

    def rows(self) -> list[dict]:
        """Returns the lineage, oldest first; nothing where no version was judged.

        Raises:
          LogError: a line that is not a row.
        """
        return read_log(self._lineage) if self._lineage.exists() else []

    @property
    def in_force(self) -> int | None:
        """Number of the version that was deployed last, None before the first."""
        return next((row[VERSION] for row in reversed(self.rows()) if row[DEPLOYED]), None)

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row with `day`, `version` and `deployed`; on return it is on disk.

        Args:
          row: scalars and strings as in a log; numbers that are none become null. The file of a version that was
            deployed is to be there before its row.
        """
        row = {name: plain(name, value) for name, value in row.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lineage.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.folder)

    def cut(self, last_day: int) -> None:
        """Drops the rows after a day: a resumed run lives those days again and writes the same ones."""
        cut_log(self._lineage, last_day)

    def require(self, number: int) -> Path:
        """Returns the file of a version that was deployed.

        Raises:
          VersionsError: there is none.
        """
        if self.path(number).is_file():
            return self.path(number)
        known = sorted(int(path.stem) for path in self.folder.glob("*.safetensors"))
        if not known:
            raise VersionsError(f"{self.folder.parent} has no versions: only a run with --gate.evidence keeps them")
        raise VersionsError(f"there is no version {number} in {self.folder}: give one of {', '.join(map(str, known))}")

    def put_in_force(self, number: int, target: Path) -> None:
        """Copies a version over the file of the deployed agent, whole or not at all."""
        write_atomically(target, self.require(number).read_bytes())
