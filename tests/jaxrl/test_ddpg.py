import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError
from jaxrl import networks
from jaxrl.agents import ddpg
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

STILL = ddpg.Hyperparams(learning_rate=0.0, gamma=0.9, target_rate=0.25)


def simple_networks():
    """The policy is a constant action, the value w·a + b·s: everything can be worked out on paper."""
    actor = networks.Network(lambda key: jnp.zeros(1), lambda params, obs: jnp.broadcast_to(params, obs.shape))
    critic = networks.Network(
        lambda key: jnp.zeros((1, 2)),
        lambda params, obs, action: params[:, None, :1] * action + params[:, None, 1:] * obs,
    )
    return ddpg.Networks(actor, critic)


def learner(hp=STILL):
    init = ddpg.init_learner(simple_networks(), jax.random.key(0), hp)
    return init._replace(
        actor=jnp.array([0.4]),
        critics=jnp.array([[2.0, 1.0]]),
        target_actor=jnp.array([-0.5]),
        target_critics=jnp.array([[3.0, -1.0]]),
    )


def transition(terminated=False, truncated=False):
    flags = (jnp.array([terminated]), jnp.array([truncated]))
    return Transition(jnp.array([[1.0]]), jnp.array([[0.2]]), jnp.array([-1.0]), *flags, jnp.array([[2.0]]), ())


# Q(s, a) = 2·0.2 + 1 = 1.4; μ⁻(s') = −0.5, Q⁻(s', −0.5) = −1.5 − 2 = −3.5: target −1 − 0.9·3.5 = −4.15, error −5.55.
@pytest.mark.parametrize(
    ("terminated", "truncated", "error"), [(False, False, -5.55), (False, True, -5.55), (True, False, -2.4)]
)
def test_losses_by_hand(terminated, truncated, error):
    batch = transition(terminated, truncated)
    after, told = ddpg.update(ddpg.Config(), simple_networks(), STILL, Context(), learner(), batch, jax.random.key(0))
    np.testing.assert_allclose(told.scalars["critic_loss"], 0.5 * error**2, rtol=1e-6)
    np.testing.assert_allclose(told.scalars["actor_loss"], -(2.0 * 0.4 + 1.0), rtol=1e-6)
    np.testing.assert_allclose(told.priority, [abs(error)], rtol=1e-6)
    # Nothing moved but the targets, a quarter of the way: 3 → 2.75, −1 → −0.5; −0.5 → −0.275.
    np.testing.assert_allclose(after.target_critics, [[2.75, -0.5]])
    np.testing.assert_allclose(after.target_actor, [-0.275])


def test_each_step_goes_the_right_way():
    """The value falls towards a target that is too low for it; the policy climbs the value."""
    hp = dataclasses.replace(STILL, learning_rate=0.1)
    after, _ = ddpg.update(
        ddpg.Config(), simple_networks(), hp, Context(), learner(hp), transition(), jax.random.key(0)
    )
    np.testing.assert_allclose(after.critics, [[1.9, 0.9]], rtol=1e-4)  # Adam's first step is the step size
    np.testing.assert_allclose(after.actor, [0.5], rtol=1e-4)
    # Down the new value's slope −0.3, not up the old one's 2.
    steep = dataclasses.replace(hp, learning_rate=2.3)
    after, _ = ddpg.update(
        ddpg.Config(), simple_networks(), steep, Context(), learner(steep), transition(), jax.random.key(0)
    )
    np.testing.assert_allclose(after.actor, [0.4 - 2.3], rtol=1e-4)


def test_every_row_has_its_weight_and_its_priority():
    """Errors −5.55 of weight 1 and, at an end, −2.4 of weight ½."""
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), transition(), transition(terminated=True))
    both = both._replace(weight=jnp.array([1.0, 0.5]))
    _, told = ddpg.update(ddpg.Config(), simple_networks(), STILL, Context(), learner(), both, jax.random.key(0))
    np.testing.assert_allclose(told.scalars["critic_loss"], 0.5 * (5.55**2 + 0.5 * 2.4**2) / 2, rtol=1e-6)
    np.testing.assert_allclose(told.priority, [5.55, 2.4], rtol=1e-6)


def test_discrete_actions_are_refused():
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match="ddpg needs a Box action space"):
        ddpg.make(env)


@pytest.mark.slow
def test_learns_pendulum_quickly(optimised):
    """4,000 steps reach a return above −300; a random policy has −1236, the best −140."""
    env, params = envs.make("Pendulum-v1")
    train = make_train(ddpg.make(env, ddpg.Config(hidden=(64, 64), batch_size=128)), env_steps=4_000, num_evals=2)
    result = optimised(train)(jax.random.key(12), ddpg.Hyperparams(), params)
    assert float(result.evaluation.returns.mean(-1)[-1]) >= -300
