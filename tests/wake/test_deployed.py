import json
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dreamer.core.types import EnvSpec
from dreamer.wake import Deployed

SPEC = EnvSpec("Probe-v0", suite="toys", version="1", obs_shape=(4, 4, 2), obs_dtype="bool", num_actions=3)
CONFIG = {"seed": 3, "env": {"id": "Probe-v0", "kwargs": (("size", 4),)}}


class Network(nn.Module):
    @nn.compact
    def __call__(self, obs):
        x = nn.relu(nn.Conv(8, (3, 3))(obs.astype(jnp.float32)))
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(3)(x), nn.Dense(1)(x)[:, 0]


def deploy(apply=None, spec=SPEC, params=None):
    params = Network().init(jax.random.key(0), observations(1)) if params is None else params
    return Deployed.of(
        apply or Network().apply, params, spec=spec, config=CONFIG, version=2, meters={"real": 1280, "seconds": 9.5}
    )


def observations(count):
    return np.random.default_rng(0).random((count, 4, 4, 2)) > 0.5


@pytest.fixture(scope="module")
def deployed():
    return deploy()


def test_it_computes_what_it_was_given(deployed):
    obs = observations(5)
    params = Network().init(jax.random.key(0), observations(1))
    logits, value = jax.jit(Network().apply)(params, obs)
    mine = deployed.evaluate(obs)
    np.testing.assert_allclose(mine[0], logits, rtol=1e-6)
    np.testing.assert_allclose(mine[1], value, rtol=1e-6)
    np.testing.assert_array_equal(deployed.act(obs), mine[0].argmax(axis=-1))


def test_one_observation_or_a_batch(deployed):
    obs = observations(5)
    actions = deployed.act(obs)
    assert actions.shape == (5,) and actions.dtype == np.int32
    assert [deployed.act(one) for one in obs] == actions.tolist()
    assert isinstance(deployed.act(obs[0]), int)
    logits, value = deployed.evaluate(obs[0])
    assert logits.shape == (3,) and value.shape == ()


def test_forbidden_actions_are_not_chosen(deployed):
    obs = observations(4)
    for action in range(3):
        only = np.arange(3) == action
        assert deployed.act(obs[0], only) == action
        np.testing.assert_array_equal(deployed.act(obs, np.tile(only, (4, 1))), action)


FRESH = """
import sys
import numpy as np
from dreamer.wake import Deployed
agent = Deployed.load(sys.argv[1])
obs = np.load(sys.argv[2])
logits, value = agent.evaluate(obs)
np.savez(sys.argv[3], action=agent.act(obs), logits=logits, value=value)
learning = ("optax", "mctx", "orbax", "gymnax", "gymnasium", "world_models", "agents", "experiments",
            "dreamer.replay", "dreamer.sleep", "dreamer.io", "dreamer.loop")
print([name for name in sys.modules if name.startswith(learning)])
"""


def test_a_fresh_process_acts_identically_without_what_trained_it(deployed, tmp_path):
    obs = observations(6)
    np.save(tmp_path / "obs.npy", obs)
    path = deployed.save(tmp_path / "new" / "agent.safetensors")
    arguments = [path, tmp_path / "obs.npy", tmp_path / "out.npz"]
    process = subprocess.run(
        [sys.executable, "-c", FRESH, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == "[]"
    out = np.load(tmp_path / "out.npz")
    logits, value = deployed.evaluate(obs)
    np.testing.assert_array_equal(out["logits"], logits)
    np.testing.assert_array_equal(out["value"], value)
    np.testing.assert_array_equal(out["action"], deployed.act(obs))


def test_the_file_says_what_the_agent_is(deployed, tmp_path):
    loaded = Deployed.load(deployed.save(tmp_path / "agent.safetensors"))
    assert (loaded.spec, loaded.version, loaded.format) == (SPEC, 2, 1)
    assert loaded.meters == {"real": 1280, "seconds": 9.5}
    assert loaded.config == deployed.config == json.loads(json.dumps(CONFIG))
    assert sorted(loaded.params) == sorted(deployed.params)
    assert "params/Dense_0/kernel" in loaded.params
    assert [path.name for path in tmp_path.iterdir()] == ["agent.safetensors"]  # nothing half-written is left


def test_it_cannot_be_changed(deployed):
    with pytest.raises(AttributeError):
        deployed.version = 3
    with pytest.raises(ValueError, match="read-only"):
        deployed.params["params/Dense_0/bias"][0] = 1.0


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (np.zeros((4, 4), bool), r"shape \(4, 4\); Probe-v0 has observations of shape \(4, 4, 2\)"),
        (np.zeros((0, 4, 4, 2), bool), r"shape \(0, 4, 4, 2\)"),
        (np.zeros((4, 4, 2), np.float32), r"dtype float32; Probe-v0 has observations of dtype bool"),
    ],
)
def test_a_foreign_observation_is_refused(deployed, obs, message):
    with pytest.raises(ValueError, match=message):
        deployed.act(obs)


def test_nan_is_refused_and_doubles_are_taken():
    spec = EnvSpec("Vector-v0", suite="toys", version="1", obs_shape=(2,), obs_dtype="float32", num_actions=2)
    agent = deploy(lambda params, obs: (obs * params["scale"], obs.sum(axis=-1)), spec, {"scale": jnp.float32(2)})
    assert agent.act(np.array([0.0, 1.0])) == 1
    with pytest.raises(ValueError, match=r"holds NaN or infinity: \[ ?0\. nan\]"):
        agent.act(np.array([0.0, np.nan]))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones(2, bool), r"action_mask is bool of shape \(2,\); Probe-v0 needs bool of shape \(3,\)"),
        (np.ones(3), "action_mask is float64"),
        (np.zeros(3, bool), "allows no action at all"),
    ],
)
def test_a_wrong_mask_is_refused(deployed, mask, message):
    with pytest.raises(ValueError, match=message):
        deployed.act(observations(1)[0], mask)


def test_a_network_of_other_shapes_is_not_deployed():
    with pytest.raises(ValueError, match="a deployed agent for Probe-v0 returns"):
        deploy(lambda params, obs: (obs.sum(axis=(1, 2)), obs.sum(axis=(1, 2, 3))), params={"unused": jnp.zeros(1)})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no deployed agent at .*nothing\.safetensors"):
        Deployed.load(tmp_path / "nothing.safetensors")


def test_damage_is_found_wherever_it_is(deployed, tmp_path):
    path = deployed.save(tmp_path / "agent.safetensors")
    content = path.read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    header = int.from_bytes(content[:8], "little")
    for position in [*range(8, 8 + header, 17), 8 + header, len(content) // 2, len(content) - 1]:
        damaged.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(ValueError, match=r"damaged|not of a deployed agent|has format \d"):
            Deployed.load(damaged)
    for kept in (0, 20, len(content) - 1):
        damaged.write_bytes(content[:kept])
        with pytest.raises(ValueError, match="damaged or no safetensors file"):
            Deployed.load(damaged)


def test_foreign_and_newer_files_are_refused(deployed, tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": np.zeros(2)}, foreign)
    with pytest.raises(ValueError, match="not of a deployed agent"):
        Deployed.load(foreign)
    path = deployed.save(tmp_path / "agent.safetensors")
    save_file(load_file(path), foreign, metadata={"deployed": json.dumps({"format": 99})})
    with pytest.raises(ValueError, match="has format 99, this program reads up to 1"):
        Deployed.load(foreign)


def test_an_unwritable_path_is_named(deployed, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write the deployed agent to .*choose a writable path"):
        deployed.save(tmp_path / "file" / "agent.safetensors")
