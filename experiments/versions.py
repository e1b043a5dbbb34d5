"""Rolling back: an earlier version of a finished run is put in force again, and the lineage says so."""

from pathlib import Path

from dreamer.io import RunFolder, Versions


def lineage(path: str | Path) -> list[dict]:
    """Returns the rows of all agents that were judged in a run, deployed or refused, oldest first.

    Raises:
      ValueError: no run folder, or a lineage that cannot be read.
    """
    return Versions(RunFolder.open(path).versions).rows()


def put_in_force(path: str | Path, number: int) -> Path:
    """Makes version `number` the deployed agent of a finished run, and returns its file.

    Nothing is lost: every version stays, and the lineage gains a row.

    Raises:
      ValueError: no run folder, one that is being written, a run that has not finished, or no such version.
    """
    with RunFolder.open(path, write=True) as folder:
        versions = Versions(folder.versions)
        versions.require(number)
        if not folder.deployed.exists():
            raise ValueError(
                f"{path} has not finished, and deploys an agent at its end: go on with it by --resume {path} first"
            )
        parent, day = versions.in_force, versions.rows()[-1]["day"]
        versions.put_in_force(number, folder.deployed)
        versions.write({"day": day, "version": number, "parent": parent, "deployed": True, "why": "by hand"})
        return folder.deployed
