"""Costs beside the reward: through the clock, through the wrappers, and not at all where there are none."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import episode, probes, wrappers
from envs.base import Env, Step
from envs.probes import ActionCost, CostTimeLimit
from envs.spaces import Box, Discrete
from envs.wrappers import Range

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
jitted = jit(episode.step, static_argnums=0)


class Walked(NamedTuple):
    steps: jax.Array
    offset: jax.Array


class Toll(NamedTuple):
    toll: float = 0.5
    end: int = 3  # terminates at this step


@dataclasses.dataclass(frozen=True)
class TollRoad(Env[Walked, Toll]):
    """Two costs: the number of the step, and the toll times the action. The reward is 1."""

    @property
    def random_step(self):
        return False

    @property
    def num_costs(self):
        return 2

    @property
    def observation_space(self):
        return Box(0.0, np.inf, (1,))

    @property
    def action_space(self):
        return Discrete(4)

    def default_params(self):
        return Toll()

    def reset(self, key, params):
        state = Walked(jnp.int32(0), jax.random.uniform(key))
        return state.offset[None], state

    def step(self, key, state, action, params):
        new = state._replace(steps=state.steps + 1)
        cost = jnp.stack([new.steps.astype(jnp.float32), jnp.float32(params.toll * action)])
        return Step(new.offset[None], new, jnp.float32(1), new.steps >= params.end, {}, cost=cost)


def play(env, params, actions, num_envs=3):
    """Steps every environment by the same actions: a list of (before, time step, after)."""
    state = episode.reset(env, params, jax.random.key(0), num_envs)
    log = []
    for k, action in zip(jax.random.split(jax.random.key(1), len(actions)), actions, strict=True):
        following, ts = jitted(env, params, k, state, jnp.broadcast_to(jnp.asarray(action, jnp.int32), (num_envs,)))
        log.append(jax.device_get((state, ts, following)))
        state = following
    return log


def test_sums_over_an_episode_by_hand():
    log = play(TollRoad(max_steps=None), Toll(), [0, 1, 2, 3, 0, 1])
    before = [step[0].episode_cost[0] for step in log]
    np.testing.assert_array_equal(before, [[0, 0], [1, 0], [3, 0.5], [0, 0], [1, 1.5], [3, 1.5]])
    costs = [step[1].cost[0] for step in log]
    np.testing.assert_array_equal(costs, [[1, 0], [2, 0.5], [3, 1], [1, 1.5], [2, 0], [3, 0.5]])
    sums = [step[1].stats.cost_sum[0] for step in log]
    np.testing.assert_array_equal(sums, [[0, 0], [0, 0], [6, 1.5], [0, 0], [0, 0], [6, 2]])
    for _, ts, following in log:
        assert ts.cost.shape == ts.stats.cost_sum.shape == following.episode_cost.shape == (3, 2)
        assert ts.cost.dtype == ts.stats.cost_sum.dtype == following.episode_cost.dtype == np.float32


def test_the_time_limit_ends_the_sum_and_keeps_the_cost_of_its_step():
    log = play(TollRoad(max_steps=2), Toll(end=9), [1, 1, 1])
    _, ts, following = log[1]
    assert ts.truncated.all()
    assert not ts.terminated.any()
    np.testing.assert_array_equal(ts.cost, np.tile([2, 0.5], (3, 1)))
    np.testing.assert_array_equal(ts.stats.cost_sum, np.tile([3, 1], (3, 1)))
    np.testing.assert_array_equal(following.episode_cost, np.zeros((3, 2)))
    np.testing.assert_array_equal(log[2][1].cost, np.tile([1, 0.5], (3, 1)))


def test_lanes_are_independent():
    """Of environments at different ages and with different actions each gets what it gets alone."""
    env, params = TollRoad(max_steps=4), envs.registry.as_arrays(Toll())
    state = episode.reset(env, params, jax.random.key(0), 4)
    steps = jnp.array([0, 1, 2, 0], jnp.int32)
    state = state._replace(state=state.state._replace(steps=steps), t=jnp.array([0, 1, 2, 3], jnp.int32))
    state = state._replace(episode_cost=jnp.arange(8.0).reshape(4, 2))
    action, key = jnp.array([0, 1, 2, 3], jnp.int32), jax.random.key(1)
    starts = episode.initial(env, params, key, 4)
    following, ts = jitted(env, params, key, state, action, starts)
    np.testing.assert_array_equal(ts.terminated | ts.truncated, [False, False, True, True])
    np.testing.assert_array_equal(ts.stats.cost_sum, [[0, 0], [0, 0], [4 + 3, 5 + 1], [6 + 1, 7 + 1.5]])
    np.testing.assert_array_equal(following.episode_cost, [[0 + 1, 1 + 0], [2 + 2, 3 + 0.5], [0, 0], [0, 0]])
    for b in range(4):
        alone = jax.tree.map(lambda leaf, b=b: leaf[b : b + 1], (state, action, starts))
        one = jitted(env, params, key, *alone)
        jax.tree.map(lambda x, y, b=b: np.testing.assert_array_equal(x[b : b + 1], y), (following, ts), one)


def test_runs_can_be_vmapped_and_a_reserve_keeps_costs():
    env = TollRoad(max_steps=2)
    many = Toll(toll=np.float32([0.5, 2.0]), end=np.int32([9, 9]))

    def run(params):
        state = episode.reset(env, params, jax.random.key(0), 3)
        reserve = episode.initial_reserve(env, params, jax.random.key(1), 3)
        total = episode.no_episodes(env)
        for k in jax.random.split(jax.random.key(2), 5):
            state, ts, reserve = episode.step_with_reserve(env, params, k, state, jnp.full(3, 1, jnp.int32), reserve)
            total = jax.tree.map(lambda x, y: x + y.sum(axis=0, dtype=x.dtype), total, ts.stats)
        return state.episode_cost, total

    cost, total = jit(jax.vmap(run))(many)
    np.testing.assert_array_equal(cost, [[[1, 0.5]] * 3, [[1, 2.0]] * 3])
    np.testing.assert_array_equal(total.count, [6, 6])
    np.testing.assert_array_equal(total.cost_sum, [[18, 6], [18, 24]])


def the_clock_without_costs(env, params, key, running, action, starts):
    """`episode.step` for one player and no costs, written out."""
    key_step, _ = jax.random.split(key)
    out = jax.vmap(env.step, in_axes=(None, 0, 0, None))(key_step, running.state, action, params)
    t = running.t + 1
    truncated = jnp.broadcast_to(out.truncated, out.terminated.shape)
    truncated |= t >= env.max_steps
    ended = out.terminated | truncated
    stats = (
        jnp.where(ended, running.episode_return + out.reward, 0.0),
        jnp.where(ended, t, 0),
        ended.astype(jnp.int32),
    )
    ended = out.terminated | truncated
    state = episode.select(ended, starts[1], out.state)
    obs = jax.vmap(env.as_observation, in_axes=(0, None))(state, params)
    t, total = running.t + 1, running.episode_return + out.reward
    following = (obs, state, jnp.where(ended, 0, t), jnp.where(ended, 0.0, total))
    return following, (out.reward, out.terminated, truncated, out.obs, stats)


def test_without_costs_the_program_has_not_one_operation_more():
    env, params = envs.make("CartPole-v1")
    assert env.num_costs == 0
    running = episode.reset(env, params, jax.random.key(0), 4)
    assert running.episode_cost == ()
    assert len(jax.tree.leaves(running)) == 3 + len(jax.tree.leaves(running.state))
    arguments = (jax.random.key(1), running, jnp.zeros(4, jnp.int32), (running.obs, running.state))
    _, ts = episode.step(env, params, *arguments)
    assert ts.cost == ts.stats.cost_sum == episode.no_episodes(env).cost_sum == ()
    program = jax.make_jaxpr(functools.partial(episode.step, env, params))(*arguments)
    plain = jax.make_jaxpr(functools.partial(the_clock_without_costs, env, params))(*arguments)
    assert str(program) == str(plain)


def test_begin_is_what_reset_starts_with():
    env, params, key = TollRoad(), Toll(), jax.random.key(0)
    begun = episode.begin(env, *episode.initial(env, params, key, 3))
    jax.tree.map(np.testing.assert_array_equal, begun, episode.reset(env, params, key, 3))


def double(x):
    return 2 * x


WRAPPED = {
    "StickyActions": lambda env: wrappers.StickyActions(env, sticky_prob=0.0),
    "TransformReward": lambda env: wrappers.TransformReward(env, double),
    "ScaleReward": lambda env: wrappers.ScaleReward(env, 2.0),
    "ClipReward": wrappers.ClipReward,
    "SignReward": wrappers.SignReward,
    "NoisyReward": wrappers.NoisyReward,
    "PotentialShaping": lambda env: wrappers.PotentialShaping(env, lambda state, params: state.offset),
    "FrameStack": lambda env: wrappers.FrameStack(env, 2),
    "HiddenCoordinates": lambda env: wrappers.HiddenCoordinates(env, (0,)),
    "TransformObservation": lambda env: wrappers.TransformObservation(env, double, Box(0.0, 2.0, (1,))),
    "FlattenObservation": wrappers.FlattenObservation,
    "TimeObservation": wrappers.TimeObservation,
    "LastActionReward": wrappers.LastActionReward,
    "RandomParams": lambda env: wrappers.RandomParams(env, (Range("toll", 0.5, 0.5),)),
    "ActionRepeat": lambda env: wrappers.ActionRepeat(env, 1),
}
KNOWN = {**WRAPPED, "EnumerateObservation": None}  # that one needs Discrete observations: below


def test_every_wrapper_is_tried():
    names = {name for name in wrappers.__all__ if isinstance(getattr(wrappers, name), type)}
    names = {name for name in names if issubclass(getattr(wrappers, name), wrappers.Wrapper)}
    assert names - {"Wrapper"} == set(KNOWN)


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_keep_costs(name):
    env = WRAPPED[name](TollRoad(max_steps=3))
    assert env.num_costs == 2
    params = envs.registry.as_arrays(env.default_params())
    log = play(env, params, [1, 2, 3, 1])
    np.testing.assert_array_equal([ts.cost[0] for _, ts, _ in log], [[1, 0.5], [2, 1], [3, 1.5], [1, 0.5]])
    np.testing.assert_array_equal(log[2][1].stats.cost_sum, np.tile([6, 3], (3, 1)))


def test_enumerated_observations_keep_costs():
    env = wrappers.EnumerateObservation(ActionCost(tabular=True))
    assert env.num_costs == 1
    _, state = env.reset(jax.random.key(0), env.default_params())
    assert env.step(jax.random.key(0), state, jnp.int32(1), env.default_params()).cost == 1


def test_repeated_actions_add_up_their_costs():
    env = wrappers.ActionRepeat(TollRoad(max_steps=None), 2)
    log = play(env, envs.registry.as_arrays(env.default_params()), [1, 2])
    # The episode ends with the third step, the first of the second action.
    np.testing.assert_array_equal([ts.cost[0] for _, ts, _ in log], [[1 + 2, 0.5 + 0.5], [3, 1.0]])
    np.testing.assert_array_equal(log[1][1].stats.cost_sum[0], [6, 2])


# --- probes

GAMMA = 0.9


@pytest.mark.parametrize("tabular", [False, True])
def test_action_cost_from_its_own_steps(tabular):
    """Return and cost to come of every deterministic policy, and linearly between them, from played steps."""
    env = ActionCost(tabular=tabular)
    q, c = np.zeros((2, 2)), np.zeros((2, 2))
    for s in range(2):
        for a in range(2):
            state = probes.State(jnp.int32(s), jnp.float32(0))
            out = env.step(jax.random.key(0), state, jnp.int32(a), probes.Params(scale=3.0))
            q[s, a], c[s, a] = out.reward / 3.0, out.cost[0]
            assert bool(out.terminated) == (s == 1)
            assert int(out.state.index) == 1
            assert out.cost.shape == (1,)
    for policy in [*np.random.default_rng(0).uniform(size=(5, 2)).tolist(), [0, 0], [0, 1], [1, 0], [1, 1]]:
        mix = np.array([[1 - p, p] for p in policy])
        reward, cost = (mix * q).sum(-1), (mix * c).sum(-1)
        values, costs = env.of_policy(policy, GAMMA)
        np.testing.assert_allclose(values, [reward[0] + GAMMA * reward[1], reward[1]])
        np.testing.assert_allclose(costs, [cost[0] + GAMMA * cost[1], cost[1]])
    np.testing.assert_allclose(env.values(GAMMA), env.of_policy((1, 1), GAMMA)[0])
    best = q + np.array([[GAMMA * q[1].max()], [0]])
    np.testing.assert_allclose(env.action_values(GAMMA), best)


@pytest.mark.parametrize("limit", [0.0, 0.3, 0.9, 1.4, 1.9, 5.0])
def test_the_best_policy_under_a_limit(limit):
    """Nothing on a fine grid of policies is better, and the multiplier is the slope of the best return."""
    env = ActionCost()
    best = env.constrained(GAMMA, limit)
    assert best.cost <= limit + 1e-12
    grid = np.linspace(0, 1, 201)
    first, second = np.meshgrid(grid, grid)
    values, costs = (x[0] for x in env.of_policy((first, second), GAMMA))
    highest = values[costs <= limit + 1e-12].max()
    assert highest <= best.value + 1e-9
    assert highest > best.value - 0.02
    slope = (env.constrained(GAMMA, limit + 1e-6).value - best.value) / 1e-6
    np.testing.assert_allclose(slope, best.multiplier, atol=1e-5)
    # The Lagrangian has no better policy at this multiplier: strong duality.
    lagrangian = best.value - best.multiplier * (best.cost - limit)
    assert (values - best.multiplier * (costs - limit)).max() <= lagrangian + 1e-9


def test_a_continuous_action_costs_in_proportion():
    env = ActionCost(continuous=True)
    for a, share in [(-1.0, 0.0), (0.0, 0.5), (0.5, 0.75), (1.0, 1.0), (7.0, 1.0), (-3.0, 0.0)]:
        for s in range(2):
            out = env.step(None, probes.State(jnp.int32(s), jnp.float32(0)), jnp.array([a]), probes.Params())
            assert out.reward == (1 + s) * share
            assert out.cost.tolist() == [share]


def test_cost_at_the_time_limit_separates_every_treatment():
    """TD(0) on real episodes: a critic of costs that takes the cut for an end is caught."""
    env = CostTimeLimit(tabular=True)
    data = [
        (int(s), float(c[0]), int(n), int(f), bool(cut))
        for before, ts, after in play(env, env.default_params(), [0] * 6)
        for s, c, n, f, cut in zip(before.obs, ts.cost, ts.next_obs, after.obs, ts.truncated, strict=True)
    ]
    assert {(s, c, n, f) for s, c, n, f, cut in data if cut} == {(2, 1.0, 1, 0)}
    assert all(c == 0 for _, c, _, _, cut in data if not cut)
    for treatment in ("bootstrapped", "terminal", "reset", "stale"):
        v = np.zeros(3)
        for _ in range(500):
            for s, c, n, f, cut in data:
                following = {"bootstrapped": v[n], "terminal": 0.0, "reset": v[f], "stale": v[s]}
                v[s] += 0.2 * (c + GAMMA * (following[treatment] if cut else v[n]) - v[s])
        np.testing.assert_allclose(v, env.costs(GAMMA, treatment), atol=1e-3)
    np.testing.assert_array_equal(env.values(GAMMA), np.zeros(3))


def test_statistics_of_the_cost_probes():
    log = play(CostTimeLimit(), probes.Params(), [0] * 6)
    sums = [(ts.stats.return_sum[0], ts.stats.cost_sum[0, 0], ts.stats.count[0]) for _, ts, _ in log]
    assert sums == [(0, 0, 0), (0, 0, 0), (0, 1, 1)] * 2
    log = play(ActionCost(), probes.Params(), [1, 1, 0, 1])
    sums = [(ts.stats.return_sum[0], ts.stats.cost_sum[0, 0]) for _, ts, _ in log]
    assert sums == [(0, 0), (3, 2), (0, 0), (2, 1)]
