"""The picture of one decision: where a search went in its dream, and what it made of the student's policy."""

from pathlib import Path

import numpy as np

from experiments.dream import Dream
from experiments.figures.dream import picture
from experiments.figures.learning_curve import COLOURS, plt, save_picture

_STUDENT, _SEARCH = COLOURS[0], COLOURS[1]
_LEAST_REWARD = 0.005  # what is said of rewards has two digits


def draw(dream: Dream, path: str | Path) -> Path:
    """Draws the search in the state where a dream begins to a PNG and returns its path.

    On the left the state, and what student and search would do there; on the right the tree: a node for each
    simulation, as large as it was visited and as dark as it is worth, with its value, below the action that leads there
    and the reward expected on the way. Nodes where life has probably ended are hollow.
    """
    tree = dream.tree
    places = layout(np.asarray(tree.parents), np.asarray(tree.node_visits))
    width = 3.2 + max(4.5, 0.42 * (1 + max(x for x, _ in places.values())))
    figure, axes = plt.subplot_mosaic(
        [["state", "tree"], ["policy", "tree"]],
        figsize=(width, 5.6),
        width_ratios=[2.8, width - 2.8],
        height_ratios=[1.5, 1],
        constrained_layout=True,
    )
    axes["state"].imshow(picture(dream.real_obs[0], dream.low, dream.high))
    axes["state"].axis("off")
    axes["state"].set_title("the state", fontsize=9, loc="left")
    _draw_policies(axes["policy"], dream)
    _draw_tree(axes["tree"], dream, places)
    figure.suptitle(f"One decision. {dream.title}", fontsize=9)
    return save_picture(figure, path)


def layout(parents: np.ndarray, visits: np.ndarray) -> dict[int, tuple[float, int]]:
    """Returns node -> (place from left to right, depth) of every node that was visited.

    Leaves stand side by side, a node amid its children.

    Args:
      parents: [N + 1] the node above each; node 0 is the root, and nodes come after the one above them.
      visits: [N + 1] 0 for nodes that do not exist.
    """
    children: dict[int, list[int]] = {0: []}
    for node in range(1, len(parents)):
        if visits[node] > 0:
            children[node] = []
            children[int(parents[node])].append(node)
    depth, order = {0: 0}, [0]
    for node in order:
        for child in children[node]:
            depth[child] = depth[node] + 1
        order.extend(children[node])
    across: dict[int, float] = {}
    pending = [0]
    while pending:  # leaves from left to right, depth first
        node = pending.pop()
        if not children[node]:
            across[node] = float(len(across))
        pending.extend(reversed(children[node]))
    for node in reversed(order):
        if children[node]:
            across[node] = float(np.mean([across[child] for child in children[node]]))
    return {node: (across[node], depth[node]) for node in order}


def _draw_policies(axes: plt.Axes, dream: Dream) -> None:
    logits = np.asarray(dream.tree.children_prior_logits[0], float)
    prior = np.exp(logits - logits.max())
    actions = np.arange(len(prior))
    axes.bar(actions - 0.2, prior / prior.sum(), 0.4, color=_STUDENT, label="student")
    axes.bar(actions + 0.2, dream.policy[0], 0.4, color=_SEARCH, label="search")
    q, visits = dream.tree.qvalues(0), dream.tree.children_visits[0]
    says = [
        f"{action}\n" + (f"{q[action]:.2f}" if visits[action] else "-") + f"\n{visits[action]}" for action in actions
    ]
    axes.set_xticks(actions, says)
    axes.set_ylim(0, 1)
    axes.tick_params(labelsize=7)
    axes.set_xlabel("action, its Q value, its visits", fontsize=8)
    axes.set_title("policy", fontsize=9, loc="left")
    axes.legend(frameon=False, fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_tree(axes: plt.Axes, dream: Dream, places: dict[int, tuple[float, int]]) -> None:
    tree = dream.tree
    values, visits = np.asarray(tree.node_values), np.asarray(tree.node_visits)
    low, high = (bound([values[node] for node in places]) for bound in (min, max))
    for node, (x, depth) in places.items():
        share = (values[node] - low) / max(high - low, 1e-9)
        shade = plt.get_cmap("Blues")(0.15 + 0.75 * share)
        if node:
            above, action = int(tree.parents[node]), int(tree.action_from_parent[node])
            start = places[above]
            axes.plot([start[0], x], [-start[1], -depth], "-", color="0.75", zorder=0,
                      linewidth=0.5 + 3 * visits[node] / visits[0])  # fmt: skip
            reward = float(tree.children_rewards[above, action])
            told = f"{action}" + (f" ({reward:+.2f})" if abs(reward) >= _LEAST_REWARD else "")
            axes.annotate(told, ((start[0] + x) / 2, -(start[1] + depth) / 2), fontsize=6.5, ha="center", va="center",
                          bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"})  # fmt: skip
        alive = float(tree.embeddings[node]) > 0.5
        axes.scatter(x, -depth, s=40 + 400 * visits[node] / visits[0], color=shade if alive else "white",
                     edgecolors="0.3", linewidths=0.6)  # fmt: skip
        axes.annotate(f"{values[node]:.2f}", (x, -depth), (0, -11), textcoords="offset points", fontsize=6.5,
                      ha="center", va="top", color="0.2")  # fmt: skip
    axes.axis("off")
    axes.margins(0.06, 0.08)
    said = (
        f"the tree of {len(places) - 1} simulations\non edges the action and the reward expected, below nodes the value"
    )
    axes.set_title(said, fontsize=9, loc="left")
