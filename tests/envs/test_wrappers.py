"""The wrappers: exact expectations on an environment that counts, and the contract of environments for each of them."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import episode, registry, spaces, threefry
from envs.base import Env, Step
from envs.classic_control.cartpole import CartPole
from envs.errors import InputError
from envs.gridworld.grid_world import GridWorld
from envs.spaces import Box, Discrete
from envs.wrappers import (
    ActionRepeat,
    ClipReward,
    EnumerateObservation,
    FlattenObservation,
    FrameStack,
    HiddenCoordinates,
    LastActionReward,
    NoisyReward,
    PotentialShaping,
    RandomParams,
    Range,
    ScaleReward,
    SignReward,
    StickyActions,
    TimeObservation,
    TransformObservation,
    TransformReward,
    Wrapper,
    frame_stack_4,
)
from jaxrl.agents import dqn
from jaxrl.cli import flags, training
from jaxrl.sweep import combinations, lanes, plan

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Count(NamedTuple):
    n: jax.Array  # f32[]


class Stride(NamedTuple):
    by: float = 1.0


@dataclass(frozen=True)
class Counter(Env[Count, Stride]):
    """Starts at 10 k for some k in 1 … 9, counts up by action × stride, ends at a number whose last digit is `end`.

    Observes the number, negated in every second entry of the last axis. The reward is the number too.
    """

    shape: tuple[int, ...] = (2,)
    end: int = 9

    @property
    def random_step(self):
        return False

    @property
    def observation_space(self):
        return Box(-200.0, 200.0, self.shape)

    @property
    def action_space(self):
        return Discrete(4)

    def default_params(self):
        return Stride()

    def observe(self, n):
        sign = np.where(np.arange(self.shape[-1]) % 2, -1.0, 1.0) if self.shape else 1.0
        return (jnp.zeros(self.shape) + n * sign).astype(jnp.float32)

    def reset(self, key, params):
        # Any number that follows from the key will do; hashing it would be most of the compilation.
        n = 10.0 * (1 + jax.random.key_data(key)[-1] % 9).astype(jnp.float32)
        return self.observe(n), Count(n)

    def step(self, key, state, action, params):
        n = state.n + action * params.by
        return Step(self.observe(n), Count(n), n, n % 10 == self.end, {"n": n})

    def render(self, state, params):
        return np.full((2, 2, 3), int(state.n) % 256, np.uint8)


@dataclass(frozen=True)
class NoisyCounter(Counter):
    """Adds a random 0 … 3 instead of the action."""

    @property
    def random_step(self):
        return True

    def step(self, key, state, action, params):
        return super().step(key, state, jax.random.randint(key, (), 0, 4), params)


def play(env, actions, num_envs=3, params=None):
    """Steps under `episode`: (first obs, time steps, following states); NumPy arrays [steps, B, ...]."""
    params = registry.as_arrays(env.default_params()) if params is None else params

    keys = jax.random.split(jax.random.key(1), len(actions))
    start_keys = jax.random.split(jax.random.key(2), (len(actions) + 1, num_envs))
    return jax.device_get(_play(env, params, keys, start_keys, jnp.asarray(actions, jnp.int32)))


@functools.partial(jit, static_argnums=0)
def _play(env, params, keys, start_keys, actions):
    """The starts are drawn beforehand, so that where nothing is random nothing is hashed: half of the compilation."""
    starts = jax.vmap(jax.vmap(env.reset, in_axes=(0, None)), in_axes=(0, None))(start_keys, params)
    num_envs = start_keys.shape[1]
    first = episode.EpisodeState(*pick(starts, 0), jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs))

    def body(state, x):
        key, action, start = x
        if action.ndim == 0:
            action = jnp.full(num_envs, action)
        following, ts = episode.step(env, params, key, state, action, start)
        return following, (ts, following)

    return first, *jax.lax.scan(body, first, (keys, actions, pick(starts, slice(1, None))))[1]


def pick(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


# --- frame stack


@pytest.mark.parametrize(("max_steps", "end"), [(4, 9), (None, 4)], ids=["truncated", "terminated"])
def test_frame_stack_over_episodes(max_steps, end):
    """However an episode ends, the successor has its frames, and the next start has none of them."""
    first, ts, after = play(FrameStack(Counter(max_steps=max_steps, end=end), 3), [1] * 9)
    assert first.obs.shape == (3, 2, 3)
    np.testing.assert_array_equal(first.obs[:, 1], -first.obs[:, 0])
    starts = first.obs[:, 0, 0]
    for t in range(9):
        i = t % 4 + 1  # the counter of its episode
        expected = np.maximum(np.array([i - 2, i - 1, i]), 0)
        np.testing.assert_array_equal(ts.next_obs[t, :, 0], starts[:, None] + expected)
        np.testing.assert_array_equal(ts.next_obs[t, :, 1], -(starts[:, None] + expected))
        assert ((ts.terminated[t] | ts.truncated[t]) == (i == 4)).all()
        if i == 4:
            assert (ts.truncated[t] == (max_steps is not None)).all()
            starts = after.obs[t, :, 0, 0]
            np.testing.assert_array_equal(after.obs[t, :, 0], np.repeat(starts[:, None], 3, 1))
            np.testing.assert_array_equal(starts % 10, 0)
        else:
            np.testing.assert_array_equal(after.obs[t], ts.next_obs[t])


@pytest.mark.parametrize(
    ("shape", "stacked"), [((), (4,)), ((2,), (2, 4)), ((5, 6), (5, 6, 4)), ((5, 6, 2), (5, 6, 8))]
)
def test_frame_stack_shapes(shape, stacked):
    """Pictures are joined on their channels, [c0 c1 c0 c1 …]; everything else on a new axis."""
    env = frame_stack_4(Counter(shape=shape))
    assert env.observation_space == Box(-200.0, 200.0, stacked)
    obs, state = env.reset(jax.random.key(0), Stride())
    out = env.step(jax.random.key(0), state, 1, Stride())
    assert out.obs.shape == stacked
    start = float(obs.reshape(-1)[0])
    plane = np.asarray(out.obs).reshape(-1, stacked[-1])[0]
    if len(shape) == 3:
        np.testing.assert_array_equal(plane, [start, -start] * 3 + [start + 1, -start - 1])
    else:
        np.testing.assert_array_equal(plane, [start] * 3 + [start + 1])


def test_frame_stack_bounds_follow_the_coordinates():
    env = FrameStack(CartPole(), 2)
    space = env.observation_space
    assert space.shape == (4, 2)
    np.testing.assert_array_equal(space.upper, np.repeat(CartPole().observation_space.upper[:, None], 2, 1))
    assert hash(space) == hash(env.observation_space)
    breakout, params = envs.make("Breakout-MinAtar")
    pixels = FrameStack(breakout, 2)
    assert pixels.observation_space == Box(False, True, (10, 10, 8), np.bool_)
    assert spaces.contains(pixels.observation_space, pixels.reset(jax.random.key(0), params)[0])


def test_frame_stack_of_one_frame_adds_nothing_but_the_axis():
    env = FrameStack(Counter(), 1)
    obs, state = env.reset(jax.random.key(0), Stride())
    assert state.frames.size == 0
    out = env.step(jax.random.key(0), state, 1, Stride())
    np.testing.assert_array_equal(out.obs[:, 0], obs[:, 0] + np.array([1, -1]))


# --- other observations


def test_hidden_coordinates():
    env = HiddenCoordinates(CartPole(), (2, 0))
    np.testing.assert_array_equal(env.observation_space.upper, CartPole().observation_space.upper[[2, 0]])
    obs, state = env.reset(jax.random.key(0), env.default_params())
    np.testing.assert_array_equal(obs, [state.theta, state.x])
    out = env.step(jax.random.key(0), state, 1, env.default_params())
    np.testing.assert_array_equal(out.obs, [out.state.theta, out.state.x])


def test_registered_environments_without_velocities():
    env, params = envs.make("CartPole-Hidden-v0")
    obs, state = env.reset(jax.random.key(0), params)
    np.testing.assert_array_equal(obs, [state.x, state.theta])
    assert env.max_steps == 500
    env, params = envs.make("Pendulum-Hidden-v0")
    obs, state = env.reset(jax.random.key(0), params)
    np.testing.assert_allclose(obs, [np.cos(state.theta), np.sin(state.theta)], rtol=1e-6)


def halve(obs):
    return obs[:1] / 2


def test_transform_observation():
    assert hash(TransformObservation(Counter(), halve, {"a": Discrete(2)}))
    env = TransformObservation(Counter(), halve, Box(-100.0, 100.0, (1,)))
    obs, state = env.reset(jax.random.key(0), Stride())
    np.testing.assert_array_equal(obs, [state.n / 2])
    np.testing.assert_array_equal(env.step(jax.random.key(0), state, 3, Stride()).obs, [(state.n + 3) / 2])


def test_flatten_makes_discrete_one_hot():
    env = FlattenObservation(GridWorld())
    assert env.observation_space == Box(0.0, 1.0, (16,))
    obs, state = env.reset(jax.random.key(0), env.default_params())
    np.testing.assert_array_equal(obs, np.eye(16)[0])
    np.testing.assert_array_equal(env.step(jax.random.key(0), state, 1, env.default_params()).obs, np.eye(16)[4])


def test_flatten_joins_dicts_by_sorted_keys():
    """{"action": one-hot of 4, "obs": 2 numbers, "reward": 1}, with each part's bounds."""
    env = FlattenObservation(LastActionReward(Counter()))
    np.testing.assert_array_equal(env.observation_space.upper, [1, 1, 1, 1, 200, 200, np.inf])
    np.testing.assert_array_equal(env.observation_space.lower, [0, 0, 0, 0, -200, -200, -np.inf])
    obs, state = env.reset(jax.random.key(0), Stride())
    n = state.n
    np.testing.assert_array_equal(obs, [0, 0, 0, 0, n, -n, 0])
    out = env.step(jax.random.key(0), state, 3, Stride())
    np.testing.assert_array_equal(out.obs, [0, 0, 0, 1, n + 3, -n - 3, n + 3])


