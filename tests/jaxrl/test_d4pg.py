import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError
from jaxrl import networks
from jaxrl.agents import d4pg
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

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
    init = d4pg.init_learner(simple_networks(), jax.random.key(0), hp)
    return init._replace(target_critics=jnp.log(jnp.array([[0.25, 0.5, 0.25]])))


def transition(terminated=False, truncated=False, discount=()):
    flags = (jnp.array([terminated]), jnp.array([truncated]))
    return Transition(jnp.ones((1, 1)), jnp.zeros((1, 1)), jnp.array([0.5]), *flags, jnp.ones((1, 1)), (), discount)


# r + γ z = −½, ½, 1½ with ¼, ½, ¼. Shares: −½ -> (¼, ¾, 0), ½ -> (0, ¾, ¼), 1½ -> (0, ¼, ¾).
@pytest.mark.parametrize(
    ("terminated", "truncated", "discount", "target"),
    [
        (False, False, (), (1 / 16, 10 / 16, 5 / 16)),
        (False, True, (), (1 / 16, 10 / 16, 5 / 16)),
        (True, False, (), (0.0, 0.75, 0.25)),
        # Two steps: the stored discount ¼ counts, so ½ + ¼ z = 0, ½, 1 with shares (0, 1, 0), (0, ¾, ¼), (0, ½, ½).
        (False, False, jnp.array([0.25]), (0.0, 0.75, 0.25)),
    ],
)
def test_losses_by_hand(terminated, truncated, discount, target):
    start = learner()._replace(critics=jnp.array([[0.3, -0.2, 0.1]]))
    batch = transition(terminated, truncated, discount)
    after, told = d4pg.update(CONFIG, simple_networks(), STILL, Context(), start, batch, jax.random.key(0))
    log_probs = np.array([0.3, -0.2, 0.1]) - np.log(np.exp([0.3, -0.2, 0.1]).sum())
    np.testing.assert_allclose(told.scalars["critic_loss"], -np.dot(target, log_probs), rtol=1e-5)
    entropy = -sum(p * np.log(p) for p in target if p > 0)
    np.testing.assert_allclose(told.priority, [-np.dot(target, log_probs) - entropy], rtol=1e-5)
    np.testing.assert_allclose(told.scalars["actor_loss"], -np.dot(np.exp(log_probs), [-2, 0, 2]), rtol=1e-4)
    np.testing.assert_allclose(after.target_critics, 0.75 * learner().target_critics + 0.25 * start.critics, rtol=1e-5)


def test_every_row_has_its_weight_and_its_priority():
    """Logits are 0: cross-entropies ln 3 whatever the target, whose entropies the priorities lack."""
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), transition(), transition(terminated=True))
    both = both._replace(weight=jnp.array([1.0, 0.5]))
    _, told = d4pg.update(CONFIG, simple_networks(), STILL, Context(), learner(), both, jax.random.key(0))
    np.testing.assert_allclose(told.scalars["critic_loss"], 0.75 * np.log(3), rtol=1e-6)
    targets = np.array([[1 / 16, 10 / 16, 5 / 16], [1e-30, 0.75, 0.25]])
    np.testing.assert_allclose(told.priority, np.log(3) + (targets * np.log(targets)).sum(-1), rtol=1e-5)


def test_policy_climbs_the_mean():
    """The greater the action, the likelier the greatest value."""
    hp = dataclasses.replace(STILL, learning_rate=0.1)
    after, _ = d4pg.update(CONFIG, simple_networks(), hp, Context(), learner(hp), transition(), jax.random.key(0))
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
