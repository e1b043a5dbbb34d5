"""Checkpoints of everything that is not facts: small, whole or absent, checked when read.

Arrays are stored by orbax (https://orbax.readthedocs.io), as one flat list, so that reading them back needs no class
that the tree is made of. `about.json` beside them holds the counters, the leaves' names and the digest of it all.
"""

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from dreamer.core.trees import digest
from dreamer.core.types import PyTree
from dreamer.io.faults import MISSING
from dreamer.io.files import sync_folder, sync_tree, write_atomically

FORMAT = 1
ABOUT_NAME = "about.json"
ARRAYS_NAME = "arrays"


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read, and what to do about it."""


class _UnreadableError(Exception):
    """Why one checkpoint is not what was saved."""


class Restored(NamedTuple):
    """What `Checkpoints.restore` found."""

    day: int
    """The day after which it was saved."""
    tree: PyTree
    """The saved arrays in the structure asked for."""
    counters: dict[str, Any]
    """The saved counters."""
    messages: list[str]
    """What the user should be told: newer checkpoints that could not be read, and why."""


class Checkpoints:
    """The newest checkpoints of one run, a folder each, `day-00000012` and so on."""

    def __init__(self, folder: str | Path, keep: int = 2):
        """Makes the folder if need be.

        Args:
          folder: where the checkpoints lie.
          keep: how many to keep; at least 2, so that there is one to fall back to.
        """
        if keep < 2:
            raise CheckpointError(f"keep is {keep}; keep at least 2 checkpoints, one is there to fall back to.")
        self.folder = Path(folder).absolute()
        self._keep = keep
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{folder} cannot be written ({error}). Pass another --run.folder.") from error

    @property
    def days(self) -> list[int]:
        """The days that have a checkpoint, oldest first."""
        found = (path.name.removeprefix("day-") for path in self.folder.glob("day-*"))
        return sorted(int(number) for number in found if number.isdigit())

    def save(self, day: int, tree: PyTree, counters: dict[str, Any]) -> Path:
        """Saves one checkpoint, then removes the ones beyond `keep`. On return it is on disk, and no thread is left.

        Args:
          day: the day after which the run stands; a checkpoint of that day is replaced, later ones are removed
            (a run that fell back lives those days again).
          tree: pytree of arrays, typed keys included.
          counters: what JSON can hold.

        Raises:
          CheckpointError: a leaf is not finite or not an array, `counters` is not JSON, or the disk refuses. The
            checkpoints that were there stay.
        """
        require_finite(tree)
        about = {
            "format": FORMAT,
            "day": day,
            "leaves": _leaves(tree),
            "key_impls": {name: str(jax.random.key_impl(leaf)) for name, leaf in _named(tree).items() if _is_key(leaf)},
            "counters": counters,
            "digest": digest(tree),
        }
        try:
            json.dumps(counters, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"The counters of day {day} are not plain finite JSON ({error}).") from error
        try:
            self._publish(self._draft(tree, about), day)
        except OSError as error:
            raise CheckpointError(
                f"The checkpoint of day {day} could not be written to {self.folder} ({error}). The ones before it are "
                f"intact: make room and resume the run."
            ) from error
        return self._path(day)

    def restore(self, like: PyTree, *, day: int | None = None) -> Restored:
        """Reads the newest checkpoint that is whole.

        Args:
          like: pytree of the structure, shapes and dtypes wanted: arrays, or `jax.ShapeDtypeStruct`s as of
            `jax.eval_shape`. NumPy leaves come back as NumPy arrays, all others as JAX arrays.
          day: only this day's, instead of the newest.

        Raises:
          CheckpointError: none, none whole, the newest whole one holds another tree than `like`, or the disk refuses.
        """
        days = self.days[::-1] if day is None else [day]
        if not days or (day is not None and day not in self.days):
            wanted = "a checkpoint" if day is None else f"a checkpoint of day {day}"
            raise CheckpointError(f"{self.folder} does not hold {wanted}; it has those of days {self.days}.")
        messages = []
        for candidate in days:
            path = self._path(candidate)
            try:
                about = _read_about(path, candidate)
                _require_same(about["leaves"], _leaves(like), path)
                _require_whole(path / ARRAYS_NAME, about["files"])
                tree = _read_tree(path, about, like)
            except _UnreadableError as error:
                messages.append(f"The checkpoint {path} cannot be read ({error}); trying the one before it.")
                continue
            except OSError as error:
                what = f"The checkpoint {path} cannot be read ({error}), though it may be whole"
                raise CheckpointError(f"{what}: see to the disk, or move it away to use the one before it.") from error
            return Restored(candidate, tree, about["counters"], messages)
        reasons = "\n".join(messages)
        raise CheckpointError(
            f"No checkpoint in {self.folder} can be read. Restore one from a copy, or begin a new folder; the facts of "
            f"the run are untouched.\n{reasons}"
        )

    def _draft(self, tree: PyTree, about: dict[str, Any]) -> Path:
        """Writes a whole checkpoint under a name that `restore` does not look at."""
        draft = self.folder / "unfinished"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        with _quiet(), _alone() as checkpointer:
            checkpointer.save(draft / ARRAYS_NAME, _stored(tree))
        write_atomically(draft / ABOUT_NAME, _signed(about | {"files": _file_digests(draft / ARRAYS_NAME)}))
        sync_tree(draft)
        return draft

    def _publish(self, draft: Path, day: int) -> None:
        """Gives a checkpoint its name, and only then removes those it makes superfluous."""
        replaced = self.folder / "replaced"
        shutil.rmtree(replaced, ignore_errors=True)
        if self._path(day).exists():
            self._path(day).replace(replaced)
        draft.replace(self._path(day))
        sync_folder(self.folder)
        shutil.rmtree(replaced, ignore_errors=True)
        days = self.days
        for old in [later for later in days if later > day] + [old for old in days if old <= day][: -self._keep]:
            shutil.rmtree(self._path(old))

    def _path(self, day: int) -> Path:
        return self.folder / f"day-{day:08d}"


def require_finite(tree: PyTree) -> None:
    """Refuses a tree with a NaN or an infinity in it.

    Raises:
      CheckpointError: names the first such leaf.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) and not np.all(np.isfinite(np.asarray(leaf))):
            raise CheckpointError(
                f"Leaf {jax.tree_util.keystr(path)} is not finite, so it is not saved; the checkpoints before it stay. "
                f"Lower the learning rate or look for the first row of the log with a null."
            )


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _named(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves by their number, without those of zero size, which orbax does not store."""
    return {f"{number:06d}": leaf for number, leaf in enumerate(jax.tree.leaves(tree)) if 0 not in leaf.shape}


def _stored(tree: PyTree) -> dict[str, np.ndarray]:
    """Returns what orbax is given: host arrays, typed keys as their numbers. Orbax refuses to store an empty tree."""
    named = {
        name: np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for name, leaf in _named(tree).items()
    }
    return named | {"format": np.array(FORMAT)}


def _leaves(tree: PyTree) -> list[list[Any]]:
    """Returns [name, dtype, shape] of every leaf, as JSON has them."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
            raise CheckpointError(f"Leaf {name} is a {type(leaf).__name__}, no array. Put it into `counters`.")
        if 0 in leaf.shape and _is_key(leaf):
            raise CheckpointError(f"Leaf {name} is an empty array of keys, which cannot be saved. Leave it out.")
        found.append([name, str(leaf.dtype), list(leaf.shape)])
    return found


def _require_same(saved: list, wanted: list, path: Path) -> None:
    """Refuses a checkpoint of another tree, naming the first leaf that differs."""
    for have, want in zip(saved + [None] * len(wanted), wanted + [None] * len(saved), strict=False):
        if have is None and want is None:
            return
        if have != want:
            words = [("nothing" if leaf is None else f"{leaf[0]} {leaf[1]}{leaf[2]}") for leaf in (have, want)]
            raise CheckpointError(
                f"The checkpoint {path} belongs to another configuration: it has {words[0]} where {words[1]} is "
                f"expected. Resume with the configuration in config.json of its folder, and the code that wrote it."
            )


def _file_digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file below a folder, by its name from there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _require_whole(folder: Path, expected: dict[str, str]) -> None:
    """Keeps damaged files from orbax, whose reading threads complain to the terminal after it has raised."""
    found = _file_digests(folder)
    for name, wanted in expected.items():
        if found.get(name) != wanted:
            raise _UnreadableError(f"{ARRAYS_NAME}/{name}: {'its digest is wrong' if name in found else 'missing'}")


def _signed(about: dict[str, Any]) -> bytes:
    """Returns the text of `about.json`: the digest of the content, then the content."""
    body = json.dumps(about, allow_nan=False)
    return f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}\n".encode()


