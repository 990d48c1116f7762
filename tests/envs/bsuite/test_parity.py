"""The Behaviour Suite's own package beside ours: every step and start under the same random decisions."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs

with warnings.catch_warnings():  # what it imports may warn
    warnings.simplefilter("ignore")
    pytest.importorskip("bsuite")
    from bsuite.environments import bandit, deep_sea, discounting_chain, mountain_car
    from bsuite.experiments.cartpole_swingup import cartpole_swingup

from envs.interop import bsuite_parity as module
from envs.interop.parity import parity


def failures(checks):
    return [check.quantity for check in checks if not check.passed]


@pytest.mark.parametrize(
    ("name", "adapter", "overrides"),
    [
        ("Catch", module.Catch, {"rows": 3, "columns": 4}),
        ("Catch", module.Catch, {}),
        ("DeepSea", module.DeepSea, {}),
        ("DeepSea", module.DeepSea, {"size": 5, "deterministic": False, "mapping_seed": 1}),
        ("DeepSea", module.DeepSea, {"size": 3, "mapping_seed": None}),
        ("MemoryChain", module.MemoryChain, {}),
        ("MemoryChain", module.MemoryChain, {"memory_length": 1, "num_bits": 3}),
        ("MemoryChain", module.MemoryChain, {"memory_length": 30, "num_bits": 7}),
        ("UmbrellaChain", module.UmbrellaChain, {}),
        ("UmbrellaChain", module.UmbrellaChain, {"chain_length": 1, "n_distractor": 2}),
        ("UmbrellaChain", module.UmbrellaChain, {"chain_length": 23, "n_distractor": 40}),
        ("DiscountingChain", module.DiscountingChain, {"mapping_seed": 7}),
        ("SimpleBandit", module.SimpleBandit, {"mapping_seed": 3}),
        ("CartPole", module.CartPole, {}),
        ("CartPoleSwingUp", module.CartPoleSwingUp, {"height_threshold": 0.95, "x_reward_threshold": 0.05}),
        ("MountainCar", module.MountainCar, {}),
    ],
)
def test_every_step_is_the_originals(name, adapter, overrides):
    env, params = envs.make(f"{name}-bsuite", **overrides)
    checks = module.replayed(env, params, adapter(), 1600, np.random.default_rng(1))
    assert not failures(checks)
    ended = next(check.note for check in checks if check.quantity == "terminated")
    assert int(ended.split()[0].replace(",", "")) >= 10
    assert all(check.at_edge < 10 for check in checks)


@pytest.mark.parametrize("name", ["CartPole-bsuite", "CartPoleSwingUp-bsuite"])
def test_reports(name):
    """With whole episodes of random policies: 40 and 26 of the original."""
    report = parity(name, samples=1600)
    assert report.passed, report.rows
    assert report.reference.startswith("bsuite 0.3")
    assert any(row.quantity == "random policy: returns" for row in report.rows)


def test_differences_are_found():
    """A cell of the sea with its actions exchanged, a chain of another length, a cart with another cost."""
    env, params = envs.make("DeepSea-bsuite", size=4)
    mapping = params.right_action.copy()
    mapping[2, 2] = 1 - mapping[2, 2]
    rng = np.random.default_rng(0)
    found = failures(module.replayed(env, params._replace(right_action=mapping), module.DeepSea(), 320, rng))
    assert {"observation", "reward", "state"} <= set(found)

    class Longer(module.MemoryChain):
        def build(self, env, params):
            return super().build(env, params._replace(memory_length=params.memory_length + 1))

    env, params = envs.make("MemoryChain-bsuite")
    assert {"observation", "terminated"} <= set(failures(module.replayed(env, params, Longer(), 320, rng)))

    class Dearer(module.CartPoleSwingUp):
        def build(self, env, params):
            return super().build(env, params._replace(move_cost=0.2))

    env, params = envs.make("CartPoleSwingUp-bsuite")
    assert failures(module.replayed(env, params, Dearer(), 320, rng)) == ["reward"]


def test_draws_that_the_original_does_not_make_are_found():
    class Calm(module.UmbrellaChain):
        def calls(self, s, action, draws, e):
            return super().calls(s, action, draws, e)[-1:]

        def start_calls(self, s, obs, e):
            return [*super().start_calls(s, obs, e), ("rand", (), 0.5)]

    env, params = envs.make("UmbrellaChain-bsuite")
    checks = module.replayed(env, params, Calm(), 320, np.random.default_rng(0))
    assert {"random decisions", "starts"} <= set(failures(checks))


@pytest.mark.parametrize("size", [10, 12, 30, 50])
def test_the_mapping_of_actions_is_the_originals(size):
    _, params = envs.make("DeepSea-bsuite", size=size)
    np.testing.assert_array_equal(params.right_action, deep_sea.DeepSea(size, mapping_seed=42)._action_mapping)


def test_rewards_are_the_originals_for_every_seed():
    for seed in range(20):
        _, params = envs.make("SimpleBandit-bsuite", mapping_seed=seed)
        np.testing.assert_array_equal(params.reward, np.float32(bandit.SimpleBandit(seed)._rewards))
        _, params = envs.make("DiscountingChain-bsuite", mapping_seed=seed)
        np.testing.assert_array_equal(params.reward, np.float32(discounting_chain.DiscountingChain(seed)._rewards))


@pytest.mark.parametrize(
    ("name", "reference"),
    [("CartPoleSwingUp-bsuite", cartpole_swingup.CartpoleSwingup), ("MountainCar-bsuite", mountain_car.MountainCar)],
)
def test_the_clock_ends_the_episode_at_the_same_step(name, reference):
    """An agent that does nothing; the time in the observation, and termination instead of truncation."""
    env, params = envs.make(name)
    _, state = env.reset(jax.random.key(0), params)
    theirs = reference(seed=0)
    theirs.reset()

    @jax.jit
    def run(state):
        def body(state, _):
            out = env.step(jax.random.key(0), state, jnp.int32(1), params)
            return out.state, (out.obs, out.terminated)

        return jax.lax.scan(body, state, length=1010)[1]

    obs, terminated = jax.device_get(run(state))
    clock = 5 if "CartPole" in name else 2
    for t in range(1010):
        timestep = theirs.step(1)
        assert abs(obs[t, clock] - timestep.observation[0, clock]) < 1e-6
        assert terminated[t] == timestep.last()
        if terminated[t]:
            break
    assert t + 1 == (1001 if "CartPole" in name else 1000)
