"""Pictures of a dream beside what was real: a film of its steps, and all of them on one sheet."""

from pathlib import Path

import numpy as np

from dreamer.wake.envs.frames import draw_planes
from experiments.dream import Dream
from experiments.figures.learning_curve import COLOURS, plt, save_picture

_REAL, _DREAMED = COLOURS[0], COLOURS[1]
_PER_ROW = 8  # states side by side on a sheet
_BAR_LEVELS = 12
CAPTION = (
    "Dreamed states are shown as the replayed observation whose latent lies nearest. They fade as life may have ended."
)


def picture(obs: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns a frame [H, W, 3] uint8 of any observation: a screen, a grid of planes, or numbers as bars.

    Args:
      obs: [*obs_shape]; of stacked screens the newest is shown.
      low: [*obs_shape] where bars of numbers begin.
      high: [*obs_shape] where they are full.
    """
    if obs.ndim == 3 and obs.dtype == np.uint8:
        return obs[..., -3:] if obs.shape[-1] % 3 == 0 else obs[..., -1:].repeat(3, axis=-1)
    if obs.ndim in (2, 3):
        return draw_planes(obs)
    share = (obs.reshape(-1) - low.reshape(-1)) / np.maximum(high.reshape(-1) - low.reshape(-1), 1e-9)
    return draw_planes(np.arange(_BAR_LEVELS, 0, -1)[:, None] <= 1 + share * (_BAR_LEVELS - 1))


def frames(dream: Dream) -> np.ndarray:
    """Returns a film [H + 1, height, width, 3] uint8: both worlds above, rewards, values and the policy below."""
    return np.stack([_frame(dream, step) for step in range(len(dream.alive))])


def draw_sheet(dream: Dream, path: str | Path) -> Path:
    """Draws all states of a dream to one PNG and returns its path."""
    num_states = len(dream.alive)
    columns, bands = min(num_states, _PER_ROW), -(-num_states // _PER_ROW)
    figure, axes = plt.subplots(
        3 * bands,
        columns,
        figsize=(1.5 + 1.55 * columns, 0.9 + 4.1 * bands),
        height_ratios=[1, 1, 0.45] * bands,
        squeeze=False,
        constrained_layout=True,
    )
    for ax in axes.flat:
        ax.axis("off")
    for step in range(num_states):
        band, column = divmod(step, _PER_ROW)
        real, dreamed, policy = axes[3 * band : 3 * band + 3, column]
        _show(real, dream, step, dreamed=False)
        _show(dreamed, dream, step, dreamed=True)
        _draw_policy(policy, dream, step, small=True)
        real.set_title(_real_says(dream, step), fontsize=7, color=_REAL)
        dreamed.set_title(_dream_says(dream, step), fontsize=7, color=_DREAMED)
    figure.suptitle(
        f"{dream.title}\nReal above, dreamed below, then the search's policy in the dream. {CAPTION}", fontsize=9
    )
    return save_picture(figure, path)


def _frame(dream: Dream, step: int) -> np.ndarray:
    """Returns one picture [height, width, 3] of the film."""
    figure, axes = plt.subplot_mosaic(
        [["real", "dreamed"], ["rewards", "values"], ["policy", "policy"]],
        figsize=(7, 7.6),
        height_ratios=[3, 1.3, 0.9],
        constrained_layout=True,
    )
    _show(axes["real"], dream, step, dreamed=False)
    axes["real"].set_title(f"real\n{_real_says(dream, step)}", fontsize=9, color=_REAL)
    _show(axes["dreamed"], dream, step, dreamed=True)
    axes["dreamed"].set_title(f"dreamed\n{_dream_says(dream, step)}", fontsize=9, color=_DREAMED)
    steps = np.arange(1, len(dream.reward) + 1)
    _draw_lines(axes["rewards"], steps, dream.reward, dream.dreamed_reward, "reward", step)
    _draw_lines(axes["values"], np.arange(len(dream.value)), dream.real_value, dream.value, "value by search", step)
    _draw_policy(axes["policy"], dream, step, small=False)
    figure.suptitle(f"{dream.title}\n{CAPTION}", fontsize=8)
    figure.canvas.draw()
    frame = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    plt.close(figure)
    return frame


def _show(axes: plt.Axes, dream: Dream, step: int, *, dreamed: bool) -> None:
    obs = (dream.dreamed_obs if dreamed else dream.real_obs)[step]
    faded = 0.15 + 0.85 * float(np.clip(dream.alive[step], 0.0, 1.0)) if dreamed else 1.0
    axes.imshow(picture(obs, dream.low, dream.high), alpha=faded)
    axes.axis("off")


def _real_says(dream: Dream, step: int) -> str:
    told = f"step {step}" if step == 0 else f"step {step}: did {dream.action[step - 1]}, got {dream.reward[step - 1]:g}"
    return f"{told}\nvalue {dream.real_value[step]:.2f}"


def _dream_says(dream: Dream, step: int) -> str:
    told = "" if step == 0 else f"reward {dream.dreamed_reward[step - 1]:.2f}, alive {dream.alive[step]:.2f}"
    return f"{told}\nvalue {dream.value[step]:.2f}"


def _draw_lines(axes: plt.Axes, steps: np.ndarray, real: np.ndarray, dreamed: np.ndarray, name: str, now: int) -> None:
    axes.plot(steps, real, "o-", color=_REAL, markersize=3, label="real")
    axes.plot(steps, dreamed, "o-", color=_DREAMED, markersize=3, label="dreamed")
    axes.axvline(now, color="0.7", linewidth=1, zorder=0)
    axes.set_title(name, fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    axes.legend(frameon=False, fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_policy(axes: plt.Axes, dream: Dream, step: int, *, small: bool) -> None:
    """Draws the search's policy as bars; the one that was really taken next is dark."""
    policy = dream.policy[step]
    taken = dream.action[step] if step < len(dream.action) else -1
    colours = [_DREAMED if action == taken else "#e3b5a6" for action in range(len(policy))]
    axes.axis("on")
    axes.bar(np.arange(len(policy)), policy, color=colours)
    axes.set_ylim(0, 1)
    axes.set_yticks([] if small else [0, 1])
    axes.set_xticks(np.arange(len(policy)) if len(policy) <= 10 or not small else [])
    axes.tick_params(labelsize=6 if small else 7)
    axes.spines[["top", "right"]].set_visible(False)
    if not small:
        axes.set_title(
            "search in the dreamed state: policy over actions; dark is what was done", fontsize=9, loc="left"
        )
