"""What one run writes into its folder: facts by day, rows and checkpoints by night, at its end the deployed agent."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core import trees
from dreamer.core.types import Meters, Params, PyTree, Transition
from dreamer.io import Checkpoints, FactLog, Log, RunFolder, Versions
from dreamer.loop import JUDGED, Deployment
from dreamer.sleep.gate import DEPLOYED, REFUSED, reasons
from dreamer.sleep.honesty import Honesty
from dreamer.sleep.update import LearnerState
from dreamer.wake import Deployed
from experiments.build import Parts
from experiments.config import to_dict
from experiments.honesty import row_of
from experiments.recover import Past


class DivergedError(RuntimeError):
    """Learning produced a number that is not finite."""


class Diary:
    """Writes the folder of one run: of one seed, also where several live in one program.

    Attributes:
      parts: the experiment, with this run's seed and folder in its config.
      folder: the run's.
    """

    def __init__(self, parts: Parts, folder: RunFolder, facts: FactLog, *, past: Past | None = None):
        """Takes the folder, locked for writing, and where the run goes on from what was recorded, its past."""
        self.parts = parts
        self.folder = folder
        self._facts = facts
        self._past = past
        self._checkpoints = Checkpoints(folder.checkpoints)
        self._versions = Versions(folder.versions)
        self._log: Log | None = None

    @contextlib.contextmanager
    def opened(self, after_day: int) -> Iterator["Diary"]:
        """Opens the log; a resumed run's, and its lineage, are cut after the day of the checkpoint it goes on from."""
        config = self.parts.config
        if self._past is not None:
            self._versions.cut(after_day)
        with Log(
            self.folder.path,
            wandb_mode=config.run.wandb,
            project=config.run.project,
            config=to_dict(config),
            resume_day=None if self._past is None else after_day,
        ) as self._log:
            yield self

    def write_day(self, number: int, lived: Transition) -> None:
        """Stores a day [T, E], NumPy, unless it was recorded before; on return it is on disk."""
        if number in self._facts.days:
            return
        _require_finite(lived, number, self.parts.spec.id)
        self._facts.append(number, lived, continues=self._past is None or self._past.continues(number))

    def require_finite(self, number: int, meters: Meters, metrics: Mapping[str, np.ndarray]) -> None:
        """Refuses the metrics of a night that made a number which is not finite.

        Raises:
          DivergedError: names the metrics and the folder.
        """
        wrong = sorted(name for name, value in metrics.items() if not np.isfinite(value))
        if wrong:
            raise DivergedError(
                f"night {number} of {self.folder.path} made {', '.join(wrong)} not finite after {meters.updates} "
                "updates. Nothing was written over: facts and earlier checkpoints are intact. Try a smaller "
                "--update.learning-rate"
            )

    def write_night(
        self, number: int, meters: Meters, metrics: Mapping[str, np.ndarray], measured: Mapping[str, PyTree]
    ) -> None:
        """Writes the row of a night: its metrics, and a summary of what was measured after it, see `Parts.evaluate`."""
        row = {name: float(value) for name, value in metrics.items()}
        for name, outcome in measured.items():
            row |= row_of(outcome) if isinstance(outcome, Honesty) else _summary(name, outcome)
        self._log.write(number, meters, row)

    def write_version(
        self, number: int, evidence: Mapping[str, np.ndarray], acting: Deployment, meters: Meters
    ) -> None:
        """Writes what the gate made of the agent of the night before day `number`, and the agent if it was deployed.

        Args:
          number: of the turn that judged; at 0 the agent that has learned nothing becomes the first version.
          evidence: what the gate found; without a candidate nothing is written.
          acting: who is in force after it.
          meters: what the candidate had cost.
        """
        if number and not evidence[JUDGED]:
            return
        version, passed = max(0, number - 1), not number or bool(evidence[DEPLOYED])
        if passed:
            deploy(self.parts, acting, meters, version=version).save(self._versions.path(version))
        row = {"day": number, "version": version, "parent": self._versions.in_force, "deployed": passed}
        if number:
            row["why"] = ", ".join(reasons(evidence))
            row |= {name: x for name, x in evidence.items() if not name.startswith((REFUSED, DEPLOYED, JUDGED))}
        self._versions.write(row | dataclasses.asdict(meters))

    def save(self, number: int, saved: PyTree, meters: Meters) -> None:
        """Makes the checkpoint of a night."""
        self._checkpoints.save(number, saved, dataclasses.asdict(meters))

    def deploy(self, number: int, acting: LearnerState | Deployment, meters: Meters) -> None:
        """Writes the agent in force: of the last night `number`, or with a gate the last that passed; once only."""
        if self.folder.deployed.exists():
            return
        if self.parts.config.gate.is_open:
            deploy(self.parts, acting, meters, version=number).save(self.folder.deployed)
        else:
            self._versions.put_in_force(self._versions.in_force, self.folder.deployed)


def deploy(parts: Parts, acting: LearnerState | Deployment, meters: Meters, *, version: int) -> Deployed:
    """Returns the search-free agent of the parameters that act: policy and value, and only what they need."""

    def apply(params: Params, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        evaluation = parts.agent.evaluate(params.agent, (), parts.model.observe(params.model, obs))
        return evaluation.logits, evaluation.value

    obs = jnp.zeros((1, *parts.spec.obs_shape), parts.spec.obs_dtype)
    params = trees.only_used(lambda params: apply(params, obs), acting.params)
    return Deployed.of(
        apply,
        params,
        spec=parts.spec,
        config=to_dict(parts.config),
        version=version,
        meters=dataclasses.asdict(meters),
    )


def _summary(who: str, returns: np.ndarray) -> dict[str, float]:
    """Returns mean, lowest and highest of the returns [episodes]."""
    return {
        f"{who}_return": float(returns.mean()),
        f"{who}_return_min": float(returns.min()),
        f"{who}_return_max": float(returns.max()),
    }


def _require_finite(lived: Transition, day: int, env_id: str) -> None:
    """Refuses a day [T, E] in which the environment gave numbers that nobody can learn from."""
    for name in ("obs", "reward", "next_obs"):
        field = np.asarray(getattr(lived, name))
        bad = np.argwhere(~np.isfinite(field))
        if bad.size:
            step, copy = bad[0][:2]
            raise ValueError(
                f"{env_id}, day {day}, decision {step}, copy {copy}: {name} holds NaN or infinity. The day was "
                "not stored, the days before it are intact: mend the environment, then go on with --resume"
            )
