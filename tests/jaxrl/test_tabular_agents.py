"""Updates of the tabular agents worked by hand, and their tables against dynamic programming."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs.errors import InputError
from jaxrl import exploration
from jaxrl.agents import bandit, dyna_q, monte_carlo, n_step_sarsa, q_learning, sarsa, sarsa_lambda
from jaxrl.agents.tabular import tables
from jaxrl.agents.tabular.chosen_ahead import Ahead
from jaxrl.planners import dynamic_programming as dp
from jaxrl.types import Context, Transition

Q = jnp.array([[1.0, 2.0], [3.0, 5.0], [0.5, 0.25]])
NONE = jnp.int32(0)  # episodes
START = Context(progress=jnp.float32(0.0))


def transitions(obs, action, reward, next_obs, terminated=None, truncated=None, extras=()):
    """Arrays of any shape; flags are False unless given."""
    obs = jnp.array(obs)
    no = jnp.zeros(obs.shape, bool)
    flags = [no if flag is None else jnp.array(flag) for flag in (terminated, truncated)]
    return Transition(obs, jnp.array(action), jnp.array(reward, jnp.float32), *flags, jnp.array(next_obs), extras)


def test_sarsa_takes_the_action_that_follows():
    hp = sarsa.Hyperparams(gamma=0.9, learning_rate=0.5)
    before = sarsa.Learner(Q, NONE)
    ahead = Ahead(jnp.array([0]), jnp.array([[0.25, 0.75]]))
    batch = transitions([0], [1], [1.0], [1], extras=ahead)
    learner, _ = sarsa.update(sarsa.Config(), hp, START, before, batch)
    np.testing.assert_allclose(learner.q, Q.at[0, 1].set(2 + 0.5 * (1 + 0.9 * 3 - 2)))
    assert learner.episodes == 0
    learner, _ = sarsa.update(sarsa.Config(expected=True), hp, START, before, batch)
    np.testing.assert_allclose(learner.q[0, 1], 2 + 0.5 * (1 + 0.9 * 4.5 - 2), rtol=1e-6)
    ending = batch._replace(terminated=jnp.array([True]))
    learner, _ = sarsa.update(sarsa.Config(), hp, START, before, ending)
    np.testing.assert_allclose(learner.q[0, 1], 2 + 0.5 * (1 - 2))
    assert learner.episodes == 1


def test_the_count_of_episodes_stops_instead_of_wrapping():
    most = np.iinfo(np.int32).max
    flags = jnp.array([True, True, False])
    batch = Transition(flags, flags, jnp.zeros(3), flags, ~flags, flags)
    for before, after in ((5, 8), (most - 3, most), (most - 1, most), (most, most)):
        assert tables.finished(jnp.int32(before), batch) == after


def test_rates_of_the_moment():
    """α falls linearly over the run; ε does over a part of it, or by a factor with every episode, down to its end."""
    hp = tables.Hyperparams(
        learning_rate=0.4, learning_rate_decay=0.5, epsilon_start=1.0, epsilon_end=0.2, epsilon_decay=0.5
    )
    for progress, rate, epsilon in ((0.0, 0.4, 1.0), (0.25, 0.35, 0.6), (0.5, 0.3, 0.2), (1.0, 0.2, 0.2)):
        context = Context(progress=jnp.float32(progress))
        np.testing.assert_allclose(tables.learning_rate(hp, context), rate, rtol=1e-6)
        np.testing.assert_allclose(tables.epsilon(tables.Config(), hp, context, jnp.int32(9)), epsilon, rtol=1e-6)
    per_episode = tables.Config(epsilon_schedule="per_episode")
    for episodes, epsilon in ((0, 1.0), (1, 0.5), (2, 0.25), (3, 0.2)):
        np.testing.assert_allclose(tables.epsilon(per_episode, hp, Context(), jnp.int32(episodes)), epsilon, rtol=1e-6)


@pytest.mark.parametrize("module", [q_learning, sarsa, sarsa_lambda, n_step_sarsa, monte_carlo])
def test_epsilon_falls_with_every_episode(module):
    """As many halvings as episodes ended, whichever way: two steps long each, of two environments side by side."""
    env, params = envs.make("GridWorld-4x4", max_steps=2)
    sizes = {"rollout_length": 1} if module is monte_carlo else {"steps_per_iteration": 1}
    agent = module.make(env, module.Config(num_envs=2, epsilon_schedule="per_episode", **sizes))
    hp = module.Hyperparams(epsilon_start=1.0, epsilon_end=0.01, epsilon_decay=0.5, total_steps=1e3)
    _, metrics = jax.jit(lambda key: jaxrl.run(agent, agent.init(key, hp, params), 5))(jax.random.key(0))
    np.testing.assert_allclose(metrics.scalars["epsilon"], [1.0, 1.0, 0.25, 0.25, 0.0625])


def test_double_q_learning_values_with_the_other_table():
    """The table that learns picks a' = its own best; the other one says what that is worth."""
    q = jnp.stack([Q, jnp.flip(Q, 1)])
    hp = q_learning.Hyperparams(gamma=0.9, learning_rate=0.5)
    batch = transitions([0], [1], [1.0], [1])
    seen = set()
    for seed in range(8):
        learner, _ = q_learning.update(
            q_learning.Config(double=True), hp, START, q_learning.Learner(q, NONE), batch, jax.random.key(seed)
        )
        changed = np.nonzero(np.asarray(learner.q != q))
        assert [len(x) for x in changed] == [1, 1, 1]
        which = int(changed[0][0])
        seen.add(which)
        best = int(q[which, 1].argmax())
        want = q[which, 0, 1] + 0.5 * (1 + 0.9 * q[1 - which, 1, best] - q[which, 0, 1])
        np.testing.assert_allclose(learner.q[which, 0, 1], want, rtol=1e-6)
    assert seen == {0, 1}


