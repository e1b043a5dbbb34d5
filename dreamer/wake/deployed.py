"""What a night is for: an agent that acts without search, without its model's library, and without this program's code.

A `Deployed` carries its own computation (StableHLO through `jax.export`, for any batch size, on CPU, CUDA and TPU)
beside its parameters, so a file says what it does: it needs neither the network's source nor an optimiser to be read.
Letters: b batch, A actions.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dreamer.core.types import EnvSpec, PyTree

FORMAT = 1
"""Version of the file's layout; a reader refuses a newer one."""
PLATFORMS = ("cpu", "cuda", "tpu")
_PROGRAM = "program"
_PARAMS = "params/"


@dataclasses.dataclass(frozen=True, eq=False)
class Deployed:
    """An immutable, versioned, self-describing search-free agent."""

    spec: EnvSpec
    """The environment that it was made for."""
    config: Mapping[str, Any]
    """The experiment's configuration, JSON-able; for people, nothing here reads it."""
    params: Mapping[str, np.ndarray]
    """Parameters by path, e.g. `agent/params/Dense_0/kernel`; read-only arrays."""
    program: bytes
    """A serialised `jax.export.Exported` of (params, obs [b, *obs_shape]) -> (logits [b, A], value [b])."""
    version: int
    """Number of the deployment in its run; the first is 0."""
    meters: Mapping[str, int | float]
    """What it cost: the run's meters when it was deployed."""
    format: int = FORMAT
    """Layout of the file that it was read from."""

    def __post_init__(self):
        params = {name: np.array(array) for name, array in self.params.items()}
        for array in params.values():
            array.flags.writeable = False
        object.__setattr__(self, "params", params)
        object.__setattr__(self, "_call", jax.jit(export.deserialize(bytearray(self.program)).call))

    @classmethod
    def of(
        cls,
        apply: Callable[[PyTree, jax.Array], tuple[jax.Array, jax.Array]],
        params: PyTree,
        *,
        spec: EnvSpec,
        config: Mapping[str, Any],
        version: int,
        meters: Mapping[str, int | float],
    ) -> "Deployed":
        """Freezes a network as it is now.

        Args:
          apply: (params, obs [b, *obs_shape]) -> (logits [b, A], value [b]), traceable with b unknown.
          params: any pytree of arrays.
          spec: the environment.
          config: JSON-able.
          version: number of this deployment.
          meters: counters by name.
        """
        leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
        if len(set(names)) != len(names):
            raise ValueError(f"two parameters share a path: {sorted(names)}; give every node of the tree its own name.")
        named = {name: np.asarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}

        def program(named, obs):
            return apply(jax.tree.unflatten(treedef, [named[name] for name in names]), obs)

        (batch,) = export.symbolic_shape("b")
        obs = jax.ShapeDtypeStruct((batch, *spec.obs_shape), spec.obs_dtype)
        exported = export.export(jax.jit(program), platforms=PLATFORMS)(named, obs)
        expected = [(batch, spec.num_actions), (batch,)]
        if [aval.shape for aval in exported.out_avals] != expected:
            raise ValueError(
                f"apply returns shapes {[aval.shape for aval in exported.out_avals]}, but a deployed agent for "
                f"{spec.id} returns (logits, value) of shapes {expected}."
            )
        config, meters = json.loads(json.dumps(dict(config))), dict(meters)
        return cls(spec, config, named, bytes(exported.serialize()), version, meters)

    def evaluate(self, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (logits [A], value []) of one observation, or (logits [b, A], value [b]) of a batch."""
        batch, single = self._batched(obs)
        logits, value = jax.device_get(self._call(self.params, batch))
        return (logits[0], value[0]) if single else (logits, value)

    def act(self, obs: np.ndarray, action_mask: np.ndarray | None = None) -> int | np.ndarray:
        """Chooses the likeliest action, the lowest number among equals.

        Args:
          obs: one observation [*obs_shape] or a batch [b, *obs_shape], in the environment's dtype.
          action_mask: [A] or [b, A] bool, True where allowed; None allows everything.

        Returns:
          an int, or [b] int32.

        Raises:
          ValueError: an observation or mask of another shape or dtype, with NaN or infinity, or that allows nothing.
        """
        logits, _ = self.evaluate(obs)
        if action_mask is not None:
            action_mask = np.asarray(action_mask)
            if action_mask.shape != logits.shape or action_mask.dtype != bool:
                raise ValueError(
                    f"action_mask is {action_mask.dtype} of shape {action_mask.shape}; {self.spec.id} needs bool of "
                    f"shape {logits.shape} for this observation."
                )
            if not action_mask.any(axis=-1).all():
                raise ValueError("action_mask allows no action at all; act needs at least one True in every row.")
            logits = np.where(action_mask, logits, -np.inf)
        action = logits.argmax(axis=-1).astype(np.int32)
        return int(action) if action.ndim == 0 else action

    def save(self, path: str | os.PathLike) -> Path:
        """Writes one `.safetensors` file, all of it or nothing, and returns its path."""
        path = Path(path)
        tensors = {_PARAMS + name: array for name, array in self.params.items()}
        tensors[_PROGRAM] = np.frombuffer(self.program, np.uint8)
        about = {
            "format": FORMAT,
            "spec": dataclasses.asdict(self.spec),
            "config": self.config,
            "version": self.version,
            "meters": self.meters,
        }
        about = json.dumps(about)
        content = save(tensors, metadata={"deployed": about, "digest": _digest(about, tensors)})
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            raise OSError(f"cannot write the deployed agent to {path}: {error}; choose a writable path.") from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()  # there only if something failed
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Deployed":
        """Reads a deployed agent back; needs this module, JAX and nothing of what trained it.

        Raises:
          FileNotFoundError: nothing there.
          ValueError: a file that is damaged, of another program, or of a newer version of this one.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no deployed agent at {path}; it is the .safetensors file that `save` wrote.")
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged or no safetensors file ({error}); save the agent again.") from error
        if "deployed" not in metadata:
            raise ValueError(f"{path} is a safetensors file, but not of a deployed agent: give one that `save` wrote.")
        # The format comes first: a newer one may keep its digest elsewhere.
        newer = re.match(r'\{"format": (\d+)', metadata["deployed"])
        if newer and int(newer[1]) > FORMAT:
            raise ValueError(f"{path} has format {newer[1]}, this program reads up to {FORMAT}: update the program.")
        if _digest(metadata["deployed"], tensors) != metadata.get("digest"):
            raise ValueError(
                f"{path} is damaged: its content does not have the digest that it was saved with; copy it again."
            )
        about = json.loads(metadata["deployed"])
        return cls(
            spec=EnvSpec(**{**about["spec"], "obs_shape": tuple(about["spec"]["obs_shape"])}),
            config=about["config"],
            params={name.removeprefix(_PARAMS): array for name, array in tensors.items() if name != _PROGRAM},
            program=tensors[_PROGRAM].tobytes(),
            version=about["version"],
            meters=about["meters"],
            format=about["format"],
        )

    def _batched(self, obs: np.ndarray) -> tuple[np.ndarray, bool]:
        """Returns (obs [b, *obs_shape], whether one observation was given), or says what is wrong with it."""
        obs, shape, dtype = np.asarray(obs), self.spec.obs_shape, np.dtype(self.spec.obs_dtype)
        single = obs.shape == shape
        if not single and (obs.shape[1:] != shape or obs.ndim != len(shape) + 1 or obs.shape[0] == 0):
            raise ValueError(
                f"the observation has shape {obs.shape}; {self.spec.id} has observations of shape {shape}, "
                f"alone or in a batch (b, {', '.join(map(str, shape))})."
            )
        if not np.can_cast(obs.dtype, dtype, "same_kind"):
            raise ValueError(
                f"the observation has dtype {obs.dtype}; {self.spec.id} has observations of dtype {dtype}."
            )
        if not np.isfinite(obs).all():
            raise ValueError(f"the observation holds NaN or infinity: {np.array2string(obs, threshold=16)}.")
        obs = obs.astype(dtype, copy=False)
        return (obs[None] if single else obs), single


def _digest(about: str, tensors: Mapping[str, np.ndarray]) -> str:
    """Returns the hex SHA-256 of the description and of the tensors' names, shapes, dtypes and bytes."""
    sha = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        sha.update(f"{name} {array.shape} {array.dtype};".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
