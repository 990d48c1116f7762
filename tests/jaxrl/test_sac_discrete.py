import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError
from jaxrl import networks
from jaxrl.agents import sac_discrete
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

STILL = sac_discrete.Hyperparams(
    policy_learning_rate=0.0,
    critic_learning_rate=0.0,
    temperature_learning_rate=0.0,
    gamma=0.9,
    target_rate=0.25,
    temperature=0.2,
)
THREE = np.log(3.0)


def tables():
    """Logits [2 states, 2 actions] and twin tables of values; the observation is the state's one-hot vector."""
    actor = networks.Network(lambda key: jnp.zeros((2, 2)), lambda params, obs: (obs @ params,))
    critics = networks.Network(lambda key: jnp.zeros((2, 2, 2)), lambda params, obs: obs @ params)
    return sac_discrete.Networks(actor, critics)


def learner(hp=STILL):
    """π(·|s) = (½, ½) and π(·|s') = (¾, ¼)."""
    init = sac_discrete.init_learner(tables(), jax.random.key(0), hp)
    return init._replace(
        actor=jnp.array([[0.0, 0.0], [THREE, 0.0]]),
        critics=jnp.array([[[1.0, 3.0], [0.0, 0.0]], [[2.0, 2.5], [0.0, 0.0]]]),
        target_critics=jnp.array([[[0.0, 0.0], [2.0, 6.0]], [[0.0, 0.0], [4.0, 5.0]]]),
    )


def transition(terminated=False, truncated=False):
    one_hot = jnp.eye(2)
    flags = (jnp.array([terminated]), jnp.array([truncated]))
    return Transition(one_hot[:1], jnp.array([1]), jnp.array([-1.0]), *flags, one_hot[1:], ())


# Q⁻(s') = (2, 5), mean under π 2.75; H(¾, ¼) = 0.56234, α 0.2: V = 2.86247, target 1.57622; Q(s, 1) = (3, 2.5).
@pytest.mark.parametrize(
    ("terminated", "truncated", "target"), [(False, False, 1.57622), (False, True, 1.57622), (True, False, -1.0)]
)
def test_losses_by_hand(terminated, truncated, target):
    config, batch = sac_discrete.Config(), transition(terminated, truncated)
    batch = batch._replace(weight=jnp.array([0.5]))
    after, told = sac_discrete.update(config, tables(), STILL, Context(), learner(), batch, jax.random.key(0))
    scalars = told.scalars
    np.testing.assert_allclose(scalars["critic_loss"], 0.25 * ((target - 3) ** 2 + (target - 2.5) ** 2), rtol=1e-4)
    np.testing.assert_allclose(told.priority, [(abs(target - 3) + abs(target - 2.5)) / 2], rtol=1e-5)
    # min Q(s) = (1, 2.5), mean 1.75; H = log 2
    np.testing.assert_allclose(scalars["actor_loss"], -(1.75 + 0.2 * np.log(2)), rtol=1e-5)
    np.testing.assert_allclose(scalars["entropy"], np.log(2), rtol=1e-6)
    np.testing.assert_allclose(after.target_critics[0, 1], [1.5, 4.5])


def test_each_step_goes_the_right_way():
    """The policy leans to the better action; the temperature falls, as log 2 is more than half of log 2."""
    hp = dataclasses.replace(STILL, policy_learning_rate=0.1, temperature_learning_rate=0.01, target_entropy=0.5)
    after, _ = sac_discrete.update(
        sac_discrete.Config(), tables(), hp, Context(), learner(hp), transition(), jax.random.key(0)
    )
    np.testing.assert_allclose(after.actor[0], [-0.1, 0.1], rtol=1e-4)
    np.testing.assert_allclose(after.actor[1], [THREE, 0.0], rtol=1e-6)  # not in the batch
    np.testing.assert_allclose(after.log_alpha, np.log(0.2) - 0.01, rtol=1e-4)
    more = dataclasses.replace(hp, target_entropy=1.1)
    after, _ = sac_discrete.update(
        sac_discrete.Config(), tables(), more, Context(), learner(more), transition(), jax.random.key(0)
    )
    np.testing.assert_allclose(after.log_alpha, np.log(0.2) + 0.01, rtol=1e-4)


def test_policy_settles_at_the_softmax_of_values_over_temperature():
    """The fixed point of the policy's loss: π ∝ exp(Q/α)."""
    hp = dataclasses.replace(STILL, policy_learning_rate=0.05, temperature=1.0)

    def step(learner, _):
        return sac_discrete.update(
            sac_discrete.Config(), tables(), hp, Context(), learner, transition(), jax.random.key(0)
        )

    after, _ = jax.jit(lambda start: jax.lax.scan(step, start, length=300))(learner(hp))
    np.testing.assert_allclose(jax.nn.softmax(after.actor[0]), jax.nn.softmax(jnp.array([1.0, 2.5])), atol=1e-3)


def test_continuous_actions_are_refused():
    env, _ = envs.make("Pendulum-v1")
    with pytest.raises(InputError, match="sac_discrete needs a Discrete action space"):
        sac_discrete.make(env)


@pytest.mark.slow
def test_learns_cartpole_quickly(optimised):
    """12,000 steps reach a return above 150; a random policy has 22."""
    env, params = envs.make("CartPole-v1")
    train = make_train(sac_discrete.make(env, sac_discrete.Config(hidden=(64, 64))), env_steps=12_000, num_evals=4)
    result = optimised(train)(jax.random.key(12), sac_discrete.Hyperparams(), params)
    assert float(result.evaluation.returns.mean(-1).max()) >= 150
