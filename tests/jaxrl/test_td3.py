import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError
from jaxrl import networks
from jaxrl.agents import td3
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

STILL = td3.Hyperparams(learning_rate=0.0, gamma=0.9, target_rate=0.25, target_noise_std=0.0)


def simple_networks():
    """The policy is a constant action, the values w_i·a + b_i·s: everything can be worked out on paper."""
    actor = networks.Network(lambda key: jnp.zeros(1), lambda params, obs: jnp.broadcast_to(params, obs.shape))
    critics = networks.Network(
        lambda key: jnp.zeros((2, 2)),
        lambda params, obs, action: params[:, None, :1] * action + params[:, None, 1:] * obs,
    )
    return td3.Networks(actor, critics)


def learner(hp=STILL):
    init = td3.init_learner(simple_networks(), jax.random.key(0), hp)
    return init._replace(
        actor=jnp.array([0.4]),
        critics=jnp.array([[2.0, 1.0], [-9.0, 0.0]]),
        target_actor=jnp.array([0.8]),
        target_critics=jnp.array([[3.0, -1.0], [1.0, 0.0]]),
    )


def transitions(num=1, terminated=False, truncated=False):
    def rows(x):
        return jnp.full((num, 1), x)

    flags = (jnp.full(num, terminated), jnp.full(num, truncated))
    return Transition(rows(1.0), rows(0.2), jnp.full(num, -1.0), *flags, rows(2.0), ())


# μ⁻ = 0.8: Q⁻(s', 0.8) = (2.4 − 2, 0.8), the smaller 0.4, target −0.64; Q(s, 0.2) = (1.4, −1.8): errors −2.04, 1.16.
@pytest.mark.parametrize(
    ("terminated", "truncated", "errors"),
    [(False, False, (-2.04, 1.16)), (False, True, (-2.04, 1.16)), (True, False, (-2.4, 0.8))],
)
def test_losses_by_hand(terminated, truncated, errors):
    config = td3.Config(policy_delay=1)
    batch = transitions(1, terminated, truncated)
    after, told = td3.update(config, simple_networks(), STILL, Context(), learner(), batch, jax.random.key(0))
    np.testing.assert_allclose(told.scalars["critic_loss"], 0.5 * (errors[0] ** 2 + errors[1] ** 2), rtol=1e-5)
    np.testing.assert_allclose(told.scalars["actor_loss"], -(2.0 * 0.4 + 1.0), rtol=1e-6)  # the first critic alone
    np.testing.assert_allclose(told.priority, [(abs(errors[0]) + abs(errors[1])) / 2], rtol=1e-5)
    np.testing.assert_allclose(after.target_critics, [[2.75, -0.5], [-1.5, 0.0]])
    np.testing.assert_allclose(after.target_actor, [0.7], rtol=1e-6)


def test_smoothing_clips_the_noise_and_then_the_action():
    """Noise far beyond its bound ±0.5 makes of μ⁻ = 0.8 either 0.3 or 1: targets −1 + 0.9·(−1.1) or −1 + 0.9·1."""
    hp = dataclasses.replace(STILL, target_noise_std=1e6)
    seen = set()
    for seed in range(12):
        batch = transitions()
        key = jax.random.key(seed)
        _, told = td3.update(td3.Config(policy_delay=1), simple_networks(), hp, Context(), learner(), batch, key)
        losses = {}
        for action in (0.3, 1.0):
            target = -1 + 0.9 * min(3 * action - 2, action)
            losses[action] = 0.5 * ((target - 1.4) ** 2 + (target + 1.8) ** 2)
        action = min(losses, key=lambda a: abs(losses[a] - float(told.scalars["critic_loss"])))
        np.testing.assert_allclose(told.scalars["critic_loss"], losses[action], rtol=1e-5)
        seen.add(action)
    assert seen == {0.3, 1.0}


def test_a_round_is_two_steps_of_the_critics_and_one_of_the_policy():
    """The second step of the critics sees the second half of the batch; the policy sees the critics after both."""
    hp = dataclasses.replace(STILL, learning_rate=0.1)
    one, two = transitions(), transitions()._replace(reward=jnp.array([50.0]))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), one, two)
    start = learner(hp)
    after, _ = td3.update(td3.Config(), simple_networks(), hp, Context(), start, both, jax.random.key(0))
    # Adam on the gradients of the two halves, by hand: the targets do not move in between.
    params, mean, square = np.array(start.critics, np.float64), 0.0, 0.0
    for i, reward in enumerate((-1.0, 50.0), start=1):
        error = reward + 0.9 * 0.4 - (params[:, 0] * 0.2 + params[:, 1] * 1.0)
        grad = -error[:, None] * np.array([0.2, 1.0])
        mean, square = 0.9 * mean + 0.1 * grad, 0.999 * square + 0.001 * grad**2
        params = params - 0.1 * (mean / (1 - 0.9**i)) / (np.sqrt(square / (1 - 0.999**i)) + 1e-8)
    np.testing.assert_allclose(after.critics, params, rtol=1e-4)
    np.testing.assert_allclose(after.actor, [0.5], rtol=1e-4)  # once
    np.testing.assert_allclose(after.target_actor, [0.8 + 0.25 * (0.5 - 0.8)], rtol=1e-4)
    targets = np.asarray(start.target_critics)
    np.testing.assert_allclose(after.target_critics, targets + 0.25 * (params - targets), rtol=1e-4)


def test_every_row_has_its_weight_and_its_priority():
    """Rewards −1 and 50 in the two steps of a round: errors (−2.04, 1.16), then (48.96, 52.16), half of the latter."""
    one, two = transitions(), transitions()._replace(reward=jnp.array([50.0]))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), one, two)._replace(weight=jnp.array([1.0, 0.5]))
    _, told = td3.update(td3.Config(), simple_networks(), STILL, Context(), learner(), both, jax.random.key(0))
    loss = (0.5 * (2.04**2 + 1.16**2) + 0.5 * 0.5 * (48.96**2 + 52.16**2)) / 2
    np.testing.assert_allclose(told.scalars["critic_loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(told.priority, [1.6, 50.56], rtol=1e-5)


def test_sizes_that_do_not_fit():
    env, _ = envs.make("Pendulum-v1")
    with pytest.raises(InputError, match="policy_delay=3 does not divide num_updates=4"):
        td3.make(env, td3.Config(policy_delay=3))
    with pytest.raises(InputError, match=r"warmup_steps=20000 .* replay_capacity=10000"):
        td3.make(env, td3.Config(warmup_steps=20_000, replay_capacity=10_000))
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match="td3 needs a Box action space"):
        td3.make(env)


@pytest.mark.slow
def test_learns_pendulum_quickly(optimised):
    """8,000 steps reach a return above −300; a random policy has −1236, the best −140."""
    env, params = envs.make("Pendulum-v1")
    config = td3.Config(hidden=(64, 64), batch_size=128)
    train = make_train(td3.make(env, config), env_steps=8_000, num_evals=2)
    result = optimised(train)(jax.random.key(12), td3.Hyperparams(target_rate=0.02), params)
    assert float(result.evaluation.returns.mean(-1)[-1]) >= -300
