"""The folder of one run: what was run, with which code, where everything is; written by one process at a time."""

import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import weakref
from datetime import UTC, datetime
from pathlib import Path

import jax

from dreamer.core.types import EnvSpec
from dreamer.io.files import write_atomically
from dreamer.io.log import LOG_NAME

FORMAT = 1
CONFIG_NAME = "config.json"
LOCK_NAME = ".lock"
UNFINISHED = (LOCK_NAME, CONFIG_NAME + ".tmp")
"""All that a run which died while making its folder can have left there."""
PACKAGES = ("jax", "flax", "optax", "mctx", "gymnasium", "gymnax", "numpy")
CODE = (":(top)", *(f":(top,exclude,glob)experiments/*/{made}" for made in ("results/*.csv", "figures/*.png")))
"""Which tracked files decide how a run goes: all but the rows and figures that runs themselves are written to."""


class RunFolderError(ValueError):
    """A folder that cannot be used, and what to do about it."""


class BusyError(RunFolderError):
    """A folder that a living process writes."""


class RunFolder:
    """One run's folder. Made by `create` or `open`; `close` it, or use it as a context, to let the next writer in.

    Attributes:
      path: the folder.
      about: what `config.json` holds.
    """

    def __init__(self, path: Path, about: dict, *, lock_handle: int | None):
        self.path = path
        self.about = about
        # At the latest when the object goes, so that a run that failed in this process does not block the next one.
        self._unlock = None if lock_handle is None else weakref.finalize(self, os.close, lock_handle)

    @staticmethod
    def require_free(path: str | Path) -> None:
        """Refuses a folder that holds something already.

        Raises:
          RunFolderError: it does.
        """
        path = Path(path)
        if path.is_dir() and any(entry.name not in UNFINISHED for entry in path.iterdir()):
            raise RunFolderError(
                f"The run folder {path} already holds something. Pass another --run.folder, or go on with its run "
                f"by --resume {path}."
            )

    @classmethod
    def create(cls, path: str | Path, config: dict, spec: EnvSpec, *, identity: dict | None = None) -> "RunFolder":
        """Makes a new folder and writes `config.json`.

        Args:
          path: a folder that does not exist or is empty.
          config: the whole configuration, as plain JSON values; `open` gives it back.
          spec: what the run lives in.
          identity: the part of `config` that can change results, hashed into `config_hash`; all of it where None.

        Raises:
          BusyError: another process is writing it.
          RunFolderError: the folder holds something, or cannot be written, or `config` is not JSON.
        """
        path = Path(path)
        about = describe(config, spec, config if identity is None else identity)
        try:
            if (path / LOCK_NAME).exists():
                os.close(lock(path))  # a living run is told apart from one to go on with
            cls.require_free(path)
            path.mkdir(parents=True, exist_ok=True)
            handle = lock(path)
            content = json.dumps(about, indent=2) + "\n"
            write_atomically(path / CONFIG_NAME, content.encode())
        except OSError as error:
            raise RunFolderError(
                f"The run folder {path} cannot be written ({error}). Pass a --run.folder that you may write to."
            ) from error
        return cls(path, json.loads(content), lock_handle=handle)

    @classmethod
    def open(cls, path: str | Path, *, write: bool = False) -> "RunFolder":
        """Opens a folder that `create` made.

        Args:
          path: the folder.
          write: True to resume the run, which locks the folder; False to read, also while the run goes on.

        Raises:
          BusyError: `write`, and another process is writing it.
          RunFolderError: no folder of ours there.
        """
        path = Path(path)
        if not path.is_dir():
            raise RunFolderError(f"There is no run folder {path}. Pass the folder that a run printed at its end.")
        try:
            about = json.loads((path / CONFIG_NAME).read_text())
            if about["format"] != FORMAT:
                raise RunFolderError(
                    f"The run folder {path} has format {about['format']}, this version reads format {FORMAT}. "
                    f"Use the version that wrote it (commit {about.get('commit', 'unknown')})."
                )
            EnvSpec(**about["spec"])
            _ = about["config"], about["config_hash"], about["commit"]
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise RunFolderError(
                f"{path} is not a run folder: its {CONFIG_NAME} is missing or not ours "
                f"({type(error).__name__}: {error}). Pass the folder that a run printed at its end."
            ) from error
        try:
            handle = lock(path) if write else None
        except OSError as error:
            raise RunFolderError(
                f"The run folder {path} cannot be written ({error}). Copy it to a place that you may write to."
            ) from error
        return cls(path, about, lock_handle=handle)

    @property
    def config(self) -> dict:
        """The configuration as plain JSON values (tuples have become lists)."""
        return self.about["config"]

    @property
    def config_hash(self) -> str:
        """First 12 hex digits of the SHA-256 over the canonical JSON of the run's identity."""
        return self.about["config_hash"]

    @property
    def commit(self) -> str:
        """Git commit of the code, as `git_commit` names it."""
        return self.about["commit"]

    @property
    def spec(self) -> EnvSpec:
        """What the run lives in."""
        fields = self.about["spec"]
        return EnvSpec(**{**fields, "obs_shape": tuple(fields["obs_shape"])})

    @property
    def facts(self) -> Path:
        """Folder of the real transitions (`FactLog`)."""
        return self.path / "facts"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints (`Checkpoints`)."""
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        """The JSONL file of the logged rows (`Log`)."""
        return self.path / LOG_NAME

    @property
    def deployed(self) -> Path:
        """File of the agent that the run deployed."""
        return self.path / "deployed.safetensors"

    @property
    def versions(self) -> Path:
        """Folder of all agents that a run with a gate deployed (`Versions`)."""
        return self.path / "versions"

    @property
    def figures(self) -> Path:
        """Folder of the figures."""
        return self.path / "figures"

    def close(self) -> None:
        """Unlocks the folder; does nothing where it was not locked."""
        if self._unlock is not None:
            self._unlock()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def config_hash(identity: dict) -> str:
    """Returns the first 12 hex digits of the SHA-256 over the canonical JSON of `identity`."""
    try:
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RunFolderError(f"The configuration is not plain finite JSON ({error}). Keep to plain values.") from error
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def describe(config: dict, spec: EnvSpec, identity: dict) -> dict:
    """Returns the content of `config.json`."""
    config_hash(config)
    device = jax.devices()[0]
    return {
        "format": FORMAT,
        "config": config,
        "config_hash": config_hash(identity),
        "spec": dataclasses.asdict(spec),
        "commit": code_commit(),
        "versions": {"python": platform.python_version()} | {name: package_version(name) for name in PACKAGES},
        "device": {
            "machine": platform.platform(),
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
        },
        "start_time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def package_version(name: str) -> str:
    """Returns the installed version of a package, or `not installed`."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def code_commit() -> str:
    """Returns the commit of the code that runs, as `git_commit` names it."""
    return git_commit(Path(__file__))


def git_commit(file: Path) -> str:
    """Returns the commit that `file` belongs to; where `CODE` differs from it, with `-dirty-` and a digest of how.

    Equal names mean equal tracked code. `unknown` where git does not track `file`: an installed copy must not name the
    repository it happens to lie in.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True, timeout=30)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        commit = git("rev-parse", "--verify", "HEAD")
        changed = git("diff", "--no-ext-diff", "--no-color", "HEAD", "--", *CODE)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}-dirty-{hashlib.sha256(changed.encode()).hexdigest()[:8]}" if changed else commit


def lock(path: Path) -> int:
    """Locks a folder for this process and returns the file handle whose closing unlocks it.

    The kernel holds the lock and drops it when the process dies, however it dies, so a lock file left by a dead
    process is simply taken over. The process number inside the file is only for the message.
    """
    handle = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        owner = os.pread(handle, 64, 0).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise BusyError(
            f"Process {owner} is writing the run folder {path}. Wait for it, end it, or pass another --run.folder."
        ) from error
    except OSError:
        os.close(handle)
        raise
    return handle
