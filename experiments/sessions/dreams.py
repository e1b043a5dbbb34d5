"""How sessions are dreamed of: JobWorld's rules, under a codebook that whoever has read the session believes in.

Letters: n states, K keys, A answers, B actions (the answers, then the look where there is one).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.loop import Dream, DreamedWorld
from dreamer.wake.envs import EnvConfig, JobWorldConfig
from dreamer.wake.envs.jobworld import as_seen, of_codebook, prompts, view
from experiments.measures import known


def make_dream(env: EnvConfig, error: float) -> Dream:
    """Returns how the world is dreamed: its rules, under a codebook drawn from what the reader of the session answers,
    each answer of it drawn at random instead with probability `error`."""
    world = env.jobworld

    def dream(key: jax.Array, reader) -> DreamedWorld:
        draw_key, error_key, wrong_key = jax.random.split(key, 3)
        logits = reader(prompts(world)[: world.num_keys])
        policy = jax.nn.softmax(logits)[:, : world.num_answers]
        drawn = jax.random.categorical(draw_key, jnp.log(policy))
        wrong = jax.random.randint(wrong_key, drawn.shape, 0, world.num_answers)
        erring = jax.random.bernoulli(error_key, error, drawn.shape)
        answers = jnp.where(erring, wrong, drawn).astype(jnp.int32)
        return DreamedWorld(
            of_codebook(env, answers),
            at=functools.partial(as_seen, world, answers),
            judge=make_judge(world),
            sure=functools.partial(sure, world, error),
            shortest=world.chain_length,
        )

    return dream


def sure(world: JobWorldConfig, error: float, probs: jax.Array, obs: jax.Array) -> jax.Array:
    """Returns [n] the probability that two dreams, each with errors of its own, agree on the key that is asked.

    A heuristic for how far to trust a dream, as the disagreement of an ensemble is: it is blind to what all would get
    wrong alike, so to a reader who is sure and wrong; and a key that comes again in a dream is counted again, though
    its answer stays. In a detour or a dead end what follows is certain.
    """
    drawn = (1 - error) * probs + error / world.num_answers
    return jnp.where(view(world, obs).idle, 1.0, (drawn**2).sum(axis=-1))


def make_judge(world: JobWorldConfig):
    """Returns the pure (probabilities [n, B], observations [n, ...]) -> [n, B] what actions are worth to one who gives
    answers these probabilities of being right, and is sure of them after this decision: expected returns of the rest of
    the episode, exact by backward induction. In a detour or a dead end all actions are worth the same, said as 0.

    Keys must not be aliased: an action there may be a look, which no probability of being right judges.
    """
    # Whoever knows the codebook is worth as much whatever it is, so one in which 0 answers all keys tells of all.
    q = known.best_q(world, np.zeros(world.num_keys, int), gamma=1.0)[:, :, 0]  # [T + 1, H + 1, A]
    right, wrong = jnp.asarray(q[..., 0], jnp.float32), jnp.asarray(q[..., 1], jnp.float32)

    def judge(probs: jax.Array, obs: jax.Array) -> jax.Array:
        shown = view(world, obs)
        place = shown.time, world.chain_length - shown.progress
        worth = probs * right[place][:, None] + (1 - probs) * wrong[place][:, None]
        return jnp.where(shown.idle[:, None], 0.0, worth)

    return judge
