"""Fields of a config by their paths, as `update.learning_rate`: changed, told apart, and read back from JSON."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any


def changed(config: Any, values: Mapping[str, Any], path: str = "") -> Any:
    """Returns the config, or a part of it, with fields replaced: `changed(config, {"update.learning_rate": 1e-3})`.

    Raises:
      ValueError: no such field, a value of another type than the field's, or values that do not fit together.
    """
    parts: dict[str, dict[str, Any]] = {}
    names = [field.name for field in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []
    for field, value in values.items():
        name, _, rest = field.partition(".")
        if name not in names:
            raise ValueError(f"there is no field {field!r} in {type(config).__name__}: choose from {', '.join(names)}")
        parts.setdefault(name, {})[rest] = value
    new, hints = {}, typing.get_type_hints(type(config))
    for name, part in parts.items():
        new[name] = part[""] if "" in part else changed(getattr(config, name), part, f"{path}{name}.")
        if not _is_of(new[name], hints[name]):
            wanted = getattr(hints[name], "__name__", str(hints[name]))
            raise ValueError(f"{path}{name} is {new[name]!r}: give {wanted}")
    return dataclasses.replace(config, **new)


def _is_of(value: Any, hint: Any) -> bool:
    """Returns whether a value is of a field's type; whole numbers are floats, truth values are no numbers."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_of(value, one) for one in typing.get_args(hint))
    if origin is tuple:
        return isinstance(value, tuple)
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def differences(left: Any, right: Any, path: str = "") -> dict[str, Any]:
    """Returns path -> value in `right` of each field, but those of `run`, in which two configs of one class differ."""
    found = {}
    for field in dataclasses.fields(left):
        here, there = getattr(left, field.name), getattr(right, field.name)
        name = f"{path}{field.name}"
        if dataclasses.is_dataclass(here) and dataclasses.is_dataclass(there):
            if name != "run":
                found |= differences(here, there, f"{name}.")
        elif here != there:
            found[name] = there
    return found


def restore(kind: Any, value: Any, path: str = "config") -> Any:
    """Returns a dataclass of `kind` from plain JSON values; errors as of `from_dict`, naming what lies at `path`."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{path} is {value!r}, where fields are expected: use the file that the run wrote")
        fields = {field.name: field for field in dataclasses.fields(kind)}
        unknown = sorted(set(value) - set(fields))
        missing = sorted(set(fields) - set(value))
        if unknown or missing:
            raise ValueError(
                f"{path} does not fit this version of the code: unknown fields {unknown}, missing fields {missing}; "
                "use the commit named in the run's config.json"
            )
        hints = typing.get_type_hints(kind)
        return kind(**{name: restore(hints[name], value[name], f"{path}.{name}") for name in fields})
    if typing.get_origin(kind) is tuple:
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return value
