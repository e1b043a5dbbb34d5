"""The facts as a Minari dataset, for those who use Gymnasium's offline data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dreamer.core.types import Transition
from dreamer.io.facts import FactLog, FactsError


def export_minari(facts: FactLog, root: str | Path, dataset_id: str) -> Path:
    """Writes all facts as one dataset, which `MINARI_DATASETS_PATH=root` and `minari.load_dataset(dataset_id)` read.

    An episode of T decisions has T + 1 observations. What was still going on at the end of the facts, or when the
    copies were restarted before a day, ends truncated. Observations are stored as they are, images without JPEG.
    Format: https://minari.farama.org.

    Args:
      facts: the facts of a run.
      root: folder of datasets.
      dataset_id: `(namespace/)name(-vN)`.

    Returns:
      The folder of the dataset.

    Raises:
      FactsError: Minari is not installed, the facts are empty, or there is such a dataset already.
    """
    try:
        import h5py  # noqa: F401  Minari's file format, which it does not require by itself
        import minari
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage
        from minari.serialization import deserialize_space
    except ImportError as error:
        raise FactsError(
            f"Minari is not installed ({error}). Install it with: pip install -r requirements-minari.txt"
        ) from error
    if not facts.days:
        raise FactsError(f"There are no days in {facts.folder} to export. Let the run live at least one.")
    folder = Path(root) / dataset_id
    if folder.exists():
        raise FactsError(f"{folder} already exists. Pass another dataset id, e.g. with the next -vN.")
    (folder / "data").mkdir(parents=True)
    storage = MinariStorage.new(
        folder / "data",
        observation_space=deserialize_space(_box(facts.spec.obs_shape, facts.spec.obs_dtype)),
        action_space=deserialize_space({"type": "Discrete", "n": facts.spec.num_actions, "start": 0}),
        jpeg_encoding=False,
    )
    storage.update_metadata(
        {
            "dataset_id": dataset_id,
            "minari_version": minari.__version__,
            "description": f"Real transitions of {facts.spec.id} ({facts.spec.suite} {facts.spec.version}).",
        }
    )
    storage.update_episodes(EpisodeBuffer(**episode) for episode in episodes(facts))
    return folder


def episodes(facts: FactLog) -> Iterator[dict[str, Any]]:
    """Yields the episodes of all copies in the order of their ends, as NumPy arrays by Minari's names.

    `observations` [T + 1, *obs_shape], `actions` [T], `rewards` [T], `terminations` [T], `truncations` [T].
    """
    open_rows: list[list[Transition]] = [[] for _ in range(facts.num_envs)]
    for _, continues, day in facts.read():
        if not continues:
            yield from _close(open_rows)
        for step, ended in enumerate(day.terminated | day.truncated):
            for copy in range(facts.num_envs):
                open_rows[copy].append(_row(day, step, copy))
                if ended[copy]:
                    yield _episode(open_rows[copy])
                    open_rows[copy] = []
    yield from _close(open_rows)


def _close(open_rows: list[list[Transition]]) -> Iterator[dict[str, Any]]:
    for copy, rows in enumerate(open_rows):
        if rows:
            rows[-1] = rows[-1].replace(truncated=np.True_)
            yield _episode(rows)
            open_rows[copy] = []


def _row(day: Transition, step: int, copy: int) -> Transition:
    return Transition(*(getattr(day, name)[step, copy] for name in day.__dataclass_fields__))


def _episode(rows: list[Transition]) -> dict[str, Any]:
    return {
        "observations": np.stack([row.obs for row in rows] + [rows[-1].next_obs]),
        "actions": np.array([row.action for row in rows], np.int64),
        "rewards": np.array([row.reward for row in rows]),
        "terminations": np.array([row.terminated for row in rows]),
        "truncations": np.array([row.truncated for row in rows]),
    }


def _box(shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
    """Returns the widest box of a shape and dtype, in Minari's words."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        low, high = -np.inf, np.inf
    elif kind.kind == "b":
        low, high = False, True
    else:
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
    return {
        "type": "Box",
        "shape": shape,
        "dtype": dtype,
        "low": np.full(shape, low, kind).tolist(),
        "high": np.full(shape, high, kind).tolist(),
    }
