"""Tables of every tabular environment: well formed, and what `step` really does; environments made of tables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from envs import tabular
from envs.errors import InputError
from envs.gridworld import grid_world
from envs.tabular import State, Tables, Tabular

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

NAMES = [name for name in envs.names() if isinstance(envs.make(name)[0], Tabular)]


@functools.cache
def tables_of(name, **options):
    env, params = envs.make(name, **options)
    return jax.device_get(jit(env.tables)(params))


def everywhere(env, params, repeat):
    """Steps `repeat` times from every state by every action; the leaves are NumPy arrays [S, A, repeat, ...]."""
    states, actions = np.arange(env.num_states, dtype=np.int32), np.arange(env.action_space.n, dtype=np.int32)
    shape = len(states), len(actions), repeat

    @jit
    def run(key):
        step = jax.vmap(env.step, (0, 0, 0, None))
        places = np.broadcast_to(states[:, None, None], shape), np.broadcast_to(actions[None, :, None], shape)
        s, a = (jnp.asarray(place).reshape(-1) for place in places)
        out = step(jax.random.split(key, s.size), State(s), a, params)
        return jax.tree.map(lambda leaf: leaf.reshape(shape), (out.state.index, out.reward, out.terminated))

    return jax.device_get(run(jax.random.key(0)))


def p_value(env, params, repeat, tables):
    """Chi-square over the outcomes of all states and actions; fails where one happened that should be impossible."""
    index, reward, terminated = everywhere(env, params, repeat)
    # One number for each distinct (next state, reward, terminated).
    rewards = np.unique(np.concatenate([tables.reward.ravel(), reward.ravel()]))
    size = 2 * len(rewards)
    listed = tables.next_state * size + 2 * np.searchsorted(rewards, tables.reward) + tables.terminated
    seen = index * size + 2 * np.searchsorted(rewards, reward) + terminated
    statistic, freedom = 0.0, 0
    for s in range(env.num_states):
        for a in range(env.action_space.n):
            kinds = np.unique(listed[s, a])
            expected = repeat * np.array([tables.probability[s, a][listed[s, a] == kind].sum() for kind in kinds])
            observed = np.array([(seen[s, a] == kind).sum() for kind in kinds])
            assert observed.sum() == repeat, (s, a)
            assert not observed[expected == 0].any(), (s, a)
            possible = expected > 0
            statistic += ((observed - expected)[possible] ** 2 / expected[possible]).sum()
            freedom += possible.sum() - 1
    return stats.chi2.sf(statistic, freedom)


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_well_formed(name):
    env, params = envs.make(name)
    tables = tables_of(name)
    shape = tables.probability.shape
    assert shape[1] == env.action_space.n
    assert tables.start.shape == shape[:1]
    assert [part.shape for part in tables[1:4]] == [shape] * 3
    assert [part.dtype for part in tables] == [np.float32, np.int32, np.float32, np.bool_, np.float32]
    np.testing.assert_allclose(tables.probability.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(tables.start.sum(), 1, atol=1e-6)
    assert (tables.probability >= 0).all()
    assert (tables.start >= 0).all()
    assert (tables.next_state >= 0).all()
    assert (tables.next_state < shape[0]).all()
    if not jax.tree.leaves(params):
        return
    # Pure in the parameters: two worlds at once.
    many = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), params)
    assert jax.eval_shape(jax.vmap(env.tables), many).probability.shape == (2, *shape)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("FrozenLake-v1", {"desc": ("FS", "SG")}),
        ("Taxi-v4", {"fickle_passenger": True}),
        ("Blackjack-v1", {}),
        ("GridWorld-5x5", {}),
    ],
)
def test_resets_have_the_tables_probabilities(name, options):
    env, params = envs.make(name, **options)
    keys = jax.random.split(jax.random.key(0), 20_000)
    states = jit(lambda keys: jax.vmap(env.index)(jax.vmap(env.reset, (0, None))(keys, params)[1]))(keys)
    start = tables_of(name, **options).start
    counts = np.bincount(states, minlength=len(start))
    assert not counts[start == 0].any()
    assert fit(counts[start > 0], start[start > 0]) > 1e-3


@pytest.mark.parametrize(
    ("name", "options", "repeat"),
    [
        ("FrozenLake-v1", {"success_rate": 0.7, "reward_schedule": (2.0, -1.0, -0.5)}, 1000),
        ("CliffWalkingSlippery-v1", {}, 500),
        ("Taxi-v4", {"is_rainy": True, "fickle_passenger": True}, 60),
        ("Blackjack-v1", {"sab": False, "natural": True}, 200),
        ("WindyGridworldStochastic-v0", {}, 300),
        ("RandomWalk-5", {"right_prob": 0.3}, 5000),
    ],
)
def test_random_steps_have_the_tables_probabilities(name, options, repeat):
    env, params = envs.make(name, **options)
    assert p_value(env, params, repeat, tables_of(name, **options)) > 1e-3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("FrozenLake8x8-v1", {"is_slippery": False}),
        ("CliffWalking-v1", {}),
        ("Taxi-v4", {}),
        ("WindyGridworld-v0", {"moves": 9}),
        ("ShortcutMaze-v0", {}),
        ("ShortCorridor-v0", {}),
        ("ThreeState-v0", {}),
    ],
)
def test_certain_steps_are_the_tables_only_entry(name, options):
    env, params = envs.make(name, **options)
    tables = tables_of(name, **options)
    assert tables.probability.shape[2] == 1
    for stepped, listed in zip(everywhere(env, params, 1), tables[1:4], strict=True):
        np.testing.assert_array_equal(stepped, listed)


@pytest.mark.parametrize("name", ["GridWorld-4x4", "GridWorld-5x5"])
def test_grid_world(name):
    """By its own state; the values of the shortest ways are known."""
    env, params = envs.make(name)
    tables = tables_of(name)
    cells, actions = jnp.arange(env.rows * env.cols), jnp.arange(4)
    step = jit(jax.vmap(jax.vmap(env.step, (None, None, 0, None)), (None, 0, None, None)))
    out = jax.device_get(step(jax.random.key(0), grid_world.State(cells), actions, params))
    np.testing.assert_array_equal(out.obs[..., None], tables.next_state)
    np.testing.assert_array_equal(out.reward[..., None], tables.reward)
    np.testing.assert_array_equal(out.terminated[..., None], tables.terminated)
    values = optimal_values(tables, 0.9)
    for cell in range(len(cells) - 1):
        distance = 2 * (env.rows - 1) - sum(divmod(cell, env.cols))
        expected = 0.9 ** (distance - 1)
        if name == "GridWorld-5x5":
            expected = 10 * expected - (1 - expected) / 0.1
        assert values[cell] == pytest.approx(expected, abs=1e-5)
    assert tabular.reachable(tables).tolist() == [True] * (len(cells) - 1) + [False]


def optimal_values(tables, gamma):
    p, v = tables.probability.astype(np.float64), np.zeros(len(tables.start))
    for _ in range(2000):
        v = (p * (tables.reward + gamma * ~tables.terminated * v[tables.next_state])).sum(-1).max(-1)
    return v


def random_tables(rng, states=6, actions=3, outcomes=4):
    shape = states, actions, outcomes
    return Tables(
        probability=rng.dirichlet(np.ones(outcomes), shape[:2]).astype(np.float32),
        next_state=rng.integers(states, size=shape).astype(np.int32),
        reward=rng.normal(size=shape).astype(np.float32),
        terminated=rng.uniform(size=shape) < 0.2,
        start=rng.dirichlet(np.ones(states)).astype(np.float32),
    )


def test_dense_arrays_are_the_sums_of_the_outcomes():
    tables = random_tables(np.random.default_rng(3), 5, 2, 7)  # 7 outcomes in 5 states must coincide
    transition, continuation, reward = np.zeros((5, 2, 5)), np.zeros((5, 2, 5)), np.zeros((5, 2))
    for s, a, k in np.ndindex(5, 2, 7):
        p, following = tables.probability[s, a, k], tables.next_state[s, a, k]
        transition[s, a, following] += p
        continuation[s, a, following] += p * (not tables.terminated[s, a, k])
        reward[s, a] += p * tables.reward[s, a, k]
    for ours, expected in zip(dense(tables), (transition, continuation, reward), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@jit
def dense(tables):
    return tables.transition, tables.continuation, tables.expected_reward


def test_an_mdp_of_the_tables_of_an_environment_is_that_environment():
    original, _ = envs.make("FrozenLake-v1")
    tables = tables_of("FrozenLake-v1")
    env, params = tabular.mdp(tables, max_steps=100)
    assert env == tabular.MDP(16, 4, 3, max_steps=100)
    assert hash(env) == hash(tabular.MDP(16, 4, 3, max_steps=100))
    assert env.observation_space == original.observation_space
    assert env.action_space == original.action_space
    assert p_value(env, params, 1000, tables) > 1e-3
    picture = env.render(State(np.int32(5)), params)
    assert picture.shape == (160, 160, 3)
    assert picture[60, 60].tolist() == [60, 110, 200]  # the agent
    assert picture[60, 73].tolist() == [150, 150, 150]  # on a hole


def test_many_mdps_at_once():
    """Twenty worlds in one program: each lane follows its own tables, at the start and after."""
    rng, size = np.random.default_rng(0), 4000
    worlds = [random_tables(rng) for _ in range(20)]
    env, _ = tabular.mdp(worlds[0])

    @jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def start_and_step(keys, params):
        _, state = jax.vmap(env.reset, (0, None))(keys, params)
        return state.index, jax.vmap(env.step, (0, None, None, None))(keys, State(jnp.int32(2)), jnp.int32(1), params)

    many = jax.tree.map(lambda *leaves: np.stack(leaves), *worlds)
    start, out = jax.device_get(start_and_step(jax.random.split(jax.random.key(1), size), many))
    p = []
    for i, tables in enumerate(worlds):
        p.append(fit(np.bincount(start[i], minlength=6), tables.start))
        k = np.argmax(out.reward[i][:, None] == tables.reward[2, 1], -1)  # the rewards are all different
        p.append(fit(np.bincount(k, minlength=4), tables.probability[2, 1]))
        np.testing.assert_array_equal(out.reward[i], tables.reward[2, 1][k])
        np.testing.assert_array_equal(out.state.index[i], tables.next_state[2, 1][k])
        np.testing.assert_array_equal(out.terminated[i], tables.terminated[2, 1][k])
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def fit(counts, probability):
    """The p-value of counts under float32 probabilities."""
    probability = probability.astype(np.float64)
    return stats.chisquare(counts, counts.sum() * probability / probability.sum()).pvalue


def test_dense_arrays_become_tables():
    """The chain A → B → C of three states, C terminal: P, R and a vector of terminal states."""
    chain = np.zeros((3, 1, 3), np.float32)
    chain[[0, 1, 2], 0, [1, 2, 2]] = 1
    reward, terminal = np.array([[5.0], [2.0], [0.0]], np.float32), np.array([False, False, True])
    tables = jit(tabular.from_dense)(chain, reward, terminal)
    transition, continuation, expected = dense(tables)
    np.testing.assert_array_equal(transition, chain)
    np.testing.assert_array_equal(continuation[:, 0], [[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(expected, reward)
    np.testing.assert_array_equal(tables.start, [0.5, 0.5, 0])
    env, params = tabular.mdp(tables)
    index, reward, terminated = everywhere(env, params, 1)
    assert (index[1].item(), reward[1].item(), terminated[1].item()) == (2, 2, True)

    by_successor = np.zeros((3, 1, 3), np.float32)
    by_successor[0, 0] = [1, 2, 3]
    uniform, start = np.full((3, 1, 3), 1 / 3, np.float32), np.array([1.0, 0.0, 0.0], np.float32)
    tables = jit(tabular.from_dense)(uniform, by_successor, start=start)
    np.testing.assert_allclose(dense(tables)[2][:, 0], [2, 0, 0], atol=1e-6)
    assert not tables.terminated.any()
    np.testing.assert_array_equal(tables.start, start)


def test_draw():
    draws = jit(jax.vmap(tabular.draw, (0, None)))
    keys = jax.random.split(jax.random.key(0), 20_000)
    probability = np.array([0, 0.2, 0, 0.5, 0.3, 0], np.float32)
    counts = np.bincount(draws(keys, probability), minlength=6)
    assert not counts[[0, 2, 5]].any()
    assert stats.chisquare(counts[[1, 3, 4]], 20_000 * np.array([0.2, 0.5, 0.3])).pvalue > 0.01
    # What a rounded sum lacks to 1 falls to the last possible entry, never to an impossible one.
    counts = np.bincount(draws(keys, np.array([0.5, 0.4, 0], np.float32)), minlength=3)
    assert counts[2] == 0
    assert counts[1] / 20_000 == pytest.approx(0.5, abs=0.02)
    assert not draws(keys, np.ones(1, np.float32)).any()


@pytest.mark.parametrize(
    ("name", "states"),
    [("Taxi-v4", 400), ("FrozenLake-v1", 11), ("CliffWalking-v1", 37), ("RandomWalk-19", 19), ("DynaMaze-v0", 46)],
)
def test_reachable(name, states):
    """Taxi: Gymnasium's documentation counts 400. A wall, a hole, the cliff or a goal is no place to act in."""
    assert tabular.reachable(tables_of(name)).sum() == states