@pytest.mark.parametrize(
    ("config", "terminated", "truncated", "want"),
    [
        ({}, [0, 0, 0], [0, 0, 0], 1 + 0.9 * (2 + 0.9 * (4 + 0.9 * 0.25))),  # Q(2, 1) at the end
        ({}, [0, 1, 0], [0, 0, 0], 1 + 0.9 * 2),  # the third belongs to another episode
        ({}, [0, 0, 0], [0, 1, 0], 1 + 0.9 * (2 + 0.9 * 3.0)),  # cut: Q(1, 0) of the true successor
        # π is greedy: at step 1 it would have taken action 1 of state 1 (5), the agent took 0, so nothing follows.
        ({"tree_backup": True}, [0, 0, 0], [0, 0, 0], 1 + 0.9 * (2 + 0.9 * 5)),
    ],
)  # fmt: skip
def test_n_step_sarsa(config, terminated, truncated, want):
    """Three steps 0 → 2 → 1 → 2 with rewards 1, 2, 4; the actions chosen in the successors are 0, 0, 1."""
    config = n_step_sarsa.Config(n=3, **config)
    hp = n_step_sarsa.Hyperparams(gamma=0.9, learning_rate=0.5)
    learner = n_step_sarsa.init_learner(config, Q.shape, hp)._replace(q=Q)
    columns = [0, 2, 1], [1, 0, 0], [1.0, 2.0, 4.0], [2, 1, 2], np.array(terminated, bool), np.array(truncated, bool)
    for t, following in enumerate([0, 0, 1]):
        np.testing.assert_array_equal(learner.q, Q)  # until the window is full
        ahead = Ahead(jnp.array([following]), jnp.full((1, 2), 0.5))
        batch = transitions(*(np.array(column)[t, None] for column in columns), extras=ahead)
        learner, _ = n_step_sarsa.update(config, hp, START, learner, batch)
    np.testing.assert_allclose(learner.q, Q.at[0, 1].set(2 + 0.5 * (want - 2)), rtol=1e-6)
    assert learner.episodes == sum(terminated) + sum(truncated)


