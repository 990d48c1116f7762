"""Keys of both kinds, and JAX told to use 64 bits."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs import threefry
from envs.errors import InputError
from jaxrl.agents import ppo, q_learning

SMALL = ppo.Config(num_envs=2, rollout_length=8, num_minibatches=2, hidden=(8,))


def test_both_kinds_of_keys_make_the_same_run():
    env, params = envs.make("GridWorld-4x4")
    agent = q_learning.make(env, q_learning.Config(steps_per_iteration=8))
    train = jax.jit(jaxrl.make_train(agent, env_steps=16, num_evals=1, eval_episodes=2))
    new, old = (train(key, q_learning.Hyperparams(), params) for key in (jax.random.key(3), jax.random.PRNGKey(3)))
    new, old = (jax.tree.leaves(out._replace(state=out.state._replace(key=()))) for out in (new, old))
    for a, b in zip(new, old, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("key", [3, np.zeros(2, np.float32), np.zeros(3, np.uint32)])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(InputError, match=r"is no key: make one with jax\.random\.key"):
        threefry.typed(key)


PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
import envs, jaxrl
from jaxrl.agents import dqn, ppo, q_learning, r2d2, sac

assert jnp.zeros(1).dtype == np.float64
replay = dict(num_envs=2, warmup_steps=64, batch_size=8, replay_capacity=64, num_updates=1, hidden=(8,))
cases = [
    ("GridWorld-4x4", q_learning, q_learning.Config(steps_per_iteration=8)),
    ("CartPole-v1", ppo, ppo.Config(num_envs=2, rollout_length=8, num_minibatches=2, hidden=(8,))),
    ("CartPole-v1", dqn, dqn.Config(**replay)),
    ("CartPole-v1", r2d2, r2d2.Config(**replay | {"replay_capacity": 32, "warmup_steps": 200})),
    ("Pendulum-v1", sac, sac.Config(**replay)),
]
for name, module, config in cases:
    env, params = envs.make(name)
    agent = module.make(env, config)
    steps = agent.warmup_steps + agent.steps_per_iteration
    train = jaxrl.make_train(agent, steps, num_evals=1, eval_episodes=2)
    hp = jax.tree.map(lambda x: jnp.asarray(np.float64(x)), module.Hyperparams(total_steps=64.0))
    out = jax.eval_shape(train, jax.random.PRNGKey(0), hp, jax.tree.map(np.float64, params))
    wide = [x for x in jax.tree.leaves(out) if str(x.dtype) in ("float64", "int64", "uint64")]
    assert not wide, (name, wide)
    if module is ppo:
        state, metrics = jaxrl.run(agent, agent.init(jax.random.key(0), hp, params), 1)
        print(np.asarray(agent.policy(state).act(jax.random.key(0), jnp.ones((1, 4)), ())[0])[0])
        print(repr(float(metrics.scalars["loss"][0])))
"""


def test_64_bits_change_nothing():
    """Each family of agents is traced in a process of its own; PPO computes what it does in 32 bits."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=os.environ | {"JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    env, params = envs.make("CartPole-v1")
    agent = ppo.make(env, SMALL)
    state, metrics = jaxrl.run(agent, agent.init(jax.random.key(0), ppo.Hyperparams(total_steps=64.0), params), 1)
    action, loss = done.stdout.split()
    assert int(action) == int(agent.policy(state).act(jax.random.key(0), jnp.ones((1, 4)), ())[0][0])
    np.testing.assert_allclose(float(loss), metrics.scalars["loss"][0], rtol=1e-4)
