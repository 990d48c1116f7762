"""The Behaviour Suite's own package beside ours, with its random draws replayed.

A run of ours is recorded: states, random decisions, results. Each state is copied into the original's attributes, its
random generator is replaced by one that answers with our decisions (and fails when it is asked anything else, or less),
a step is taken, and observation, reward, ending and every attribute are compared.
"""

import functools
import warnings
from collections import deque
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs

with warnings.catch_warnings():  # what it imports may warn
    warnings.simplefilter("ignore")
    pytest.importorskip("bsuite")
    from bsuite.environments import (
        bandit,
        cartpole,
        catch,
        deep_sea,
        discounting_chain,
        memory_chain,
        mountain_car,
        umbrella_chain,
    )
    from bsuite.experiments.cartpole_swingup import cartpole_swingup

LANES, STEPS = 8, 200
ULP = 1.2e-7  # one step of float32 in a share of time: XLA may multiply by 1 / length
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Script:
    """Stands in for numpy's RandomState: answers the calls that are expected, in their order."""

    def __init__(self, calls):
        self.calls = deque(calls)

    def __getattr__(self, name):
        def answer(*args, **kwargs):
            expected, arguments, value = self.calls.popleft()
            assert (name, (*args, *kwargs.values())) == (expected, arguments)
            return value

        return answer


def coin(value):
    return "binomial", (1, 0.5), int(value)


class Original(NamedTuple):
    """How to build the original, and how our state and decisions look in it."""

    build: Any  # (options) -> environment
    attributes: Any  # (state, environment) -> {name: value}
    start_calls: Any = lambda s, e: []  # (state, environment) -> what a reset draws
    calls: Any = lambda s, action, d, e: []  # (state, action, decisions, environment) -> what a step draws
    policy: Any = lambda s, params, u, n: (u * n).astype(jnp.int32)  # (state, params, uniform u, actions) -> action
    rtol: tuple[float, float] = (0.0, 0.0)  # of observations and rewards: where float32 may round otherwise


def deep_sea_calls(s, action, d, e):
    calls = []
    if not e._deterministic and s.row == e._size - 1 and s.column in (0, e._size - 1):
        calls.append(("randn", (), float(d.noise)))
    if action == e._action_mapping[s.row, s.column]:
        fails = d is not None and d.fails
        calls.append(("rand", (), 0.5 / e._size if fails else 1.5 / e._size))
    return calls


def mostly_right(s, params, u, n):
    right = params.right_action[s.row, s.column]
    return jnp.where(u < 0.9, right, 1 - right)


ORIGINALS = {
    "Catch": Original(
        build=catch.Catch,
        attributes=lambda s, e: {"_ball_x": s.ball_x, "_ball_y": s.ball_y, "_paddle_x": s.paddle_x},
        start_calls=lambda s, e: [("randint", (e._columns,), int(s.ball_x))],
    ),
    "DeepSea": Original(
        build=lambda **options: deep_sea.DeepSea(**options),
        attributes=lambda s, e: {"_row": s.row, "_column": s.column, "_bad_episode": s.bad_episode},
        calls=deep_sea_calls,
        policy=mostly_right,
        rtol=(0.0, 1e-6),
    ),
    "MemoryChain": Original(
        build=memory_chain.MemoryChain,
        attributes=lambda s, e: {"_timestep": s.t, "_query": s.query, "_context": s.context.astype(int)},
        start_calls=lambda s, e: [
            ("binomial", (1, 0.5, e._num_bits), s.context.astype(int)),
            ("randint", (e._num_bits,), int(s.query)),
        ],
        rtol=(ULP, 0.0),
    ),
    "UmbrellaChain": Original(
        build=umbrella_chain.UmbrellaChain,
        attributes=lambda s, e: {"_timestep": s.t, "_need_umbrella": s.needed, "_has_umbrella": s.carried},
        start_calls=lambda s, e: [coin(s.needed), coin(s.carried)],
        calls=lambda s, action, d, e: (
            ([coin(d.reward)] if s.t + 1 < e._chain_length else [])
            + [("binomial", (1, 0.5, e._n_distractor), d.distractors)]
        ),
        rtol=(ULP, 0.0),
    ),
    "DiscountingChain": Original(
        build=discounting_chain.DiscountingChain,
        attributes=lambda s, e: {"_timestep": s.t, "_context": s.chain},
        rtol=(ULP, 0.0),
    ),
    "SimpleBandit": Original(build=bandit.SimpleBandit, attributes=lambda s, e: {}),
}


