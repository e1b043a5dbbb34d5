"""What self-distillation is measured against: learning from rewards alone, and cloning what was done.

Letters: E episodes or whatever else has a return, N states, A actions.
"""

import chex
import jax
import jax.numpy as jnp

_ROUNDING = 1e-6


def group_advantage(returns: jax.Array, group: jax.Array) -> jax.Array:
    """Returns [E] by how much each episode did better than its group, in standard deviations (+ 1e-6) of the group.

    "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models" (GRPO,
    https://arxiv.org/abs/2402.03300). Where all of a group did equally well, or there is but one, it is 0, and nothing
    is learned.

    Args:
      returns: [E] of whole episodes, in reward units.
      group: [E] int32 from 0 to E - 1, in any order: who is compared with whom, as episodes of one job.
    """
    chex.assert_rank(returns, 1)
    chex.assert_equal_shape([returns, group])
    advantage = returns - _group_mean(returns, group)
    return advantage / (jnp.sqrt(_group_mean(advantage**2, group)) + _ROUNDING)


def windowed_returns(reward: jax.Array, window: int) -> tuple[jax.Array, jax.Array]:
    """Returns [N] the sum of the rewards of each decision of a life and of the `window` after it, over the ends of
    episodes too, for whoever cannot tell which one a late reward is for; and [N] bool, whether all were lived.

    Args:
      reward: [N] in the order they were lived.
      window: static, below N.
    """
    chex.assert_rank(reward, 1)
    N, padded = reward.shape[0], jnp.concatenate([reward, jnp.zeros(window)])
    # Differences of one long sum would be equal but for rounding, where no decision is better than another.
    return sum(padded[later : later + N] for later in range(window + 1)), jnp.arange(N) + window < N


def reinforce_loss(
    logits: jax.Array, action: jax.Array, advantage: jax.Array, *, before: jax.Array, clip: float = 0.2
) -> jax.Array:
    """Returns [N] a loss whose gradient is the policy gradient, until the policy has moved too far from who acted.

    "Proximal policy optimization algorithms" (https://arxiv.org/abs/1707.06347): -min(r A, clip(r, 1 - clip, 1 + clip)
    A), with r the probability of the action by its probability when it was done. The first update on what the current
    policy did is that of "Simple statistical gradient-following algorithms for connectionist reinforcement learning"
    (https://doi.org/10.1007/BF00992696). No gradient reaches the advantage.

    Args:
      logits: [N, A]
      action: [N] int32 what was done.
      advantage: [N] of doing so, that of its episode where there is no other.
      before: [N, A] logits of who did it.
      clip: how far r may move before an update stops gaining by it; static.
    """
    chex.assert_equal_shape([action, advantage])
    chex.assert_equal_shape([logits, before])
    advantage = jax.lax.stop_gradient(advantage)
    ratio = jnp.exp(_log_prob(logits, action) - jax.lax.stop_gradient(_log_prob(before, action)))
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


def clone_loss(logits: jax.Array, action: jax.Array) -> jax.Array:
    """Returns [N] -log pi(action): cloning of a transcript, as supervised fine-tuning does.

    Args:
      logits: [N, A]
      action: [N] int32 what the transcript says was done.
    """
    return -_log_prob(logits, action)


def _log_prob(logits: jax.Array, action: jax.Array) -> jax.Array:
    """Returns [N] the log-probability of each action."""
    chex.assert_shape(action, logits.shape[:1])
    return jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), action[:, None], axis=-1)[:, 0]


def _group_mean(values: jax.Array, group: jax.Array) -> jax.Array:
    """Returns [E] the mean of each one's group."""
    sums, counts = (jax.ops.segment_sum(x, group, num_segments=len(values)) for x in (values, jnp.ones_like(values)))
    return (sums / jnp.maximum(counts, 1))[group]