def test_bad_tables():
    good = random_tables(np.random.default_rng(0))
    tabular.mdp(good)
    wrong = good.probability.copy()
    wrong[2, 1] *= 1.1
    for change, message in [
        ({"probability": good.probability[0]}, r"probability has shape \(3, 4\)"),
        ({"reward": good.reward[:, :, :2]}, r"reward has shape \(6, 3, 2\), but probability has \(6, 3, 4\)"),
        ({"start": good.start[:3]}, "there are 6 states"),
        ({"probability": wrong}, r"probability must .* sums to 1.1 at \(2, 1\)"),
        ({"start": good.start - 0.5}, "start must not be negative"),
        ({"next_state": good.next_state + 1}, "next_state has the entry 6; states are 0 … 5"),
    ]:
        with pytest.raises(InputError, match=message):
            tabular.mdp(good._replace(**change))
    with pytest.raises(InputError, match="no default parameters"):
        tabular.MDP(2, 2, 2).default_params()
    with pytest.raises(InputError, match=r"transition has shape \(2, 1, 3\)"):
        tabular.from_dense(np.ones((2, 1, 3)), np.ones((2, 1)))
    with pytest.raises(InputError, match=r"reward has shape \(2,\)"):
        tabular.from_dense(np.ones((2, 1, 2)), np.ones(2))
    with pytest.raises(InputError, match="one entry for each state"):
        tabular.from_dense(np.ones((2, 1, 2)), np.ones((2, 1)), start=np.ones(3))
