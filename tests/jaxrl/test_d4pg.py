import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError
from jaxrl import networks
from jaxrl.agents import d4pg
from jaxrl.n_step import NStep
from jaxrl.train import make_train
from jaxrl.types import Transition

STILL = d4pg.Hyperparams(learning_rate=0.0, gamma=0.5, target_rate=0.25, v_min=-2.0, v_max=2.0)
CONFIG = d4pg.Config(num_atoms=3)  # values −2, 0, 2


def simple_networks():
    """The policy is a constant action; the logits are parameters, that of the greatest value plus the action."""
    actor = networks.Network(lambda key: jnp.zeros(1), lambda params, obs: jnp.broadcast_to(params, obs.shape))
    critic = networks.Network(
        lambda key: jnp.zeros((1, 3)),
        lambda params, obs, action: params[:, None, :] + action * jnp.array([0.0, 0.0, 1.0]),
    )
    return d4pg.Networks(actor, critic)


def learner(hp=STILL):
    """The target's successor: probabilities ¼, ½, ¼ at its action 0; online all ⅓ at action 0."""
    init = d4pg.init_learner(simple_networks(), hp, jax.random.key(0))
    return init._replace(target_critic=jnp.log(jnp.array([[0.25, 0.5, 0.25]])))


def transition(terminated=False, truncated=False, extras=()):
    flags = (jnp.array([terminated]), jnp.array([truncated]))
    return Transition(jnp.ones((1, 1)), jnp.zeros((1, 1)), jnp.array([0.5]), *flags, jnp.ones((1, 1)), extras)


# r + γ z = −½, ½, 1½ with ¼, ½, ¼. Shares: −½ -> (¼, ¾, 0), ½ -> (0, ¾, ¼), 1½ -> (0, ¼, ¾).
@pytest.mark.parametrize(
    ("terminated", "truncated", "extras", "target"),
    [
        (False, False, (), (1 / 16, 10 / 16, 5 / 16)),
        (False, True, (), (1 / 16, 10 / 16, 5 / 16)),
        (True, False, (), (0.0, 0.75, 0.25)),
        # Two steps: the stored discount ¼ counts, so ½ + ¼ z = 0, ½, 1 with shares (0, 1, 0), (0, ¾, ¼), (0, ½, ½).
        (False, False, NStep(jnp.array([0.25])), (0.0, 0.75, 0.25)),
    ],
)
def test_losses_by_hand(terminated, truncated, extras, target):
    start = learner()._replace(critic=jnp.array([[0.3, -0.2, 0.1]]))
    batch = transition(terminated, truncated, extras)
    after, scalars = d4pg.update(CONFIG, simple_networks(), STILL, start, batch, jax.random.key(0))
    log_probs = np.array([0.3, -0.2, 0.1]) - np.log(np.exp([0.3, -0.2, 0.1]).sum())
    np.testing.assert_allclose(scalars["critic_loss"], -np.dot(target, log_probs), rtol=1e-5)
    np.testing.assert_allclose(scalars["actor_loss"], -np.dot(np.exp(log_probs), [-2, 0, 2]), rtol=1e-4)
    np.testing.assert_allclose(after.target_critic, 0.75 * learner().target_critic + 0.25 * start.critic, rtol=1e-5)


def test_policy_climbs_the_mean():
    """The greater the action, the likelier the greatest value."""
    hp = STILL._replace(learning_rate=0.1)
    after, _ = d4pg.update(CONFIG, simple_networks(), hp, learner(hp), transition(), jax.random.key(0))
    np.testing.assert_allclose(after.actor, [0.1], rtol=1e-4)


def test_bad_input():
    env, _ = envs.make("Pendulum-v1")
    with pytest.raises(InputError, match="num_atoms=1 must be at least 2"):
        d4pg.make(env, d4pg.Config(num_atoms=1))
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match="d4pg needs a Box action space"):
        d4pg.make(env)


@pytest.mark.slow
def test_learns_pendulum(optimised):
    """8,000 steps reach a return above −300; a random policy has −1236, the best −140."""
    env, params = envs.make("Pendulum-v1")
    config = d4pg.Config(hidden=(64, 64), batch_size=128)
    train = make_train(d4pg.make(env, config), env_steps=8_000, num_evals=2)
    result = optimised(train)(jax.random.key(12), d4pg.Hyperparams(v_min=-1500.0, v_max=0.0), params)
    assert float(result.evaluation.returns.mean(-1)[-1]) >= -300
