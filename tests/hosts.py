"""One process of a small run, alone or of several: `python -m tests.hosts FOLDER DEVICES [HOST:PORT PROCESSES ID]`.

Its last parameters go to `FOLDER-ID.npz`, for of several processes only the first writes the folder.
"""

import os
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from dreamer.core import mesh
from dreamer.wake.envs import EnvConfig
from experiments import Config, run_seeds
from experiments.build import build
from tests import tiny


def config(folder: str | None = None) -> Config:
    """Twenty updates in four nights, all of whose rows 8 devices can share."""
    return tiny.config(
        env=EnvConfig("CartPole-v1", "gymnax", num_envs=8),
        loop=dict(real_transitions=64, steps_per_day=2, dream_ratio=5, batch_size=16, actor="student"),
        targets=dict(unroll_steps=1, td_steps=1, research_fraction=1.0),
        imagine=dict(real_share=0.5, horizon=1),
        replay=dict(priority_exponent=0.6, importance_exponent=0.4),
        search=dict(num_simulations=2),
        evaluation=dict(episodes=2, max_steps=5),
        run=dict(folder=folder, wandb="disabled"),
    )


def main(folder: str, num_devices: str, coordinator: str | None = None, *numbers: str) -> None:
    """Runs, and saves the last parameters."""
    num_processes, process_id = map(int, numbers) if numbers else (None, None)
    mesh.join(coordinator, num_processes=num_processes, process_id=process_id)
    made, last = config(folder), []
    parts = build(made, num_devices=int(num_devices))

    def step(state, *args, **kwargs):
        state, metrics = parts.step(state, *args, **kwargs)
        last[:] = [state]
        return state, metrics

    results = run_seeds(made, 1, parts=parts._replace(step=step))
    assert len(results) == mesh.writes()
    assert parts.step.program._cache_size() == 1  # made for the state as it begins and as it goes on
    params = jax.tree.leaves(jax.device_get(last[0].learner.params))
    np.savez(f"{folder}-{process_id or 0}.npz", *params)


if __name__ == "__main__":
    main(*sys.argv[1:])