@functools.partial(jit, static_argnums=(0, 1))
def record(env, policy, params, start_keys, keys, uniform):
    """Plays in LANES lanes: the starts, and for each step (state, action, decisions, step)."""
    starts = jax.vmap(jax.vmap(env.reset, in_axes=(0, None)), in_axes=(0, None))(start_keys, params)

    def one(state, key, u):
        action = policy(state, params, u, env.action_space.n)
        if not env.random_step:
            return action, (), env.step(key, state, action, params)
        draws = env.draw(key)
        return action, draws, env.transition(state, action, draws, params)

    def body(state, x):
        keys, u, (_, start) = x
        action, draws, out = jax.vmap(one)(state, keys, u)
        keep = lambda a, b: jnp.where(out.terminated.reshape(LANES, *[1] * (a.ndim - 1)), a, b)  # noqa: E731
        return jax.tree.map(keep, start, out.state), (state, action, draws, out)

    following = jax.tree.map(lambda x: x[1:], starts)
    return starts, jax.lax.scan(body, pick(starts[1], 0), (keys, uniform, following))[1]


def pick(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def close(ours, theirs, rtol):
    """As numpy.testing says it, in a tenth of the time."""
    return np.all(np.abs(ours - theirs) <= rtol * np.abs(theirs))


def check_start(original, reference, obs, state):
    reference._rng = Script(original.start_calls(state, reference) + distractor_calls(reference, obs))
    timestep = reference.reset()
    assert timestep.first()
    assert not reference._rng.calls
    assert (obs == timestep.observation.reshape(obs.shape)).all()
    check_attributes(original, reference, state)


def distractor_calls(reference, obs):
    if not isinstance(reference, umbrella_chain.UmbrellaChain):
        return []
    return [("binomial", (1, 0.5, reference._n_distractor), obs[3:])]


def check_attributes(original, reference, state):
    for name, value in original.attributes(state, reference).items():
        assert np.all(getattr(reference, name) == value), name


@pytest.mark.parametrize(
    ("name", "options", "fields"),
    [
        ("Catch", {}, {}),
        ("Catch", {"rows": 3, "columns": 4}, {}),
        ("DeepSea", {"size": 10, "mapping_seed": 42}, {}),
        ("DeepSea", {"size": 5, "deterministic": False, "mapping_seed": 1}, {}),
        ("DeepSea", {"size": 3, "randomize_actions": False}, {"size": 3, "mapping_seed": None}),
        ("MemoryChain", {"memory_length": 5}, {}),
        ("MemoryChain", {"memory_length": 1, "num_bits": 3}, {}),
        ("MemoryChain", {"memory_length": 30, "num_bits": 7}, {}),
        ("UmbrellaChain", {"chain_length": 10}, {}),
        ("UmbrellaChain", {"chain_length": 1, "n_distractor": 2}, {}),
        ("UmbrellaChain", {"chain_length": 23, "n_distractor": 40}, {}),
        ("DiscountingChain", {"mapping_seed": 7}, {}),
        ("SimpleBandit", {"mapping_seed": 3}, {}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value,
)
def test_every_step_is_the_originals(name, options, fields):
    original = ORIGINALS[name]
    with warnings.catch_warnings():  # it warns of a sea without mapping
        warnings.simplefilter("ignore")
        reference = original.build(**options)
    env, params = envs.make(f"{name}-bsuite", **(fields or options))
    start_keys = jax.random.split(jax.random.key(1), (STEPS + 1, LANES))
    keys = jax.random.split(jax.random.key(2), (STEPS, LANES))
    uniform = np.random.default_rng(3).random((STEPS, LANES), np.float32)
    starts, run = jax.device_get(record(env, original.policy, params, start_keys, keys, uniform))
    for lane in range(LANES):
        check_start(original, reference, *pick(starts, 0, lane))
    ended = 0
    for t in range(STEPS):
        for lane in range(LANES):
            state, action, draws, out = pick(run, t, lane)
            for attribute, value in original.attributes(state, reference).items():
                value = value.copy() if np.ndim(value) else value.item()
                setattr(reference, attribute, value)
            reference._reset_next_step = False
            reference._rng = Script(original.calls(state, action, draws or None, reference))
            timestep = reference.step(int(action))
            assert not env.random_step or not reference._rng.calls
            theirs = timestep.observation.reshape(out.obs.shape)
            assert close(out.obs, theirs, original.rtol[0]), (out.obs, theirs)
            assert close(out.reward, np.float32(timestep.reward), original.rtol[1]), (out.reward, timestep.reward)
            assert out.terminated == timestep.last()
            check_attributes(original, reference, out.state)
            if out.terminated:
                ended += 1
                assert timestep.discount == 0
                check_start(original, reference, *pick(starts, t + 1, lane))
    assert ended >= 16


@pytest.mark.parametrize("size", [10, 12, 30, 50])
def test_the_mapping_of_actions_is_the_originals(size):
    _, params = envs.make("DeepSea-bsuite", size=size)
    np.testing.assert_array_equal(params.right_action, deep_sea.DeepSea(size, mapping_seed=42)._action_mapping)


def test_rewards_are_the_originals_for_every_seed():
    for seed in range(20):
        _, params = envs.make("SimpleBandit-bsuite", mapping_seed=seed)
        np.testing.assert_array_equal(params.reward, np.float32(bandit.SimpleBandit(seed)._rewards))
        _, params = envs.make("DiscountingChain-bsuite", mapping_seed=seed)
        np.testing.assert_array_equal(params.reward, np.float32(discounting_chain.DiscountingChain(seed)._rewards))


# --- physics


def scattered(rng, n):
    """States of the pole, some near the thresholds, some at the last steps, several per row: f64[n, 4], i64[n]."""
    upright = rng.random(n) < 0.5
    theta = np.where(upright, rng.normal(0, 0.3, n), rng.uniform(0, 2 * np.pi, n))
    values = np.stack([rng.uniform(-3.2, 3.2, n), rng.normal(0, 2, n), theta, rng.normal(0, 1.5, n)], 1)
    return values, np.where(rng.random(n) < 0.2, rng.integers(998, 1002, n), rng.integers(0, 998, n))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CartPole-bsuite", {}),
        ("CartPoleSwingUp-bsuite", {}),
        ("CartPoleSwingUp-bsuite", {"height_threshold": 0.95, "x_reward_threshold": 0.05}),
    ],
)
def test_cartpole_steps(name, options):
    """2,500 injected states: observation to 1e-5, rewards and endings equal but within 1e-5 of a threshold."""
    n = 2500
    rng = np.random.default_rng(2)
    reference = (cartpole_swingup.CartpoleSwingup if "Swing" in name else cartpole.Cartpole)(**options)
    env, params = envs.make(name, **options)
    values, t = scattered(rng, n)
    values = values.astype(np.float32)
    action = rng.integers(0, 3, n)
    state = env.reset(jax.random.key(0), params)[1]._replace(
        **dict(zip(("x", "x_dot", "theta", "theta_dot"), values.T, strict=True)), t=t.astype(np.int32)
    )
    key = jax.random.key(0)
    out = jax.device_get(jit(jax.vmap(env.step, in_axes=(None, 0, 0, None)))(key, state, action, params))
    compared = 0
    for i in range(n):
        reference._state = cartpole.CartpoleState(*values[i].astype(float), SECONDS[t[i]])
        reference._reset_next_step = False
        timestep = reference.step(int(action[i]))
        obs, theirs = out.obs[i], timestep.observation[0]
        assert np.all(np.abs(obs[:6] - theirs[:6]) <= 1e-5 * (1 + np.abs(theirs[:6])))
        new = reference._state
        edges = [
            np.cos(new.theta) - reference._height_threshold,
            abs(new.x) - reference._x_threshold,
            *(
                [abs(new.x) - reference._x_reward_threshold, abs(new.theta_dot) - reference._theta_dot_threshold]
                if "Swing" in name
                else []
            ),
        ]
        if np.abs(edges).min() < 1e-5:
            continue
        compared += 1
        assert np.all(obs[6:] == theirs[6:])
        assert out.reward[i] == np.float32(timestep.reward)
        assert out.terminated[i] == timestep.last()
    assert compared > 0.99 * n
    assert 0.05 < out.terminated.mean() < 0.95
    assert len(np.unique(out.reward)) >= 2


SECONDS = np.concatenate([[0.0], np.cumsum(np.full(1100, 0.01))])  # as the original adds them up, one by one


@pytest.mark.parametrize(
    ("name", "reference"),
    [("CartPoleSwingUp-bsuite", cartpole_swingup.CartpoleSwingup), ("MountainCar-bsuite", mountain_car.MountainCar)],
)
def test_the_clock_ends_the_episode_at_the_same_step(name, reference):
    """An agent that does nothing; the time in the observation, and termination instead of truncation."""
    env, params = envs.make(name)
    _, state = env.reset(jax.random.key(0), params)
    theirs = reference(seed=0)
    theirs.reset()

    @jit
    def run(state):
        def body(state, _):
            out = env.step(jax.random.key(0), state, 1, params)
            return out.state, (out.obs, out.terminated)

        return jax.lax.scan(body, state, length=1010)[1]

    obs, terminated = jax.device_get(run(state))
    clock = 5 if "CartPole" in name else 2
    for t in range(1010):
        timestep = theirs.step(1)
        assert close(obs[t, clock], timestep.observation[0, clock], 1e-6)
        assert terminated[t] == timestep.last()
        if terminated[t]:
            break
    assert t + 1 == (1001 if "CartPole" in name else 1000)


def test_mountain_car_steps():
    n = 1500
    rng = np.random.default_rng(3)
    env, params = envs.make("MountainCar-bsuite")
    theirs = mountain_car.MountainCar()
    places = rng.integers(0, 3, n)  # at the wall, before the goal, anywhere
    low, high = np.array([-1.2, 0.4, -1.2])[places], np.array([-1.15, 0.5, 0.5])[places]
    position = rng.uniform(low, high).astype(np.float32)
    velocity = rng.uniform(-0.07, 0.07, n).astype(np.float32)
    t, action = rng.integers(0, 1000, n), rng.integers(0, 3, n)
    _, state = env.reset(jax.random.key(0), params)
    state = state._replace(env=type(state.env)(position, velocity), t=t.astype(np.int32))
    key = jax.random.key(0)
    out = jax.device_get(jit(jax.vmap(env.step, in_axes=(None, 0, 0, None)))(key, state, action, params))
    for i in range(n):
        theirs._position, theirs._velocity, theirs._timestep = float(position[i]), float(velocity[i]), int(t[i])
        theirs._reset_next_step = False
        timestep = theirs.step(int(action[i]))
        assert np.all(np.abs(out.obs[i] - timestep.observation[0]) <= 1e-6)
        assert out.reward[i] == timestep.reward == -1
        if abs(theirs._position - 0.5) > 1e-6:
            assert out.terminated[i] == timestep.last()
    assert 0.01 < out.terminated.mean() < 0.5
