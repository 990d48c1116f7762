import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import envs
from envs.errors import InputError
from jaxrl import networks
from jaxrl.agents import pqn
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

HP = pqn.Hyperparams(learning_rate=0.0, gamma=0.5, q_lambda=0.5, total_steps=1e4)
TABLE = networks.Network(lambda key: jnp.zeros((4, 2)), lambda params, obs: obs @ params)
VALUES = jnp.array([[0.0, 0.0], [1.0, 2.0], [8.0, 4.0], [0.0, 6.0]])  # of four states, which are one-hot observations


@pytest.mark.parametrize(
    ("terminated", "truncated", "target"),
    [
        # Rewards 1, 2, 3 on the way 0 → 1 → 2 → 3, γ = λ = ½, greatest values 2, 8, 6.
        # G_2 = 3 + ½·6 = 6, G_1 = 2 + ½(½·8 + ½·6) = 5.5, G_0 = 1 + ½(½·2 + ½·5.5) = 2.875.
        ([0, 0, 0], [0, 0, 0], [2.875, 5.5, 6.0]),
        # Cut after the second step: G_1 = 2 + ½·8 = 6 from the observation it ended in, G_0 = 1 + ½(1 + 3) = 3.
        ([0, 0, 0], [0, 1, 0], [3.0, 6.0, 6.0]),
        # Terminated there: G_1 = 2, G_0 = 1 + ½(1 + 1) = 2.
        ([0, 1, 0], [0, 0, 0], [2.0, 2.0, 6.0]),
        ([0, 1, 0], [0, 1, 0], [2.0, 2.0, 6.0]),
    ],
)
def test_targets_by_hand(terminated, truncated, target):
    """The mean of ½ (G − Q(s, a))² with Q(s, a) = 0, 2, 4 of the actions taken, over one epoch of one minibatch."""
    one_hot = jnp.eye(4)[:, None]
    flags = (jnp.array(terminated, bool)[:, None], jnp.array(truncated, bool)[:, None])
    rewards = jnp.array([[1.0], [2.0], [3.0]])
    batch = Transition(one_hot[:3], jnp.array([[0], [1], [1]]), rewards, *flags, one_hot[1:], ())
    learner = pqn.Learner(VALUES, pqn.optimizer(HP).init(VALUES))
    config = pqn.Config(num_epochs=1, num_minibatches=1)
    squares = (np.array(target) - [0, 2, 4]) ** 2
    for weight, want in [((), squares.mean()), (jnp.array([[0.0], [1.0], [3.0]]), squares @ [0.0, 0.25, 0.75])]:
        told = pqn.update(
            config, TABLE, HP, Context(progress=0.0), learner, batch._replace(weight=weight), jax.random.key(0)
        )[1]
        np.testing.assert_allclose(told.scalars["loss"], 0.5 * want, rtol=1e-6)


def test_every_sample_is_used_once_an_epoch():
    """With a step so small that the values stand still, the gradients of the minibatches average to the batch's."""
    obs = jax.random.normal(jax.random.key(0), (3, 4, 4))
    no = jnp.zeros((3, 4), bool)
    batch = Transition(obs, jnp.ones((3, 4), int), obs[..., 0], no, no, obs[::-1], ())
    learner = pqn.Learner(VALUES, pqn.optimizer(HP).init(VALUES))

    def loss(num_minibatches):
        config, key = pqn.Config(num_epochs=2, num_minibatches=num_minibatches), jax.random.key(num_minibatches)
        return pqn.update(config, TABLE, HP, Context(progress=0.0), learner, batch, key)[1].scalars["loss"]

    np.testing.assert_allclose(loss(1), loss(6), rtol=1e-5)


def test_the_network_normalises_before_its_activations():
    env, _ = envs.make("Breakout-MinAtar")
    for torso, hidden, layers in [("mlp", (8, 8), 2), ("minatar_cnn", (8,), 2)]:
        net = pqn.build(pqn.Config(torso=torso, hidden=hidden), env.observation_space, 3)
        paths = jax.tree_util.tree_leaves_with_path(jax.eval_shape(net.init, jax.random.key(0)))
        assert sum("LayerNorm" in str(path) and "scale" in str(path) for path, _ in paths) == layers


def test_bad_input():
    with pytest.raises(InputError, match="num_minibatches=7 does not divide"):
        pqn.make(envs.make("CartPole-v1")[0], pqn.Config(num_minibatches=7))
    with pytest.raises(InputError, match="pqn needs a Discrete action space"):
        pqn.make(envs.make("Pendulum-v1")[0])


def test_the_step_size_is_annealed():
    """The last iteration of a run at the end of its schedule moves nothing."""
    env, params = envs.make("CartPole-v1")
    agent = pqn.make(env, pqn.Config(num_envs=4, rollout_length=4, num_minibatches=1, hidden=(8,)))
    state = jax.jit(agent.init)(
        jax.random.key(0), dataclasses.replace(HP, learning_rate=1e-2, total_steps=100.0), params
    )
    moved = [
        optax.tree.norm(optax.tree.sub(jax.jit(agent.step)(s)[0].learner.params, s.learner.params))
        for s in (state, state._replace(iteration=jnp.int32(7)))
    ]
    assert moved[0] > 0
    assert moved[1] == 0


@pytest.mark.slow
def test_learns_cartpole_quickly(optimised):
    """100,000 steps reach a return above 150; a random policy has 22."""
    env, params = envs.make("CartPole-v1")
    train = make_train(pqn.make(env), env_steps=100_000, num_evals=5)
    result = optimised(train)(jax.random.key(12), pqn.Hyperparams(), params)
    assert float(result.evaluation.returns.mean(-1).max()) >= 150
