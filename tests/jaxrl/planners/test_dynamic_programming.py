"""Dynamic programming against NumPy's linear solver in float64, and against values known from books."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError
from jaxrl.planners import dynamic_programming as dp

NUM, STATES, ACTIONS = 100, 12, 3


@pytest.fixture(scope="module")
def mdps():
    """100 random MDPs, half of whose rows may end the episode, each with its own γ; float64."""
    rng = np.random.default_rng(0)
    transition = rng.dirichlet(np.full(STATES, 0.3), (NUM, STATES, ACTIONS))
    transition *= np.where(rng.random((NUM, STATES, ACTIONS, 1)) < 0.5, 1.0, rng.random((NUM, STATES, ACTIONS, 1)))
    reward = rng.normal(size=(NUM, STATES, ACTIONS))
    return transition, reward, rng.uniform(0.0, 0.95, NUM)


def values_of(transition, reward, gamma, policy):
    """NumPy's answer for one MDP and a deterministic policy."""
    rows = np.arange(len(reward))
    return np.linalg.solve(np.eye(len(reward)) - gamma * transition[rows, policy], reward[rows, policy])


@pytest.mark.parametrize(
    "method",
    [
        functools.partial(dp.value_iteration, tolerance=1e-9),
        dp.policy_iteration,
        functools.partial(dp.modified_policy_iteration, sweeps=5, tolerance=1e-9),
    ],
    ids=["value", "policy", "modified"],
)
def test_optimal_values_of_100_random_mdps(mdps, method):
    with jax.enable_x64():
        solution = jax.device_get(jax.jit(jax.vmap(method))(*mdps))
    for i, (transition, reward, gamma) in enumerate(zip(*mdps, strict=True)):
        exact = values_of(transition, reward, gamma, solution.policy[i])
        np.testing.assert_allclose(solution.values[i], exact, atol=1e-6)
        # No action is better anywhere: by the policy improvement theorem the policy is optimal.
        q = reward + gamma * transition @ exact
        np.testing.assert_allclose(q.max(-1), exact, atol=1e-9)
        np.testing.assert_allclose(solution.action_values[i], q, atol=1e-6)
        assert solution.residual[i] < 1e-8
    assert solution.iterations.max() > 1


def test_policy_evaluation_two_ways(mdps):
    rng = np.random.default_rng(1)
    policy = rng.dirichlet(np.ones(ACTIONS), (NUM, STATES))
    with jax.enable_x64():
        iterated = jax.jit(jax.vmap(functools.partial(dp.evaluate_policy, tolerance=1e-10)))(*mdps, policy)
        solved = jax.jit(jax.vmap(dp.solve_policy))(*mdps, policy)
        iterated, solved = jax.device_get((iterated, solved))
    for i, (transition, reward, gamma) in enumerate(zip(*mdps, strict=True)):
        chain = np.einsum("sa,sat->st", policy[i], transition)
        exact = np.linalg.solve(np.eye(STATES) - gamma * chain, (policy[i] * reward).sum(-1))
        np.testing.assert_allclose(solved[i], exact, atol=1e-10)
        np.testing.assert_allclose(iterated.values[i], exact, atol=1e-7)
    assert (iterated.residual < 1e-9).all()


def test_the_number_of_sweeps_follows_the_discount(mdps):
    """Value iteration contracts by γ: from a first move of at most max|r| it needs log(tol)/log(γ) sweeps."""
    transition, reward, _ = (x[0] for x in mdps)
    transition = transition / transition.sum(-1, keepdims=True)
    gammas = np.array([0.0, 0.5, 0.9, 0.99])
    with jax.enable_x64():
        solve = jax.vmap(functools.partial(dp.value_iteration, tolerance=1e-6), (None, None, 0))
        iterations = np.asarray(jax.jit(solve)(transition, reward, gammas).iterations)
    assert iterations[0] == 2  # one to get there, one to see that nothing moves
    bound = np.log(1e-6 / np.abs(reward).max()) / np.log(gammas[1:]) + 2
    assert (iterations[1:] <= bound).all()
    assert (np.diff(iterations) > 0).all()


def test_float32_is_enough_for_five_digits(mdps):
    transition, reward, gamma = (np.float32(x[:4]) for x in mdps)
    solution = jax.jit(jax.vmap(dp.policy_iteration))(transition, reward, gamma)
    assert solution.values.dtype == jnp.float32
    for i in range(4):
        exact = values_of(transition[i].astype(float), reward[i].astype(float), gamma[i], solution.policy[i])
        np.testing.assert_allclose(solution.values[i], exact, rtol=2e-5, atol=2e-5)


def test_backward_induction_is_a_search_over_all_sequences(mdps):
    """Three steps of a deterministic MDP by brute force."""
    rng = np.random.default_rng(2)
    following = rng.integers(0, STATES, (STATES, ACTIONS))
    transition = np.float32(following[..., None] == np.arange(STATES))
    reward = np.float32(rng.normal(size=(STATES, ACTIONS)))
    final = np.float32(rng.normal(size=STATES))

    def best(state, left):
        if left == 0:
            return final[state]
        return max(reward[state, a] + 0.9 * best(following[state, a], left - 1) for a in range(ACTIONS))

    plan = dp.backward_induction(transition, reward, 3, 0.9, final)
    for t in range(4):
        np.testing.assert_allclose(plan.values[t], [best(s, 3 - t) for s in range(STATES)], rtol=1e-5)
    q = reward + 0.9 * plan.values[1][following]
    np.testing.assert_array_equal(plan.policy[0], q.argmax(-1))


def solve(name, gamma, **options):
    env, params = envs.make(name, **options)
    tables = env.tables(params)
    return tables, dp.value_iteration(tables.continuation, tables.expected_reward, gamma, 1e-7)


def test_grid_world_values_are_discounted_distances():
    tables, solution = solve("GridWorld-4x4", 0.9)
    row, col = np.divmod(np.arange(16), 4)
    steps = 6 - row - col
    np.testing.assert_allclose(solution.values[:15], 0.9 ** (steps[:15] - 1), rtol=1e-5)
    assert tables.start[0] == 1


def test_frozen_lake():
    """Optimal success rates: within 100 steps 0.7442 with a policy that knows the time, 14/17 without a limit."""
    tables, solution = solve("FrozenLake-v1", 1.0)
    np.testing.assert_allclose(solution.values[0], 14 / 17, atol=1e-4)
    plan = dp.backward_induction(tables.continuation, tables.expected_reward, 100)
    np.testing.assert_allclose(plan.values[0, 0], 0.7442, atol=5e-5)


def test_bad_input_is_explained():
    with pytest.raises(InputError, match=r"transition \(3, 2, 4\) and reward \(3, 2\)"):
        dp.value_iteration(jnp.zeros((3, 2, 4)), jnp.zeros((3, 2)), 0.9)
    with pytest.raises(InputError, match=r"policy has shape \(2,\)"):
        dp.solve_policy(jnp.zeros((3, 2, 3)), jnp.zeros((3, 2)), 0.9, jnp.zeros(2, jnp.int32))
    with pytest.raises(InputError, match="horizon=0"):
        dp.backward_induction(jnp.zeros((3, 2, 3)), jnp.zeros((3, 2)), 0)
    with pytest.raises(InputError, match="sweeps=-1"):
        dp.modified_policy_iteration(jnp.zeros((3, 2, 3)), jnp.zeros((3, 2)), 0.9, -1)
