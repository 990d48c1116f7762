import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError
from jaxrl import networks
from jaxrl.agents import tqc
from jaxrl.distributions import SquashedNormal
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

STILL = tqc.Hyperparams(
    policy_learning_rate=0.0,
    critic_learning_rate=0.0,
    temperature_learning_rate=0.0,
    gamma=0.5,
    target_rate=0.25,
    temperature=0.2,
)
CONFIG = tqc.Config(num_critics=2, num_quantiles=3, num_dropped=1)


class Sure(SquashedNormal):
    """A policy whose draws are known: the action is 0.8 and its log-probability −0.7."""

    def sample_and_log_prob(self, key):
        return 0.8 + 0.0 * self.mean, -0.7 + 0.0 * self.mean[..., 0]


def simple_networks():
    """Atoms w_ij + a·slope: everything can be worked out on paper."""
    actor = networks.Network(lambda key: jnp.zeros(1), lambda params, obs: Sure(0 * obs + params, 1.0, -1.0, 1.0))
    critics = networks.Network(
        lambda key: jnp.zeros((2, 3)),
        lambda params, obs, action: params[:, None, :] + 10 * (action - 0.8) * jnp.ones((1, obs.shape[0], 3)),
    )
    return tqc.Networks(actor, critics)


def learner(hp=STILL):
    init = tqc.init_learner(simple_networks(), jax.random.key(0), hp)
    critics, targets = jnp.array([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]]), jnp.array([[4.0, 0.0, 9.0], [7.0, 2.0, 8.0]])
    return init._replace(critics=critics, target_critics=targets)


def transition(terminated=False, truncated=False):
    flags = (jnp.array([terminated]), jnp.array([truncated]))
    return Transition(jnp.ones((1, 1)), jnp.full((1, 1), 0.8), jnp.array([-1.0]), *flags, jnp.ones((1, 1)), ())


# The pooled atoms are 0, 2, 4, 7, 8, 9; the greatest two go; −α log π adds 0.14: −1 + 0.5·(0.14, 2.14, 4.14, 7.14).
@pytest.mark.parametrize(
    ("terminated", "truncated", "targets"),
    [(False, False, (-0.93, 0.07, 1.07, 2.57)), (False, True, (-0.93, 0.07, 1.07, 2.57)), (True, False, (-1.0,))],
)
def test_losses_by_hand(terminated, truncated, targets):
    batch = transition(terminated, truncated)
    after, told = tqc.update(CONFIG, simple_networks(), STILL, Context(), learner(), batch, jax.random.key(0))
    want = 0.0
    for atoms in ((0.0, 1.0, 2.0), (1.0, 1.0, 1.0)):
        pairs = []
        for m, atom in enumerate(atoms):
            for target in targets:
                error = target - atom
                huber = 0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5
                pairs.append(abs((m + 0.5) / 3 - (error < 0)) * huber)
        want += np.mean(pairs)
    np.testing.assert_allclose(told.scalars["critic_loss"], want, rtol=1e-5)
    np.testing.assert_allclose(told.priority, [want / 2], rtol=1e-5)
    np.testing.assert_allclose(told.scalars["actor_loss"], 0.2 * -0.7 - 1.0, rtol=1e-5)  # the mean of all atoms is 1
    np.testing.assert_allclose(told.scalars["entropy"], 0.7, rtol=1e-6)
    np.testing.assert_allclose(after.target_critics[0], [3.0, 0.25, 7.25])


def test_every_row_has_its_weight_and_its_priority():
    """Two rows at once are what each is alone, at its weight."""
    rows = transition(), transition(terminated=True)
    alone = [
        tqc.update(CONFIG, simple_networks(), STILL, Context(), learner(), row, jax.random.key(0))[1] for row in rows
    ]
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *rows)._replace(weight=jnp.array([1.0, 0.5]))
    _, told = tqc.update(CONFIG, simple_networks(), STILL, Context(), learner(), both, jax.random.key(0))
    one, two = (float(each.scalars["critic_loss"]) for each in alone)
    assert abs(one - two) > 0.1
    np.testing.assert_allclose(told.scalars["critic_loss"], one + 0.5 * two, rtol=1e-5)
    np.testing.assert_allclose(told.priority, [one / 2, two / 2], rtol=1e-5)


@pytest.mark.parametrize(("target_entropy", "direction"), [(-1.0, -1), (0.9, 1)])
def test_temperature_steers_to_the_entropy(target_entropy, direction):
    """The policy's entropy is 0.7: α falls where that is enough and rises where it is not."""
    hp = dataclasses.replace(STILL, temperature_learning_rate=0.01, target_entropy=target_entropy)
    after, _ = tqc.update(CONFIG, simple_networks(), hp, Context(), learner(hp), transition(), jax.random.key(0))
    np.testing.assert_allclose(after.log_alpha, np.log(0.2) + 0.01 * direction, rtol=1e-4)


def test_sizes_that_do_not_fit():
    env, _ = envs.make("Pendulum-v1")
    with pytest.raises(InputError, match=r"num_dropped=25 must be 0 … num_quantiles-1=24"):
        tqc.make(env, tqc.Config(num_dropped=25))
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match="tqc needs a Box action space"):
        tqc.make(env)


@pytest.mark.slow
def test_learns_pendulum(optimised):
    """5,000 steps reach a return above −300; a random policy has −1236, the best −140."""
    env, params = envs.make("Pendulum-v1")
    train = make_train(tqc.make(env, tqc.Config(hidden=(64, 64), batch_size=128)), env_steps=5_000, num_evals=2)
    result = optimised(train)(jax.random.key(12), tqc.Hyperparams(), params)
    assert float(result.evaluation.returns.mean(-1)[-1]) >= -300
