"""Evolution strategies: the ranks against SciPy, the estimate by hand and against a known gradient, what is counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import rankdata

import envs
from envs import threefry
from envs.errors import InputError
from envs.spaces import Box
from jaxrl.agents import es
from jaxrl.train import make_train


@pytest.mark.parametrize("fitness", [[3.0, -1.0, 10.0, 2.0], [5.0, 5.0, 5.0, 5.0], [1.0, 7.0, 7.0, 0.0, 7.0, 1.0]])
def test_ranks_are_those_of_scipy_spread_around_zero(fitness):
    want = (rankdata(fitness) - 1) / (len(fitness) - 1) - 0.5
    np.testing.assert_allclose(es.centred_ranks(jnp.array(fitness)), want, atol=1e-6)


def learner(hp, params):
    return es.Learner(params, es.optimizer(hp).init(params))


def test_one_step_by_hand():
    """Returns 4, 1 up and 2, 3 down: ranks ½, −½, −1/6, 1/6; estimate (⅔ ε₁ − ⅔ ε₂) / (4σ), less the decay."""
    hp = es.Hyperparams(learning_rate=0.1, sigma=0.5, weight_decay=0.25)
    noise = jnp.array([[1.0, 2.0], [3.0, -1.0]])
    before = learner(hp, jnp.array([1.0, -4.0]))
    tried = es.perturbed(hp, before.params, noise)
    np.testing.assert_allclose(tried, [[1.5, -3.0], [2.5, -4.5], [0.5, -5.0], [-0.5, -3.5]])
    after, (scalars, _) = es.update(hp, before, es.Generation(noise, jnp.array([4.0, 1.0, 2.0, 3.0])))
    estimate = (2 / 3) * np.array([1.0 - 3.0, 2.0 + 1.0]) / (4 * 0.5)
    np.testing.assert_allclose(scalars["grad_norm"], np.linalg.norm(estimate), rtol=1e-5)
    descent = -estimate + 0.25 * np.array([1.0, -4.0])
    np.testing.assert_allclose(after.opt_state[1][0].mu, 0.1 * descent, rtol=1e-5)  # what Adam was given
    np.testing.assert_allclose(after.params, np.array([1.0, -4.0]) - 0.1 * np.sign(descent), rtol=1e-5)


def test_the_estimate_points_where_the_gradient_does():
    """Of F = −|θ − c|² in 20 dimensions with 1,000 pairs; ranks change the length, not the direction."""
    hp = es.Hyperparams(sigma=0.05, weight_decay=0.0)
    goal, theta = jnp.linspace(-1.0, 2.0, 20), jnp.zeros(20)

    @jax.jit
    def estimated(key):
        noise = jax.random.normal(key, (1000, 20))
        fitness = -jnp.square(es.perturbed(hp, theta, noise) - goal).sum(-1)
        after, _ = es.update(hp, learner(hp, theta), es.Generation(noise, fitness))
        return -after.opt_state[1][0].mu

    estimate, gradient = np.asarray(estimated(jax.random.key(0))), 2 * np.asarray(goal)
    assert estimate @ gradient / (np.linalg.norm(estimate) * np.linalg.norm(gradient)) > 0.98


def test_whole_episodes_are_counted_once_and_every_step_is():
    """One generation in CartPole: each member's own episode played alone has the fitness that it was given."""
    env, params = envs.make("CartPole-v1")
    agent = es.make(env, es.Config(population=4, episodes=2, horizon=30, hidden=(8,)))
    assert agent.steps_per_iteration == 4 * 2 * 30
    hp = es.Hyperparams(sigma=1.0)
    net = es.build(agent.config, env.observation_space, env.action_space)

    @jax.jit
    def one_generation(key):
        before = agent.init(key, hp, params)
        _, key_noise, key_start, _ = threefry.spawn(before.key, 4)  # as the agent does
        size = sum(leaf.size for leaf in jax.tree.leaves(before.learner.params))
        members = es.perturbed(hp, before.learner.params, jax.random.normal(key_noise, (2, size)))
        starts = [env.reset(key, params) for key in threefry.consecutive(key_start, 2)]
        return agent.step(before)[1], members, starts

    @jax.jit
    def move(member, obs, state):
        return env.step(jax.random.key(0), state, net.apply(member, obs), params)

    metrics, members, starts = one_generation(jax.random.key(6))
    results, finished = [], []
    for i in range(4):
        member = jax.tree.map(lambda x, i=i: x[i], members)
        for obs, state in starts:
            length, terminated = 0, False
            while length < 30 and not terminated:
                obs, state, _, terminated, *_ = move(member, obs, state)
                length += 1
            results.append(length)
            finished += [length] * bool(terminated)
    assert len(set(results)) >= 3
    assert 0 < len(finished) < 8  # some are cut by the horizon
    np.testing.assert_allclose(metrics.scalars["fitness_mean"], np.mean(results))
    np.testing.assert_allclose(metrics.scalars["fitness_std"], np.reshape(results, (4, 2)).mean(1).std(), rtol=1e-5)
    assert tuple(map(int, metrics.episodes[:3])) == (sum(finished), sum(finished), len(finished))


@pytest.mark.parametrize("population", [0, 7])
def test_populations_come_in_pairs(population):
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match=f"population={population} must be (even|at least 1)"):
        es.make(env, es.Config(population=population))


def test_an_episode_without_end_needs_a_horizon():
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match="CartPole has no time limit: give a horizon"):
        es.make(env.replace(max_steps=None))


def test_continuous_actions_stay_in_the_box():
    net = es.build(es.Config(hidden=(4,)), Box(-1, 1, (3,)), Box(-2, 3, (2,)))
    params = jax.tree.map(lambda x: 100 * x, jax.jit(net.init)(jax.random.key(0)))
    action = net.apply(params, jax.random.normal(jax.random.key(1), (50, 3)))
    assert action.shape == (50, 2)
    assert float(action.min()) == -2.0
    assert float(action.max()) == 3.0


@pytest.mark.slow
def test_learns_cartpole(optimised):
    """Forty generations; a random policy has 22."""
    env, params = envs.make("CartPole-v1")
    train = make_train(es.make(env), env_steps=40 * 32_000, num_evals=1)
    result = optimised(train)(jax.random.key(1000), es.Hyperparams(), params)
    assert float(result.evaluation.returns.mean()) >= 475