def test_last_action_and_reward_start_anew_with_the_episode():
    first, ts, after = play(LastActionReward(Counter(max_steps=2)), [3, 1, 2])
    assert not first.obs["action"].any()
    np.testing.assert_array_equal(ts.next_obs["action"][:, 0], np.eye(4)[[3, 1, 2]])
    np.testing.assert_array_equal(ts.next_obs["reward"], ts.reward)
    np.testing.assert_array_equal(after.obs["action"][:, 0], [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(after.obs["reward"][1], 0)


@pytest.mark.parametrize("terminates", [False, True])
def test_time_observation(terminates):
    env = TimeObservation(Counter(max_steps=9), terminates).replace(max_steps=4)
    first, ts, after = play(env, [1] * 5)
    np.testing.assert_array_equal(first.obs["time"], 0)
    np.testing.assert_array_equal(ts.next_obs["time"][:, 0], [0.25, 0.5, 0.75, 1, 0.25])
    np.testing.assert_array_equal(after.obs["time"][:, 0], [0.25, 0.5, 0.75, 0, 0.25])
    np.testing.assert_array_equal(ts.terminated[:, 0], [False, False, False, terminates, False])
    np.testing.assert_array_equal(ts.truncated[:, 0], [False, False, False, True, False])


# --- actions


def test_sticky_actions_are_the_last_executed_ones():
    """Actions 0, 1, 2, 3 in turn tell apart the given, the last given and the last executed one."""
    given = np.arange(4000) % 4
    first, ts, after = play(StickyActions(Counter(max_steps=None, end=-1), 0.25), given, num_envs=8)
    executed = np.diff(np.concatenate([first.state.env.n[None], ts.info["n"]]), axis=0)
    np.testing.assert_array_equal(executed[0], given[0])
    np.testing.assert_array_equal(executed, after.state.action)
    # The action before the last is executed, or a repetition of it: never anything else.
    repeated = executed[1:] == executed[:-1]
    assert (repeated | (executed[1:] == given[1:, None])).all()
    # Where the last executed action is the given one, a repetition cannot be seen.
    seen = executed[:-1] != given[1:, None]
    share, n = repeated[seen].mean(), seen.sum()
    assert n > 20_000
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / n)


def test_the_first_action_of_every_episode_is_executed():
    env = StickyActions(Counter(max_steps=2, end=-1), 1.0)
    first, ts, after = play(env, [1, 3, 2, 3, 3])
    before = np.concatenate([first.state.env.n[None], after.state.env.n[:-1]])
    np.testing.assert_array_equal((ts.info["n"] - before)[:, 0], [1, 1, 2, 2, 3])


def test_sticky_actions_of_other_spaces():
    env = StickyActions(envs.make("Pendulum-v1")[0], 1.0)
    params = env.default_params()
    _, state = env.reset(jax.random.key(0), params)
    out = env.step(jax.random.key(1), state, jnp.array([0.5]), params)
    out = env.step(jax.random.key(2), out.state, jnp.array([-0.5]), params)
    np.testing.assert_array_equal(out.state.action, [0.5])


def test_action_repeat_sums_rewards_and_counts_actions():
    env = ActionRepeat(Counter(max_steps=6, end=-1), 3)
    assert env.max_steps == 2
    first, ts, _ = play(env, [2, 1])
    n = first.state.n
    np.testing.assert_array_equal(ts.reward, [3 * n + 2 + 4 + 6, 3 * (n + 6) + 1 + 2 + 3])
    np.testing.assert_array_equal(ts.next_obs[:, :, 0], [n + 6, n + 9])
    np.testing.assert_array_equal(ts.truncated[:, 0], [False, True])
    np.testing.assert_array_equal(ts.stats.length_sum[1], 2)


def test_action_repeat_stops_at_the_end():
    """Ends at …4 after two of three steps by 2: the third is neither taken nor rewarded."""
    first, ts, _ = play(ActionRepeat(Counter(end=4), 3), [2])
    n = first.state.n
    assert ts.terminated.all()
    np.testing.assert_array_equal(ts.reward[0], 2 * n + 2 + 4)
    np.testing.assert_array_equal(ts.next_obs[0, :, 0], n + 4)
    np.testing.assert_array_equal(ts.info["n"][0], n + 4)


@dataclass(frozen=True)
class Foreign(Counter):
    """Cuts itself off at …4, as an environment of another library may."""

    def step(self, key, state, action, params):
        out = super().step(key, state, action, params)
        return out._replace(terminated=jnp.bool_(False), truncated=out.terminated)


def test_action_repeat_stops_where_a_foreign_clock_truncates():
    first, ts, _ = play(ActionRepeat(Foreign(end=4), 3), [2])
    assert ts.truncated.all()
    assert not ts.terminated.any()
    np.testing.assert_array_equal(ts.next_obs[0, :, 0], first.state.n + 4)


def test_action_repeat_draws_anew_for_every_step():
    env = ActionRepeat(NoisyCounter(end=-1), 2)
    first, ts, _ = play(env, [0], num_envs=400)
    total = ts.next_obs[0, :, 0] - first.state.n
    assert (total % 2 == 1).any(), "the same draw twice would make every sum even"


def test_action_repeat_time_limits():
    env = ActionRepeat(Counter(max_steps=10), 4)
    assert env.max_steps == env.options()["max_steps"] == 3  # 12 steps: the last action may overrun
    assert env.replace(max_steps=5).max_steps == 5
    assert env.replace(max_steps=5).env.max_steps == 20
    assert env.replace(max_steps=5, repeats=2).max_steps == 5
    assert env.replace(repeats=2).max_steps == 5
    assert env.replace(max_steps=None).max_steps is None
    outer = ScaleReward(env)
    assert outer.max_steps == outer.options()["max_steps"] == 3
    assert outer.replace(max_steps=7).max_steps == 7


# --- rewards


def square(reward):
    return jnp.square(reward)


@pytest.mark.parametrize(
    ("wrap", "expected"),
    [
        (lambda env: TransformReward(env, square), lambda r: r * r),
        (lambda env: ScaleReward(env, 0.5), lambda r: 0.5 * r),
        (lambda env: ClipReward(env, -42.0, 42.0), lambda r: np.clip(r, -42, 42)),
        (SignReward, np.sign),
    ],
    ids=["transform", "scale", "clip", "sign"],
)
def test_rewards(wrap, expected):
    env = wrap(Counter(end=-1))
    params = env.default_params()._replace(by=-20.0)
    obs, state = env.reset(jax.random.key(0), params)
    for action, total in ((1, -20), (0, -20), (3, -80)):
        out = env.step(jax.random.key(0), state, action, params)
        state = out.state
        assert out.obs[0] == obs[0] + total
        assert out.reward == expected(np.float32(obs[0] + total))


def test_noise_has_the_stated_scale_and_is_independent():
    env = NoisyReward(Counter(end=-1), 3.0)
    first, ts, _ = play(env, [0] * 50, num_envs=100)
    noise = ts.reward - first.state.n
    n = noise.size
    assert abs(noise.mean()) < 4 * 3 / np.sqrt(n)
    assert abs(noise.std() - 3) < 4 * 3 / np.sqrt(2 * n)
    assert len(np.unique(noise)) > 0.99 * n
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.4


# --- shaping: exact dynamic programming on a grid, with rewards taken from the wrapped environment


def distance(state, params):
    """Minus the steps to the goal of a 4 × 4 grid: neither its sign nor its value at the goal is special."""
    return 5.0 - (3 - state.cell // 4) - (3 - state.cell % 4)


def corner(state, params):
    """A potential that leads away from the goal."""
    return 8.0 * (state.cell == 3)


def model(env):
    """(reward, successor, terminated), each [16 states, 4 actions]; every state but the goal."""
    params = registry.as_arrays(env.default_params())
    cells, actions = np.divmod(np.arange(64, dtype=np.int32), 4)
    state = env.reset(jax.random.key(0), params)[1]._replace(cell=cells)
    out = jit(jax.vmap(env.step, in_axes=(None, 0, 0, None)))(jax.random.key(0), state, actions, params)
    return (np.asarray(x, np.float64).reshape(16, 4) for x in (out.reward, out.state.cell, out.terminated))


def q_values(env, gamma):
    reward, successor, terminated = model(env)
    q = np.zeros((16, 4))
    for _ in range(2000):
        value = q.max(1)
        value[15] = 0
        q = reward + gamma * (1 - terminated) * value[successor.astype(int)]
    return q[:15]


def best(q):
    return np.isclose(q, q.max(1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("potential", [distance, corner])
def test_potential_shaping_keeps_every_optimal_policy(potential):
    """Ng et al. (1999): Q' = Q − Φ exactly, so the optimal actions of every state are the same."""
    env, gamma = GridWorld(rewards=(-1.0, 3.0)), 0.9
    bare, shaped = q_values(env, gamma), q_values(PotentialShaping(env, potential, gamma), gamma)
    phi = np.array([float(potential(env.reset(jax.random.key(0), None)[1]._replace(cell=i), None)) for i in range(15)])
    np.testing.assert_allclose(shaped, bare - phi[:, None], atol=1e-4)
    np.testing.assert_array_equal(best(shaped), best(bare))
    assert abs(shaped - bare).max() > 1


def test_rewarding_places_changes_the_optimal_policy():
    """The same potential as a bonus for being there, and as a shaping with another discount than the agent's."""
    env, gamma = GridWorld(rewards=(-1.0, 3.0)), 0.9
    bare = best(q_values(env, gamma))
    for broken in (Bonus(env), PotentialShaping(env, corner, 1.2)):
        assert (best(q_values(broken, gamma)) != bare).any()


@dataclass(frozen=True)
class Bonus(Wrapper):
    def step(self, key, state, action, params):
        out = super().step(key, state, action, params)
        return out._replace(reward=out.reward + corner(out.state, params))


def number(state, params):
    return state.n * params.by


def test_shaping_at_the_two_kinds_of_ends():
    """γ Φ(s') − Φ(s) at a truncation, −Φ(s) at a termination; both read the parameters of the inner environment."""
    for counter in (Counter(max_steps=2, end=-1), Counter(end=4)):
        env = PotentialShaping(counter, number, 0.5)
        first, ts, _ = play(env, [2, 2], params=env.default_params()._replace(by=1.0))
        n = first.state.n
        np.testing.assert_array_equal(ts.reward[0], n + 2 + 0.5 * (n + 2) - n)
        final = 0 if counter.end == 4 else 0.5 * (n + 4)
        np.testing.assert_array_equal(ts.reward[1], n + 4 + final - (n + 2))
        assert (ts.terminated[1] == (counter.end == 4)).all()


# --- parameters


def test_random_params_are_drawn_for_every_episode_and_used():
    env = RandomParams(Counter(max_steps=3, end=-1), (Range("by", 1.0, 3.0),))
    first, ts, after = play(env, [1] * 300, num_envs=20)
    before = np.concatenate([first.state.env.n[None], after.state.env.n[:-1]])
    drawn = np.concatenate([first.state.values[None], after.state.values[:-1]])[..., 0]
    np.testing.assert_allclose(ts.info["n"] - before, drawn, rtol=1e-4)
    drawn = drawn.reshape(100, 3, 20)
    assert (drawn == drawn[:, :1]).all()
    per_episode = drawn[:, 0].ravel()
    assert len(np.unique(per_episode)) == per_episode.size
    assert 1 <= per_episode.min() < 1.02
    assert 2.98 < per_episode.max() <= 3
    assert abs(per_episode.mean() - 2) < 4 * 2 / np.sqrt(12 * per_episode.size)


def test_log_uniform_ranges():
    """In 0.01 … 100 as many draws below 1 as above; each range keeps its own kind and bounds."""
    env = RandomParams(CartPole(), (Range("gravity", -1.0, 1.0), Range("length", 0.01, 100.0, log=True)))
    params = registry.as_arrays(env.default_params())
    state = jit(jax.vmap(env.reset, in_axes=(0, None)))(jax.random.split(jax.random.key(0), 4000), params)[1]
    gravity, length = np.asarray(state.values).T
    assert abs(gravity.mean()) < 4 / np.sqrt(3 * 4000)
    assert abs(np.log10(length).mean()) < 4 * 4 / np.sqrt(12 * 4000)
    assert gravity.min() >= -1
    assert 0.01 <= length.min() < 0.011
    assert 90 < length.max() <= 100
    assert abs(np.corrcoef(gravity, np.log(length))[0, 1]) < 0.07


def test_equal_bounds_are_the_bare_environment():
    env = RandomParams(CartPole(), (Range("length", 0.7, 0.7), Range("gravity", 3.0, 3.0, log=True)))
    params = registry.as_arrays(env.default_params())
    _, state = env.reset(jax.random.key(0), params)
    out = env.step(jax.random.key(0), state, 1, params)
    bare, params = envs.make("CartPole-v1", length=0.7, gravity=3.0)
    np.testing.assert_allclose(out.obs, bare.step(jax.random.key(0), state.env, 1, params).obs, rtol=1e-6)


def test_fields_of_random_params():
    """What is drawn gives way to its bounds, so a value that would have no effect cannot be set."""
    env = RandomParams(CartPole(), (Range("length", 0.3, 0.7),))
    fields = env.default_params()._fields
    assert "length" not in fields
    assert fields[-2:] == ("length_low", "length_high")
    assert "gravity" in fields


# --- parameters of several layers


def layered():
    return StickyActions(ScaleReward(CartPole(), 2.0), 0.25)


def test_parameters_are_flat_whatever_the_layers():
    env = layered()
    params = env.default_params()
    assert params._fields == (*CartPole().default_params()._fields, "reward_scale", "sticky_prob")
    assert (params.length, params.reward_scale, params.sticky_prob) == (0.5, 2.0, 0.25)
    assert env.env.inner(env.inner(params)) == CartPole().default_params()
    assert type(params) is type(layered().default_params())
    assert ScaleReward(Bare()).default_params()._asdict() == {"reward_scale": 1.0}


@dataclass(frozen=True)
class Bare(Counter):
    """No parameters at all."""

    def default_params(self):
        return ()


@pytest.fixture
def entries(monkeypatch):
    """A registry that forgets what a test adds."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))


def test_make_sets_fields_of_all_layers(entries):
    envs.register("Layered-v0", CartPole, wrap=lambda env: StickyActions(ScaleReward(env), 0.25))
    env, params = envs.make("Layered-v0", length=0.7, reward_scale=3.0, sticky_prob=0.5, max_steps=9)
    assert (params.length, params.reward_scale, params.sticky_prob) == (np.float32(0.7), 3, 0.5)
    assert env.max_steps == 9
    with pytest.raises(InputError, match="Did you mean 'reward_scale'"):
        envs.make("Layered-v0", rewardscale=1.0)
    _, state = env.reset(jax.random.key(0), params)
    assert env.step(jax.random.key(0), state, 0, params).reward == 3


def test_flags_and_sweeps_reach_all_layers(entries):
    wrap = lambda env: StickyActions(RandomParams(TransformReward(env, square), (Range("length", 0.3, 0.7),)))  # noqa: E731
    envs.register("Layered-v0", CartPole, wrap=wrap)
    argv = ["--env.sticky-prob", "0.5", "--env.gravity", "5", "--env.length-low", "0.4", "--env.max-steps", "7"]
    options = flags.parse_flags(training.TrainOptions, "train", "dqn", "Layered-v0", argv)[3]
    assert options == {"sticky_prob": 0.5, "gravity": 5.0, "length_low": 0.4, "max_steps": 7}
    env, params = envs.make("Layered-v0", **options)
    grid = {"env.gravity": [5.0, 6.0], "env.sticky_prob": [0.0, 0.5], "env.length_high": [0.6]}
    trials = combinations(grid)
    (program,) = plan(dqn, env, params, dqn.Config(), dqn.Hyperparams(), trials, 20_000, 1)
    _, _, stacked = lanes(program.traced, [0], dqn.Hyperparams(), params)
    assert type(stacked) is type(params)
    np.testing.assert_array_equal(stacked.gravity, [5, 5, 6, 6])
    np.testing.assert_array_equal(stacked.sticky_prob, [0, 0.5, 0, 0.5])
    np.testing.assert_allclose(stacked.length_low, 0.4)
    np.testing.assert_allclose(stacked.length_high, 0.6)
    # A range is a static field too, and comes from flags as plain tuples.
    argv = ["--env.ranges", "force", "1", "2", "True"]
    options = flags.parse_flags(training.TrainOptions, "train", "dqn", "Layered-v0", argv)[3]
    env, params = envs.make("Layered-v0", **options)
    assert env.env.ranges == (Range("force", 1.0, 2.0, log=True),)
    assert (params.force_high, params.length) == (2, 0.5)


def test_a_population_of_parameters():
    """Inner and own parameters may differ between lanes."""
    env = layered()
    params = jax.tree.map(lambda leaf: jnp.full(3, leaf), env.default_params())
    params = params._replace(reward_scale=jnp.array([1.0, 2.0, 3.0]), force=jnp.array([0.0, 10.0, 20.0]))

    @jit
    @jax.vmap
    def one(params):
        _, state = env.reset(jax.random.key(0), params)
        return env.step(jax.random.key(0), state, 1, params)

    out = one(params)
    np.testing.assert_array_equal(out.reward, [1, 2, 3])
    assert len(np.unique(out.obs[:, 1])) == 3


def test_wrong_wrappings_are_explained():
    with pytest.raises(InputError, match="already has a parameter 'reward_scale'"):
        ScaleReward(ScaleReward(CartPole())).default_params()
    with pytest.raises(InputError, match="frames=0"):
        FrameStack(Counter(), 0)
    with pytest.raises(InputError, match="Box"):
        FrameStack(GridWorld())
    with pytest.raises(InputError, match="vector"):
        HiddenCoordinates(GridWorld(), (0,))
    for kept in ((), (0, 0), (4,), (-1,)):
        with pytest.raises(InputError, match="from 0 to 3"):
            HiddenCoordinates(CartPole(), kept)
    with pytest.raises(InputError, match="time limit"):
        TimeObservation(Counter())
    with pytest.raises(InputError, match=r"sticky_prob=1\.5"):
        StickyActions(CartPole(), 1.5)
    with pytest.raises(InputError, match="repeats=0"):
        ActionRepeat(CartPole(), 0)
    with pytest.raises(InputError, match="reward_noise=-1"):
        NoisyReward(CartPole(), -1.0)
    with pytest.raises(InputError, match="Did you mean 'length'"):
        RandomParams(CartPole(), (Range("lenght", 0.0, 1.0),))
    for ranges in ((), (Range("length", 0.0, 1.0), Range("length", 0.0, 1.0))):
        with pytest.raises(InputError, match="different parameters"):
            RandomParams(CartPole(), ranges)
    for bad in (Range("length", 2.0, 1.0), Range("length", 0.0, 1.0, log=True), Range("length", 0.0, np.inf)):
        with pytest.raises(InputError, match="must be finite"):
            RandomParams(CartPole(), (bad,))


# --- the contract, for each of them around CartPole


def upright(state, params):
    return params.length * jnp.cos(state.theta)


# Every wrapper, some of them inside one another: a program for each of these is the cost of this file.
WRAPPED = {
    "coordinates": lambda: TransformObservation(
        HiddenCoordinates(CartPole(), (0, 2)), halve, Box(-np.inf, np.inf, (1,))
    ),
    "vector": lambda: FlattenObservation(LastActionReward(CartPole())),
    "time": lambda: TimeObservation(CartPole()),
    "rewards": lambda: TransformReward(
        ScaleReward(ClipReward(SignReward(PotentialShaping(CartPole(), upright))), 2.0), square
    ),
    "random": lambda: FrameStack(NoisyReward(StickyActions(RandomParams(CartPole(), (Range("force", 5.0, 9.0),)))), 3),
    "repeat": lambda: ActionRepeat(StickyActions(CartPole()), 2),
}
LIMIT, STEPS, BATCH = 3, 5, 2


def assert_close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.shape(x) == np.shape(y)
        np.testing.assert_allclose(np.asarray(x, np.float64), np.asarray(y, np.float64), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", WRAPPED)
def test_contract(name):
    env = WRAPPED[name]().replace(max_steps=LIMIT)
    again = WRAPPED[name]().replace(max_steps=LIMIT)
    assert env == again
    assert hash(env) == hash(again)
    assert env.max_steps == env.options()["max_steps"] == LIMIT
    assert type(env.default_params()) is type(again.default_params())
    params = registry.as_arrays(env.default_params())

    keys = jax.random.split(jax.random.key(1), STEPS)  # as `play` does
    actions = np.random.default_rng(0).integers(2, size=(STEPS, BATCH)).astype(np.int32)
    first, ts, after = play(env, actions, BATCH, params)
    before = jax.tree.map(lambda one, rest: np.concatenate([one[None], rest[:-1]]), first, after)
    assert ts.truncated[LIMIT - 1].all()
    # A lane alone, op by op, gives what the compiled batch gave, where the time limit is reached too.
    step = jit(env.step) if name == "repeat" else env.step  # its loop would be compiled at every call
    for t, b in ((0, 0), (LIMIT - 1, 1)):
        assert spaces.contains(env.observation_space, pick(before.obs, t, b))
        assert spaces.contains(env.observation_space, pick(ts.next_obs, t, b))
        key = jax.random.split(keys[t])[0]
        key = threefry.consecutive(key, BATCH)[b] if env.random_step else key
        out = step(key, pick(before.state, t, b), actions[t, b], params)
        assert_close((out.obs, out.reward, out.terminated), pick((ts.next_obs, ts.reward, ts.terminated), t, b))
    if not env.random_step:
        other = env.step(jax.random.key(99), pick(before.state, t, b), actions[t, b], params)
        assert_close(other, out)
    picture = env.render(pick(before.state, 1, 0), params)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    # Its parameters can be a batch.
    many = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), params)
    batched = jax.vmap(env.step, in_axes=(None, None, None, 0))
    shapes = jax.eval_shape(batched, jax.random.key(0), pick(before.state, 0, 0), actions[0, 0], many)
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(shapes))


def test_observations_are_numbered() -> None:
    env, params = envs.make("Blackjack-v1")
    numbered = EnumerateObservation(env)
    assert numbered.observation_space.n == 32 * 11 * 2
    assert EnumerateObservation(env.replace(max_steps=9)).max_steps == 9
    key = jax.random.key(0)
    (total, card, ace), _ = env.reset(key, params)
    obs, state = numbered.reset(key, params)
    assert int(obs) == (int(total) * 11 + int(card)) * 2 + int(ace)
    out, plain = numbered.step(key, state, jnp.int32(1), params), env.step(key, state, jnp.int32(1), params)
    assert int(out.obs) == int(numbered.number(plain.obs))
    with pytest.raises(InputError, match="Discrete"):
        EnumerateObservation(envs.make("CartPole-v1")[0])


def test_one_repeat_runs_without_compilation():
    """A loop of length 0 cannot be stepped through under `jax.disable_jit`."""
    env, params = envs.make("CartPole-v1")
    _, state = env.reset(jax.random.key(0), params)
    with jax.disable_jit():
        out = ActionRepeat(env, repeats=1).step(jax.random.key(1), state, jnp.int32(1), params)
    want = env.step(jax.random.key(1), state, jnp.int32(1), params)
    np.testing.assert_allclose(out.obs, want.obs, rtol=1e-5)
    assert float(out.reward) == float(want.reward)
