"""Who teaches: by hand on a linear agent whose memory is a bias, and as it follows the student."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core.types import Evaluation
from dreamer.sleep import teachers
from dreamer.sleep.teachers import TeacherConfig, follow, interpolated, teacher_policy

OLD, NEW = {"w": jnp.array([0.0, 0.0, 1.0])}, {"w": jnp.array([1.0, 0.0, -1.0])}
OBS = jnp.array([[1.0], [2.0]])
MEMORY = jnp.array([[0.0, 3.0, 0.0], [1.0, 0.0, 0.0]])


def evaluate(params, memory, obs):
    """Logits obs * w, and what the memory adds to them."""
    logits = obs * params["w"][None]
    logits = logits if isinstance(memory, tuple) else logits + memory
    return Evaluation(logits, jnp.zeros(len(obs)), jnp.zeros((len(obs), 1)))


said = jax.jit(
    lambda config, *given: teacher_policy(config, evaluate, *given),
    static_argnums=0,
)


def test_interpolated_by_hand():
    reference, current = jnp.log(jnp.array([0.8, 0.2])), jnp.log(jnp.array([0.2, 0.8])) + 7
    np.testing.assert_allclose(interpolated(reference, current, 0.5), [0.5, 0.5], rtol=1e-5)
    # (0.8^(3/4) 0.2^(1/4), the other way round): odds of 4^(3/4) 4^(-1/4) = 2.
    np.testing.assert_allclose(interpolated(reference, current, 0.25), [2 / 3, 1 / 3], rtol=1e-5)


@pytest.mark.parametrize("mask", [-jnp.inf, -1e9])
def test_interpolated_ends_in_both_policies_also_where_actions_are_masked(mask):
    reference, current = jnp.array([[0.3, mask, 1.0]]), jnp.array([[2.0, 0.5, mask]])
    np.testing.assert_allclose(interpolated(reference, current, 0.0), jax.nn.softmax(reference), atol=1e-6)
    np.testing.assert_allclose(interpolated(reference, current, 1.0), jax.nn.softmax(current), atol=1e-6)
    np.testing.assert_allclose(interpolated(reference, current, 0.1), [[1, 0, 0]], atol=1e-6)


def test_following_by_hand():
    for weights, expected in (("frozen", OLD), ("first", OLD), ("interpolated", OLD), ("current", NEW)):
        assert follow(TeacherConfig(weights=weights), OLD, NEW) is expected
    moved = follow(TeacherConfig(weights="ema", ema_step=0.25), OLD, NEW)
    np.testing.assert_allclose(moved["w"], [0.25, 0, 0.5], rtol=1e-6)


def test_an_average_forgets_at_its_step():
    config, teacher = TeacherConfig(weights="ema", ema_step=0.1), OLD
    for _ in range(20):
        teacher = follow(config, teacher, NEW)
    left = 0.9**20
    np.testing.assert_allclose(teacher["w"], left * OLD["w"] + (1 - left) * NEW["w"], rtol=1e-5)


def test_the_session_is_read_with_the_teachers_weights():
    expected = jax.nn.softmax(jnp.array([[0.0, 3.0, 1.0], [1.0, 0.0, 2.0]]))
    for kind in ("session", "other_job"):  # whose session it is, the caller decides
        for weights in ("frozen", "ema"):
            found = said(TeacherConfig(kind=kind, weights=weights), OLD, NEW, MEMORY, OBS)
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    config = TeacherConfig(weights="current")
    current = said(config, follow(config, OLD, NEW), NEW, MEMORY, OBS)
    np.testing.assert_allclose(current, jax.nn.softmax(jnp.array([[1.0, 3.0, -1.0], [3.0, 0.0, -2.0]])), rtol=1e-6)


def test_between_frozen_and_current_weights_both_read_the_session():
    found = said(TeacherConfig(weights="interpolated", interpolation=0.5), OLD, NEW, MEMORY, OBS)
    # Halfway between the logits (0, 3, 1) and (1, 3, -1), (1, 0, 2) and (3, 0, -2).
    expected = jax.nn.softmax(jnp.array([[0.5, 3.0, 0.0], [2.0, 0.0, 0.0]]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_sharpened_student_has_no_session_and_its_own_order():
    config = TeacherConfig(kind="sharpened", sharpness=3.0)
    found = said(config, NEW, OLD, MEMORY, OBS)
    np.testing.assert_allclose(found, jax.nn.softmax(jnp.array([[3.0, 0.0, -3.0], [6.0, 0.0, -6.0]])), rtol=1e-5)
    student = jax.nn.softmax(evaluate(NEW, (), OBS).logits)
    np.testing.assert_array_equal(jnp.argsort(found), jnp.argsort(student))
    same = said(TeacherConfig(kind="sharpened", sharpness=1.0), NEW, OLD, MEMORY, OBS)
    np.testing.assert_allclose(same, student, rtol=1e-6)
    config = TeacherConfig(kind="sharpened", weights="interpolated", interpolation=0.5)
    between = said(config, OLD, NEW, MEMORY, OBS)  # twice the logits halfway between (0, 0, 1) and (1, 0, -1), by obs
    np.testing.assert_allclose(between, jax.nn.softmax(jnp.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])), rtol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in teachers.TEACHER_KINDS if kind not in teachers.PLANNERS])
@pytest.mark.parametrize("weights", teachers.TEACHER_WEIGHTS)
def test_probabilities_without_gradient(kind, weights):
    config = TeacherConfig(kind=kind, weights=weights)

    def first(*given):
        return said(config, *given)[:, 0].sum()

    np.testing.assert_allclose(said(config, OLD, NEW, MEMORY, OBS).sum(axis=-1), 1, rtol=1e-6)
    for gradient in jax.tree.leaves(jax.grad(first, argnums=(0, 1, 2, 3))(OLD, NEW, MEMORY, OBS)):
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("kind", teachers.PLANNERS)
def test_who_plans_is_asked_elsewhere(kind):
    with pytest.raises(ValueError, match="its policy is made by dreamer.loop.planning.plan"):
        said(TeacherConfig(kind=kind), OLD, NEW, MEMORY, OBS)


def test_who_reads_on_is_asked_elsewhere():
    with pytest.raises(ValueError, match="teacher.reads_on is set: its policy is that of `reading_on`"):
        said(TeacherConfig(reads_on=True), OLD, NEW, MEMORY, OBS)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"kind": "master"}, "teacher.kind is 'master': give one of session, search, veteran, other_job, sharpened"),
        ({"kind": "search", "weights": "ema"}, "a plan is made once, as the night begins: give weights 'frozen'"),
        ({"weights": "slow"}, "teacher.weights is 'slow': give one of frozen, first, ema"),
        ({"weights": "ema", "ema_step": 0.0}, "teacher.ema_step is 0.0: give a share"),
        ({"weights": "interpolated", "interpolation": 1.0}, "teacher.interpolation is 1.0: give a share"),
        ({"kind": "sharpened", "sharpness": 0.0}, "teacher.sharpness is 0.0: give"),
        ({"ema_step": 0.05}, "teacher.ema_step is 0.05, which has no effect where weights is 'frozen'"),
        ({"weights": "ema", "interpolation": 0.1}, "which has no effect where weights is 'ema'"),
        (
            {"kind": "other_job", "reads_on": True},
            "teacher.kind is 'other_job' and reads_on set, .*: give kind 'session'",
        ),
        ({"weights": "ema", "reads_on": True}, "teacher.weights is 'ema' and reads_on set, .*: give weights 'frozen'"),
        ({"sharpness": 3.0}, "which has no effect where kind is 'session'"),
    ],
)
def test_wrong_settings_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        TeacherConfig(**wrong)