@pytest.mark.parametrize("trace", ["accumulating", "replacing", "dutch"])
@pytest.mark.parametrize("off_policy", [False, True])
def test_sarsa_lambda_against_a_plain_loop(trace, off_policy):
    """Two environments, ten steps with repeated pairs and both kinds of ending, in the book's pseudo-code."""
    rng = np.random.default_rng(0)
    steps, lanes, gamma, lam, alpha = 10, 2, 0.9, 0.8, 0.1
    obs, next_obs = rng.integers(3, size=(2, steps, lanes))
    action, following = rng.integers(2, size=(2, steps, lanes))
    reward = rng.normal(size=(steps, lanes)).astype(np.float32)
    terminated, truncated = rng.random((2, steps, lanes)) < 0.2
    config = sarsa_lambda.Config(num_envs=lanes, trace=trace, off_policy=off_policy)
    hp = sarsa_lambda.Hyperparams(gamma=gamma, trace_lambda=lam, learning_rate=alpha)
    learner = sarsa_lambda.Learner(Q, jnp.zeros((lanes, 3, 2)), NONE)
    q, e = np.array(Q, float), np.zeros((lanes, 3, 2))
    for t in range(steps):
        ahead = Ahead(jnp.array(following[t]), jnp.full((lanes, 2), 0.5))
        batch = transitions(obs[t], action[t], reward[t], next_obs[t], terminated[t], truncated[t], ahead)
        learner, _ = sarsa_lambda.update(config, hp, START, learner, batch)
        change = np.zeros_like(q)
        for b in range(lanes):
            s, a, s2, a2 = obs[t, b], action[t, b], next_obs[t, b], following[t, b]
            value = q[s2].max() if off_policy else q[s2, a2]
            delta = reward[t, b] + gamma * (not terminated[t, b]) * value - q[s, a]
            raised = {"accumulating": e[b, s, a] + 1, "replacing": 1.0, "dutch": (1 - alpha) * e[b, s, a] + 1}[trace]
            e[b, s, a] = raised
            change += alpha * delta * e[b]
            goes_on = not (terminated[t, b] or truncated[t, b]) and (not off_policy or q[s2, a2] == q[s2].max())
            e[b] = gamma * lam * e[b] if goes_on else 0
        q += change
        np.testing.assert_allclose(learner.q, q, rtol=2e-5, atol=1e-5)
        np.testing.assert_allclose(learner.trace, e, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("first_visit", [True, False])
def test_monte_carlo_returns(first_visit):
    """(0, 1) twice in one episode with rewards 1, 2, 4 and γ = 0.5: returns 3 and 4; then once more, return 10."""
    batch = transitions(
        [[0], [1], [0], [0]],
        [[1], [0], [1], [1]],
        [[1.0], [2.0], [4.0], [10.0]],
        [[1], [0], [2], [2]],
        [[False], [False], [True], [True]],
    )
    config = monte_carlo.Config(first_visit=first_visit)
    hp = monte_carlo.Hyperparams(gamma=0.5)
    before = monte_carlo.Learner(Q, jnp.zeros_like(Q).at[0, 1].set(2.0), NONE)
    learner, _ = monte_carlo.update(config, hp, START, before, batch)
    returns = [3.0, 10.0] if first_visit else [3.0, 4.0, 10.0]
    np.testing.assert_allclose(learner.q[0, 1], (2 * 2.0 + sum(returns)) / (2 + len(returns)), rtol=1e-6)
    np.testing.assert_allclose(learner.q[1, 0], 4.0)  # 2 + 0.5 · 4, its first return
    np.testing.assert_array_equal(learner.visits, [[0, 2 + len(returns)], [1, 0], [0, 0]])
    assert learner.episodes == 2


def test_monte_carlo_bootstraps_where_the_time_limit_cuts():
    batch = transitions([[0], [1]], [[1], [0]], [[1.0], [2.0]], [[1], [2]], None, [[True], [False]])
    config = monte_carlo.Config(sample_average=False)
    hp = monte_carlo.Hyperparams(gamma=0.5, learning_rate=1.0)
    learner, _ = monte_carlo.update(config, hp, START, monte_carlo.Learner(Q, jnp.zeros_like(Q), NONE), batch)
    np.testing.assert_allclose(learner.q[0, 1], 1 + 0.5 * 5.0)  # the best of state 1, not the next step's reward
    np.testing.assert_allclose(learner.q[1, 0], 2 + 0.5 * 0.5)  # the end of the stretch


def test_monte_carlo_with_a_constant_step_size_cannot_overshoot():
    """A hundred visits in one stretch with α = 0.5 end at the mean return, not 50 errors beyond it."""
    batch = transitions(*(np.full((100, 1), x) for x in (0, 1, 4.0, 2)), np.full((100, 1), True))
    config = monte_carlo.Config(sample_average=False)
    hp = monte_carlo.Hyperparams(learning_rate=0.5)
    learner, _ = monte_carlo.update(config, hp, START, monte_carlo.Learner(Q, jnp.zeros_like(Q), NONE), batch)
    np.testing.assert_allclose(learner.q, Q.at[0, 1].set(4.0), rtol=1e-6)


def empty_model(q):
    """A Dyna learner that knows nothing."""
    return dyna_q.init_learner(q.shape, dyna_q.Hyperparams())._replace(q=q)


def test_dyna_plans_with_what_it_saw():
    """One pair was seen, so every planning step repeats it: after k updates the error is (1 − α)^k of the first."""
    hp = dyna_q.Hyperparams(learning_rate=0.5, gamma=0.9)
    batch = transitions([0], [1], [1.0], [2], [True])
    for count in (0, 1, 3):
        learner, _ = dyna_q.update(
            dyna_q.Config(planning_steps=count), hp, Context(), empty_model(Q), batch, jax.random.key(0)
        )
        np.testing.assert_allclose(learner.q, Q.at[0, 1].set(1 + (2 - 1) * 0.5 ** (count + 1)), rtol=1e-6)
    assert learner.seen.sum() == 1
    assert learner.next_obs[0, 1] == 2


def test_dyna_plus_pays_for_what_was_not_tried():
    """Of state 0, action 0 was never tried: it leads back to 0 for κ √τ."""
    hp = dyna_q.Hyperparams(learning_rate=1.0, gamma=0.0, bonus=0.1)
    config = dyna_q.Config(planning_steps=20, exploration_bonus=True)
    learner = empty_model(jnp.zeros_like(Q))._replace(steps=jnp.int32(8))
    batch = transitions([0], [1], [1.0], [2], [True])
    learner, _ = dyna_q.update(config, hp, Context(), learner, batch, jax.random.key(0))
    np.testing.assert_allclose(learner.q[0], [0.1 * np.sqrt(9), 1.0], rtol=1e-6)
    assert (learner.q[1:] == 0).all()


def test_prioritised_sweeping_goes_backwards_from_the_surprise():
    """A corridor 0 → 1 → 2 → end walked three times for nothing; then the end pays, and each sweep moves one back."""
    hp = dyna_q.Hyperparams(learning_rate=1.0, gamma=0.5)
    q = jnp.zeros((3, 2))

    def walk(config, learner, reward):
        for s in range(3):
            batch = transitions([s], [1], [reward if s == 2 else 0.0], [min(s + 1, 2)], [s == 2])
            learner, _ = dyna_q.update(config, hp, Context(), learner, batch, jax.random.key(s))
        return learner

    known = walk(dyna_q.Config(prioritized=True, planning_steps=0), empty_model(q), 0.0)
    assert (known.q == 0).all()
    for sweeps, want in ((0, [0, 0, 1]), (2, [0, 0.5, 1]), (3, [0.25, 0.5, 1])):
        config = dyna_q.Config(prioritized=True, planning_steps=sweeps)
        learner = walk(config, known, 1.0)
        np.testing.assert_allclose(learner.q[:, 1], want)


def test_bandit_updates():
    learner = bandit.Learner(Q, jnp.array([[1.0, 3.0], [0.0, 0.0], [0.0, 0.0]]), jnp.array([2.0, 0.0, 0.0]))
    batch = transitions([0], [1], [6.0], [0], [True])

    def updated(learning_rate=0.1, **config):
        hp = bandit.Hyperparams(learning_rate=learning_rate)
        return bandit.update(bandit.Config(**config), hp, Context(), learner, batch)[0]

    np.testing.assert_allclose(updated().q, Q.at[0, 1].set(2 + (6 - 2) / 4))
    constant = updated(0.5, sample_average=False)
    np.testing.assert_allclose(constant.q, Q.at[0, 1].set(4.0))
    # gradient: r̄ becomes 2 + 4/5 = 2.8; π = softmax(1, 2)
    pushed = updated(0.5, method="gradient")
    pi = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(pushed.mean_reward[0], 2.8, rtol=1e-6)
    np.testing.assert_allclose(pushed.q[0], [1 - 0.5 * 3.2 * (1 - pi), 2 + 0.5 * 3.2 * (1 - pi)], rtol=1e-6)
    np.testing.assert_array_equal(pushed.q[1:], Q[1:])


def test_draws_follow_the_distribution():
    probability = jnp.array([0.0, 0.2, 0.5, 0.3, 0.0])
    drawn = exploration.draw(jax.random.key(0), jnp.broadcast_to(probability, (20_000, 5)))
    counts = np.bincount(drawn, minlength=5) / 20_000
    assert counts[0] == counts[4] == 0
    np.testing.assert_allclose(counts, probability, atol=4 * np.sqrt(0.25 / 20_000))
    with_ties = exploration.epsilon_greedy_probabilities(jnp.array([1.0, 3.0, 3.0, 0.0]), 0.2)
    np.testing.assert_allclose(with_ties, [0.05, 0.45, 0.45, 0.05], rtol=1e-6)


LEARNERS = {
    "q_learning": (q_learning, {}, {}),
    "double": (q_learning, {"double": True}, {}),
    "expected_sarsa": (sarsa, {"expected": True}, {"epsilon_end": 0.0, "epsilon_fraction": 0.9}),
    "tree_backup": (n_step_sarsa, {"tree_backup": True, "n": 3}, {}),
    "watkins": (sarsa_lambda, {"off_policy": True, "trace": "replacing"}, {"trace_lambda": 0.5}),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("tree_backup", "watkins") else name for name in LEARNERS],
)
def test_tables_converge_to_the_optimal_values_of_frozen_lake(name, optimised):
    """Slippery 4×4: the greedy policy's exact value from the start within 2 % of the best, in every seed."""
    module, config, hp = LEARNERS[name]
    env, params = envs.make("FrozenLake-v1", max_steps=None)
    tables = env.tables(params)
    model = tables.continuation, tables.expected_reward, 0.95
    best = dp.value_iteration(*model)
    agent = module.make(env, module.Config(num_envs=8, steps_per_iteration=500, **config))
    settings = {"learning_rate": 0.1, "learning_rate_decay": 1.0, "gamma": 0.95, "epsilon_start": 1.0}
    hyper = module.Hyperparams(**{**settings, "epsilon_end": 0.5, "total_steps": 400_000.0, **hp})
    finish = optimised(jax.vmap(lambda key: jaxrl.run(agent, agent.init(key, hyper, params), 100)[0].learner))
    learner = finish(jax.vmap(jax.random.key)(jnp.arange(4)))
    q = learner.q.mean(1) if name == "double" else learner.q
    for lane in range(4):
        achieved = dp.solve_policy(*model, q[lane].argmax(-1))
        assert achieved[0] > 0.98 * best.values[0], (achieved[0], best.values[0])
        if name != "expected_sarsa":  # which learns the values of its own policy
            visited = np.asarray(best.values) > 0
            np.testing.assert_allclose(q[lane].max(-1)[visited], best.values[visited], atol=0.05)


