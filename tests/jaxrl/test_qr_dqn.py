import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs import probes
from envs.errors import InputError
from jaxrl import networks
from jaxrl.agents import qr_dqn
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

HP = qr_dqn.Hyperparams(learning_rate=0.0, gamma=0.5, epsilon_end=1.0, total_steps=1e4)


def table_network():
    """Quantiles are a table of 2 states × 2 actions × 2; the observation is the state's one-hot vector."""
    return networks.Network(
        lambda key: jnp.zeros((2, 2, 2)), lambda params, obs: jnp.einsum("...s,saq->...aq", obs, params)
    )


@pytest.mark.parametrize(
    ("terminated", "truncated", "want"),
    [
        # θ(s, a) = 0, 1 at ¼, ¾. In s' the target network prefers action 1 (−4 and 4) to action 0 (−1, −1).
        # r = 1, γ = ½: samples −1 and 3. Errors −1, 3; −2, 2: losses ¾·½, ¼·2½; ¼·1½, ¾·1½ (see test_losses).
        (False, False, (0.375 + 0.625) / 2 + (0.375 + 1.125) / 2),
        (False, True, (0.375 + 0.625) / 2 + (0.375 + 1.125) / 2),  # a time limit changes nothing
        (True, False, 0.25 * 0.5),  # both samples are 1: errors 1 and 0
        (True, True, 0.25 * 0.5),
    ],
)
def test_loss_by_hand(terminated, truncated, want):
    learner = qr_dqn.init_learner(table_network(), jax.random.key(0), HP)
    online = jnp.array([[[5.0, 5.0], [0.0, 1.0]], [[9.0, 9.0], [0.0, 0.0]]])
    target = jnp.array([[[0.0, 0.0], [0.0, 0.0]], [[-1.0, -1.0], [-4.0, 4.0]]])
    learner = learner._replace(params=online, target_params=target)
    one_hot = jnp.eye(2)
    flags = (jnp.array([terminated]), jnp.array([truncated]))
    batch = Transition(one_hot[:1], jnp.array([1]), jnp.array([1.0]), *flags, one_hot[1:], weight=jnp.array([0.5]))
    _, told = qr_dqn.update(qr_dqn.Config(), table_network(), HP, Context(), learner, batch, jax.random.key(0))
    np.testing.assert_allclose(told.scalars["loss"], 0.5 * want, rtol=1e-6)
    np.testing.assert_allclose(told.priority, [want], rtol=1e-6)


def test_learns_the_distribution_and_not_its_mean_alone(optimised):
    """A reward of 0 or 2 with equal chance: the lower quantiles are 0, the upper ones 2."""
    sizes = {"num_envs": 4, "batch_size": 64, "warmup_steps": 200, "replay_capacity": 2_000, "hidden": (8,)}
    agent = qr_dqn.make(probes.RandomReward(), qr_dqn.Config(**sizes, num_quantiles=4))
    hp = dataclasses.replace(HP, learning_rate=1e-2, huber_delta=0.1)

    @optimised
    def learn(key):
        state, _ = jaxrl.run(agent, agent.init(key, hp, probes.Params()), 1_000)
        net = qr_dqn.build(agent.config, agent.env.observation_space, 2)
        return net.apply(state.learner.params, jnp.ones(1))

    np.testing.assert_allclose(learn(jax.random.key(0)), [[0.0, 0.0, 2.0, 2.0]] * 2, atol=0.2)


def test_bad_input():
    with pytest.raises(InputError, match="num_quantiles=0"):
        qr_dqn.make(envs.make("CartPole-v1")[0], qr_dqn.Config(num_quantiles=0))
    with pytest.raises(InputError, match="qr_dqn needs a Discrete action space"):
        qr_dqn.make(envs.make("Pendulum-v1")[0])


@pytest.mark.slow
def test_learns_cartpole_quickly(optimised):
    """50,000 steps with an update every 4 reach a return above 150; a random policy has 22."""
    env, params = envs.make("CartPole-v1")
    train = make_train(qr_dqn.make(env, qr_dqn.Config(num_envs=4, num_quantiles=11)), env_steps=50_000, num_evals=5)
    result = optimised(train)(jax.random.key(12), qr_dqn.Hyperparams(), params)
    assert float(result.evaluation.returns.mean(-1).max()) >= 150
