import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs import probes
from envs.errors import InputError
from envs.spaces import Box
from jaxrl import networks
from jaxrl.agents import iqn
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

HP = iqn.Hyperparams(learning_rate=0.0, gamma=0.5, epsilon_end=1.0, total_steps=1e4)


def test_network_by_hand():
    """Z = f(ψ(s) ⊙ φ(τ)) from its own weights, in NumPy, for fractions that differ along the batch."""
    net = networks.implicit_quantiles(Box(-1, 1, (3,)), 2, 5, "mlp", (4, 6), "relu")
    params = jax.tree.map(np.asarray, net.init(jax.random.key(0)))
    obs = np.asarray(jax.random.normal(jax.random.key(1), (7, 3)))
    tau = np.asarray(jax.random.uniform(jax.random.key(2), (7, 9)))
    relu = lambda layer, x: np.maximum(x @ layer["kernel"] + layer["bias"], 0.0)  # noqa: E731
    psi = relu(params["MLP_0"]["Dense_0"], obs)
    for k in range(9):
        phi = relu(params["embedding"], np.cos(np.pi * np.outer(tau[:, k], [0, 1, 2, 3, 4])))
        mixed = relu(params["mixed"]["Dense_0"], psi * phi)
        want = mixed @ params["quantiles"]["kernel"] + params["quantiles"]["bias"]
        np.testing.assert_allclose(net.apply(params, obs, tau)[:, :, k], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("terminated", "truncated", "target"),
    # Z is a table that knows no fraction. r = 1, γ = ½; the target network prefers action 1 (4) to action 0 (2) in s'.
    [(False, False, 3.0), (False, True, 3.0), (True, False, 1.0), (True, True, 1.0)],
)
def test_loss_by_hand(terminated, truncated, target):
    """Z(s, a) = 1 at N = 4 fractions: Σ τ_i huber(2) = 1½ Σ τ_i where the target is 3, nothing where it is 1."""
    net = networks.Network(
        lambda key: jnp.zeros((2, 2)), lambda params, obs, tau: (obs @ params)[..., None] + jnp.zeros_like(tau[:, None])
    )
    learner = iqn.init_learner(net, jax.random.key(0), HP)
    learner = learner._replace(
        params=jnp.array([[9.0, 1.0], [0.0, 0.0]]), target_params=jnp.array([[0.0, 0.0], [2.0, 4.0]])
    )
    one_hot = jnp.eye(2)
    flags = (jnp.array([terminated]), jnp.array([truncated]))
    batch = Transition(one_hot[:1], jnp.array([1]), jnp.array([1.0]), *flags, one_hot[1:], weight=jnp.array([0.5]))
    config = iqn.Config(num_quantiles=4, num_target_quantiles=3, num_policy_quantiles=2)
    _, told = iqn.update(config, net, HP, Context(), learner, batch, jax.random.key(0))
    tau = np.asarray(jax.random.uniform(jax.random.key(0), (1, 9)))[0, :4]
    want = 1.5 * tau.sum() if target == 3.0 else 0.0
    np.testing.assert_allclose(told.scalars["loss"], 0.5 * want, rtol=1e-5)
    np.testing.assert_allclose(told.priority, [want], rtol=1e-5)


def test_learns_the_quantile_function(optimised):
    """A reward of 0 or 2 with equal chance: 0 below the median, 2 above."""
    sizes = {"num_envs": 4, "batch_size": 64, "warmup_steps": 200, "replay_capacity": 2_000, "hidden": (16, 16)}
    agent = iqn.make(probes.RandomReward(), iqn.Config(**sizes, num_cosines=16))
    hp = dataclasses.replace(HP, learning_rate=5e-3, huber_delta=0.1)

    @optimised
    def learn(key):
        state, _ = jaxrl.run(agent, agent.init(key, hp, probes.Params()), 1_000)
        net = iqn.build(agent.config, agent.env.observation_space, 2)
        return net.apply(state.learner.params, jnp.ones(1), jnp.array([0.1, 0.3, 0.7, 0.9]))

    np.testing.assert_allclose(learn(jax.random.key(0)), [[0.0, 0.0, 2.0, 2.0]] * 2, atol=0.3)


def test_bad_input():
    env, _ = envs.make("CartPole-v1")
    for options, message in [({"num_cosines": 0}, "num_cosines=0"), ({"hidden": (8,)}, r"hidden=\(8,\)")]:
        with pytest.raises(InputError, match=message):
            iqn.make(env, iqn.Config(**options))
    with pytest.raises(InputError, match="iqn needs a Discrete action space"):
        iqn.make(envs.make("Pendulum-v1")[0])


@pytest.mark.slow
def test_learns_cartpole_quickly(optimised):
    """50,000 steps with an update every 4 reach a return above 150; a random policy has 22."""
    env, params = envs.make("CartPole-v1")
    config = iqn.Config(num_envs=4, num_quantiles=8, num_target_quantiles=8, num_policy_quantiles=8, num_cosines=16)
    train = make_train(iqn.make(env, config), env_steps=50_000, num_evals=5)
    result = optimised(train)(jax.random.key(12), iqn.Hyperparams(), params)
    assert float(result.evaluation.returns.mean(-1).max()) >= 150