def test_sarsa_keeps_away_from_the_cliff():
    """Example 6.6: with ε = 0.1 Q-learning walks along the edge and Sarsa the safe way, as their returns show."""
    env, params = envs.make("CliffWalking-v1")
    returns = {}
    for module in (q_learning, sarsa):
        agent = module.make(env, module.Config(steps_per_iteration=200))
        hyper = module.Hyperparams(learning_rate=0.5, gamma=1.0, total_steps=1e5)

        def learn(key, agent=agent, hyper=hyper):
            state, _ = jaxrl.run(agent, agent.init(key, hyper, params), 50)
            state, metrics = jaxrl.run(agent, state, 50)
            played = jaxrl.evaluate(env, params, agent.policy(state), jax.random.key(0), 1, max_steps=100)
            return metrics.episodes.return_sum.sum() / metrics.episodes.count.sum(), played.returns[0]

        returns[module] = jax.jit(jax.vmap(learn))(jax.vmap(jax.random.key)(jnp.arange(16)))
    assert returns[sarsa][0].mean() > returns[q_learning][0].mean() + 10
    assert np.median(returns[q_learning][1]) == -13.0  # greedily along the edge
    assert np.median(returns[sarsa][1]) < -13.0


@pytest.mark.parametrize("module", [sarsa, sarsa_lambda, n_step_sarsa, monte_carlo, dyna_q, bandit])
def test_need_discrete_observations(module):
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match=f"{module.__name__.rpartition('.')[2]} needs a Discrete observation space"):
        module.make(env)


def test_impossible_sizes():
    env, _ = envs.make("GridWorld-4x4")
    with pytest.raises(InputError, match="n=0"):
        n_step_sarsa.make(env, n_step_sarsa.Config(n=0))
    with pytest.raises(InputError, match="planning_steps=-1"):
        dyna_q.make(env, dyna_q.Config(planning_steps=-1))
    with pytest.raises(InputError, match="monte_carlo has a table of Discrete observations"):
        monte_carlo.make(env, monte_carlo.Config(normalize_obs=True))
