"""The fact log: every real transition, on disk before it is learned from, never changed afterwards.

Where observations stack frames, a day's record holds every frame once (`core/stacks`).

Letters: T decisions of one day, E environment copies, A actions.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from dreamer.core import stacks
from dreamer.core.types import EnvSpec, Transition
from dreamer.io.files import sync_folder, write_atomically
from dreamer.io.frames import FrameError, append_durably, frame, read_frame, read_frames

FORMAT = 1
SEGMENT_BYTES = 32 * 2**20
"""A segment that would grow beyond this is followed by a new one."""
FIELDS = tuple(field.name for field in dataclasses.fields(Transition))


class FactsError(ValueError):
    """Facts that cannot be written or read, and what to do about it."""


class _Place(NamedTuple):
    """Where a day lies."""

    segment: int
    offset: int
    num_bytes: int
    continues: bool


class FactLog:
    """The days of one run in append-only segment files, `segment-000000.facts` and so on.

    Attributes:
      folder: where the segments lie.
      spec: what the transitions were lived in.
      num_envs: E, the copies that lived them side by side.
      messages: what `open` has to tell the user, e.g. that a crash cut the last record short.
    """

    def __init__(self, folder: Path, spec: EnvSpec, *, num_envs: int, segment_bytes: int):
        self.folder = folder
        self.spec = spec
        self.num_envs = num_envs
        self.messages: list[str] = []
        self._segment_bytes = segment_bytes
        self._places: list[_Place] = []
        self._last_segment = 0
        self._end = 0

    @classmethod
    def create(
        cls, folder: str | Path, spec: EnvSpec, num_envs: int, *, segment_bytes: int = SEGMENT_BYTES
    ) -> "FactLog":
        """Begins an empty log in a folder that does not exist or is empty.

        Raises:
          FactsError: the folder holds something, or cannot be written.
        """
        facts = cls(Path(folder), spec, num_envs=num_envs, segment_bytes=segment_bytes)
        try:
            facts.folder.mkdir(parents=True, exist_ok=True)
            if any(facts.folder.glob("*.facts")):
                raise FactsError(f"{folder} already holds facts. Pass another --run.folder, or resume that run.")
            facts._begin_segment(0)
        except OSError as error:
            raise FactsError(f"Facts cannot be written to {folder} ({error}). Pass another --run.folder.") from error
        return facts

    @classmethod
    def open(cls, folder: str | Path, *, segment_bytes: int = SEGMENT_BYTES) -> "FactLog":
        """Opens a log that `create` began, and checks every record.

        A last record that a crash cut short is left out, with a word in `messages`; the next `append` writes over it.
        Opening writes nothing, so a log may be read while a run appends to it.

        Raises:
          FactsError: no facts there, of another format, or damaged elsewhere than at the very end.
        """
        folder = Path(folder)
        paths = sorted(folder.glob("segment-*.facts"))
        if not paths:
            raise FactsError(f"There are no facts in {folder}. Pass the folder of a run that lived at least one day.")
        head = _read_head(paths[0], number=0)
        facts = cls(folder, head.spec, num_envs=head.num_envs, segment_bytes=segment_bytes)
        for number, path in enumerate(paths):
            if path != facts._path(number) or _read_head(path, number=number) != head:
                raise FactsError(
                    f"{path} does not go on from the segment before it: a file is missing or was put there. Restore "
                    f"{facts._path(number).name}; the segments before it are intact."
                )
            facts._last_segment = number
            facts._scan(path, last=number == len(paths) - 1)
        return facts

    @property
    def days(self) -> range:
        """The days stored, from 0 without a gap."""
        return range(len(self._places))

    @property
    def continues(self) -> list[bool]:
        """Of each day stored, whether it went on from the one before it."""
        return [place.continues for place in self._places]

    def append(self, day: int, trajectory: Transition, continues: bool = True) -> None:
        """Stores one day; on return it is on disk. A day that is stored already is compared instead.

        Args:
          day: 0 for the first, then one more each time.
          trajectory: [T, E, ...] what the copies lived, T >= 1, in the dtypes of `Transition` and the spec.
          continues: False where the copies were restarted before this day, whatever they were doing.

        Raises:
          FactsError: `day` leaves a gap, differs from what is stored, does not fit the spec, stacks frames otherwise
            than it says, or cannot be written.
        """
        arrays = {name: np.ascontiguousarray(getattr(trajectory, name)) for name in FIELDS}
        _check(arrays, self.spec, self.num_envs, day=day)
        if day in self.days:
            self._compare(day, arrays, continues)
            return
        if day != len(self._places):
            raise FactsError(f"Day {day} cannot be stored in {self.folder}: day {len(self._places)} comes next.")
        data = frame(_encode(day, continues, arrays, self.spec))
        try:
            started = bool(self._places) and self._places[-1].segment == self._last_segment
            if started and self._end + len(data) > self._segment_bytes:
                self._begin_segment(self._last_segment + 1)
            append_durably(self._path(self._last_segment), data, self._end)
        except OSError as error:
            raise FactsError(
                f"Day {day} could not be written to {self._path(self._last_segment)} ({error}). The days before it "
                f"are intact: make room and resume the run."
            ) from error
        self._places.append(_Place(self._last_segment, self._end, len(data), bool(continues)))
        self._end += len(data)

    def read(self, first_day: int = 0) -> Iterator[tuple[int, bool, Transition]]:
        """Yields (day, continues, trajectory [T, E, ...] of NumPy arrays) from `first_day` to the last day.

        Raises:
          FactsError: a record was damaged after the log was opened.
        """
        for day in self.days[first_day:]:
            place = self._places[day]
            with self._path(place.segment).open("rb") as file:
                file.seek(place.offset)
                content = file.read(place.num_bytes)
            try:
                payload = read_frame(content, 0).payload
            except FrameError as error:
                raise _damaged(self._path(place.segment), day, place.offset, error) from error
            yield day, place.continues, _decode(payload, self.spec)

    def _path(self, segment: int) -> Path:
        return self.folder / f"segment-{segment:06d}.facts"

    def _begin_segment(self, number: int) -> None:
        head = {
            "format": FORMAT,
            "segment": number,
            "num_envs": self.num_envs,
            "spec": dataclasses.asdict(self.spec),
        }
        data = frame(json.dumps(head).encode())
        write_atomically(self._path(number), data)
        sync_folder(self.folder.parent)
        self._last_segment, self._end = number, len(data)

    def _scan(self, path: Path, *, last: bool) -> None:
        """Notes where the days of one segment lie."""
        day = len(self._places)
        try:
            for record, found in enumerate(read_frames(path.read_bytes())):
                self._end = found.end
                if record == 0:
                    continue
                about = _about(found.payload)
                if about["day"] != day:
                    raise FactsError(f"{path}: holds day {about['day']} where day {day} should be. Restore the file.")
                num_bytes = found.end - found.offset
                self._places.append(_Place(self._last_segment, found.offset, num_bytes, about["continues"]))
                day += 1
        except FrameError as error:
            if not (error.torn and last):
                raise _damaged(path, day, error.offset, error) from error
            lost = path.stat().st_size - error.offset
            self.messages.append(
                f"{path}: the last record (day {day}) is not whole, {error}. Its {lost} bytes are left out; "
                f"the days before it are intact."
            )

    def _compare(self, day: int, arrays: dict[str, np.ndarray], continues: bool) -> None:
        """Refuses a day that is not what is stored of it, bit by bit."""
        _, stored_continues, stored = next(self.read(day))
        different = [name for name in FIELDS if not _identical(getattr(stored, name), arrays[name])]
        if bool(continues) != stored_continues:
            different.append("continues")
        if different:
            raise FactsError(
                f"facts differ: {self._path(self._places[day].segment)}, day {day}, field {different[0]}. What is "
                f"stored stays. Resume with the code, configuration and seed that wrote it, or begin a new folder."
            )


class _Head(NamedTuple):
    """What every segment begins with."""

    spec: EnvSpec
    num_envs: int


def _read_head(path: Path, *, number: int) -> _Head:
    try:
        with path.open("rb") as file:
            head = json.loads(read_frame(file.read(2**16), 0).payload)
        if head["format"] != FORMAT:
            raise FactsError(
                f"{path} has format {head['format']}, this version reads {FORMAT}. Use the one that wrote it."
            )
        if head["segment"] != number:
            raise FactsError(f"{path} says that it is segment {head['segment']}. Give it back its own name.")
        spec = EnvSpec(**{**head["spec"], "obs_shape": tuple(head["spec"]["obs_shape"])})
        return _Head(spec, head["num_envs"])
    except (FrameError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise FactsError(
            f"{path}: its first record is not that of a fact log ({type(error).__name__}: {error}). Restore the file; "
            f"the segments before it are intact."
        ) from error


def _damaged(path: Path, day: int, offset: int, error: FrameError) -> FactsError:
    return FactsError(
        f"{path}, record of day {day} at byte {offset}: {error}. The {day} days before it are intact; restore "
        f"the file from a copy, or begin a new folder."
    )


def _encode(day: int, continues: bool, arrays: dict[str, np.ndarray], spec: EnvSpec) -> bytes:
    """Returns safetensors bytes. One metadata entry, since the order of several is not the same in every process."""
    if spec.frame_stack > 1:
        rest = {name: array for name, array in arrays.items() if name not in ("obs", "next_obs")}
        ended = arrays["terminated"] | arrays["truncated"]
        try:
            frames = stacks.pack(arrays["obs"], arrays["next_obs"], ended, spec.frame_stack)
        except ValueError as error:
            raise FactsError(f"Day {day} of {spec.id} was not stored: {error}.") from error
        arrays = rest | {name: np.ascontiguousarray(array) for name, array in vars(frames).items()}
    return safetensors.numpy.save(arrays, {"about": json.dumps({"day": day, "continues": bool(continues)})})


def _about(payload: bytes) -> dict:
    """Returns {"day", "continues"}: the metadata is in the JSON that safetensors puts first."""
    length = int.from_bytes(payload[:8], "little")
    return json.loads(json.loads(payload[8 : 8 + length])["__metadata__"]["about"])


def _decode(payload: bytes, spec: EnvSpec) -> Transition:
    """Returns the trajectory [T, E, ...]."""
    arrays = safetensors.numpy.load(payload)
    if spec.frame_stack > 1:
        frames = stacks.Frames(*(arrays.pop(field.name) for field in dataclasses.fields(stacks.Frames)))
        ended = arrays["terminated"] | arrays["truncated"]
        arrays["obs"], arrays["next_obs"] = stacks.unpack(frames, ended, spec.frame_stack)
    return Transition(**arrays)


def _identical(left: np.ndarray, right: np.ndarray) -> bool:
    return left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()


def _check(arrays: dict[str, np.ndarray], spec: EnvSpec, num_envs: int, *, day: int) -> None:
    """Refuses arrays that are not [T, E, ...] of the spec, T >= 1."""
    expected = {
        "obs": (spec.obs_shape, spec.obs_dtype),
        "action_mask": ((spec.num_actions,), "bool"),
        "action": ((), "int32"),
        "reward": ((), "float32"),
        "terminated": ((), "bool"),
        "truncated": ((), "bool"),
        "next_obs": (spec.obs_shape, spec.obs_dtype),
    }
    num_steps = arrays["action"].shape[0] if arrays["action"].ndim else 0
    if num_steps < 1:
        raise FactsError(f"Day {day} has no transitions: shape {arrays['action'].shape}, expected [T >= 1, E].")
    for name, (shape, dtype) in expected.items():
        array, full_shape = arrays[name], (num_steps, num_envs, *shape)
        if array.shape != full_shape or array.dtype != np.dtype(dtype):
            raise FactsError(
                f"Day {day}, field {name}: {array.dtype}{list(array.shape)} does not fit {spec.id} with {num_envs} "
                f"copies, which has {dtype}{list(full_shape)}. Store what the session returned, unchanged."
            )
