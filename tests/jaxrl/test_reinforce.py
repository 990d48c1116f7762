"""REINFORCE: the gradient by hand for every baseline, and learning without a learned value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs import probes
from envs.errors import InputError
from envs.spaces import Box, Discrete
from jaxrl import policies
from jaxrl.agents import reinforce
from jaxrl.train import make_train
from jaxrl.types import Context, Transition


@pytest.mark.parametrize("baseline", ["none", "mean", "value"])
def test_gradient_by_hand(baseline):
    rng = np.random.default_rng(1)
    obs, next_obs = rng.normal(size=(2, 4, 2, 3)).astype(np.float32)
    action = rng.integers(0, 2, (4, 2))
    reward = rng.normal(size=(4, 2)).astype(np.float32)
    terminated = np.array([[0, 0], [1, 0], [0, 0], [0, 0]], bool)
    truncated = np.array([[0, 0], [0, 0], [0, 1], [0, 0]], bool)
    counted = np.array([[1, 1], [1, 1], [0, 1], [0, 0]], bool)
    batch = Transition(
        *(obs, jnp.asarray(action), jnp.asarray(reward), jnp.asarray(terminated), jnp.asarray(truncated), next_obs),
        policies.Sampled(jnp.asarray(action), jnp.nan),
    )
    learned = baseline == "value"
    if not learned:
        batch = batch._replace(weight=jnp.asarray(counted, jnp.float32))
    config = reinforce.Config(baseline=baseline, hidden=(4,))
    hp = reinforce.Hyperparams(gamma=0.5, max_grad_norm=1e9)
    nets = reinforce.build(config, Box(-9, 9, (3,)), Discrete(2))
    learner, context = reinforce.init_learner(nets, jax.random.key(0), hp), Context(progress=jnp.float32(0))

    @jax.jit
    def update(learner):
        return reinforce.update(config, nets, hp, context, learner, batch, jax.random.key(1))

    _, (scalars, _) = update(learner)

    value, v = (np.asarray(nets.value(learner.params, x)) for x in (obs, next_obs))
    target = np.zeros((4, 2))
    target[1, 0] = reward[1, 0]
    target[0, 0] = reward[0, 0] + 0.5 * target[1, 0]
    target[3] = reward[3] + 0.5 * v[3] * learned
    target[2, 0] = reward[2, 0] + 0.5 * target[3, 0]
    target[2, 1] = reward[2, 1] + 0.5 * v[2, 1] * learned  # cut by the time limit
    target[1, 1] = reward[1, 1] + 0.5 * target[2, 1]
    target[0, 1] = reward[0, 1] + 0.5 * target[1, 1]
    weight = np.ones((4, 2)) if learned else counted.astype(float)
    mean = (target * weight).sum() / weight.sum()
    advantage = target - {"none": 0.0, "mean": mean, "value": value}[baseline]
    log_prob = np.asarray(nets.policy(learner.params, obs).log_prob(jnp.asarray(action)))
    want = -(log_prob * advantage * weight).sum() / weight.sum()
    np.testing.assert_allclose(scalars["policy_loss"], want, rtol=1e-4, atol=1e-6)
    critic = (0.5 * (value - target) ** 2).mean() if learned else 0.0
    np.testing.assert_allclose(scalars["value_loss"], critic, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scalars["counted"], weight.mean())


@pytest.mark.parametrize("baseline", ["none", "mean"])
def test_whole_episodes_teach_without_a_learned_value(baseline, optimised):
    """The right action depends on the observation, and nothing else is ever learnt."""
    env = probes.DelayedActionReward(max_steps=2)
    params = env.default_params()

    agent = reinforce.make(
        env,
        reinforce.Config(baseline=baseline, num_envs=32, rollout_length=4, hidden=(16,), anneal_learning_rate=False),
    )
    hp = reinforce.Hyperparams(learning_rate=0.02, gamma=0.9, total_steps=1e6)

    @optimised
    def learn(key):
        start = agent.init(key, hp, params)
        state, metrics = jaxrl.run(agent, start, 200)
        played = jaxrl.evaluate(env, params, agent.policy(state), jax.random.key(1), 64, max_steps=3)
        return start.learner.params["critic"], state.learner.params["critic"], played.returns, metrics.scalars

    before, after, returns, scalars = learn(jax.random.key(3))
    np.testing.assert_allclose(returns.mean(), 1.0, atol=0.05)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert (np.asarray(scalars["counted"]) >= 0.5).all()


def test_rollouts_that_no_episode_fits():
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match=r"rollout_length=64 .* time limit, which is 500"):
        reinforce.make(env, reinforce.Config(baseline="mean"))


@pytest.mark.slow
def test_learns_cartpole_quickly(optimised):
    """A random policy has a return of 22."""
    env, params = envs.make("CartPole-v1")
    result = optimised(make_train(reinforce.make(env), env_steps=100_000, num_evals=1))(
        jax.random.key(1011), reinforce.Hyperparams(), params
    )
    assert float(result.evaluation.returns[-1].mean()) >= 150