def _read_about(path: Path, day: int) -> dict[str, Any]:
    try:
        signature, body = (path / ABOUT_NAME).read_text().split("\n", 1)
    except (*MISSING, ValueError) as error:
        raise _UnreadableError(f"{ABOUT_NAME}: {error}") from error
    body = body.removesuffix("\n")
    if hashlib.sha256(body.encode()).hexdigest() != signature:
        raise _UnreadableError(f"{ABOUT_NAME}: its digest is wrong")
    about = json.loads(body)
    if about["format"] != FORMAT:
        raise CheckpointError(
            f"The checkpoint {path} has format {about['format']}, this version reads {FORMAT}. Use the one that wrote "
            f"it."
        )
    if about["day"] != day:
        raise _UnreadableError(f"it is of day {about['day']}, its name is not")
    return about


def _read_tree(path: Path, about: dict[str, Any], like: PyTree) -> PyTree:
    names = [*_named(like), "format"]
    try:
        with _quiet(), _alone() as checkpointer:
            arrays = checkpointer.restore(
                path / ARRAYS_NAME,
                item=dict.fromkeys(names, 0),
                restore_args=dict.fromkeys(names, ocp.RestoreArgs(restore_type=np.ndarray)),
            )
    except Exception as error:  # the files are whole, so this is another orbax's format; it has no error of its own
        raise _UnreadableError(f"orbax: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error
    leaves = []
    for number, leaf in enumerate(jax.tree.leaves(like)):
        name = f"{number:06d}"
        leaves.append(_loaded(arrays.get(name), leaf, impl=about["key_impls"].get(name)))
    tree = jax.tree.unflatten(jax.tree.structure(like), leaves)
    if digest(tree) != about["digest"]:
        raise _UnreadableError("the digest of its arrays is wrong")
    return tree


def _loaded(array: np.ndarray | None, like: Any, *, impl: str | None) -> Any:
    """Returns a stored array as `like` is: NumPy, JAX or typed keys of `impl`; None stands for zero size."""
    if impl is not None:
        return jax.random.wrap_key_data(jnp.array(array), impl=impl)
    if array is None:
        array = np.zeros(like.shape, like.dtype)
    return array if isinstance(like, np.ndarray | np.generic) else jnp.array(array)  # a copy, so that it can be donated


def _alone() -> ocp.Checkpointer:
    """Returns an orbax checkpointer that waits for no other process: of a run in several, one writes."""
    process = jax.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process})
    return ocp.Checkpointer(
        ocp.PyTreeCheckpointHandler(multiprocessing_options=options), multiprocessing_options=options
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps orbax's reports of its own progress off the terminal; errors come as exceptions."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
