"""Parity of the Behaviour Suite's environments with its own package.

A run of ours is recorded: states, random decisions, results. Then each state is copied into the original's attributes,
its random generator is replaced by one that answers with our decisions (and refuses anything else that it is asked), a
step is taken, and observation, reward, ending and attributes are compared. Starts are replayed in the same way. The
states of the three with physics are scattered over their spaces instead, since a run would hardly come to their
thresholds; there float32 differs from the original's float64, and flags count only beyond rounding of a threshold.

That the random decisions have the right distributions shows in the returns of random policies at the end of each
report, whose exact means the tests of the environments have.
"""

import functools
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env
from envs.interop.foreign import load
from envs.interop.parity import Check, Play, Reference, random_policy

LANES = 16  # of a recorded run
_ULP = 1.2e-7  # a share of time is a quotient, which XLA may form by multiplying: one step of float32 at most
_EDGE = 1e-5  # nearer than this to a threshold, float32 may see the other side

Call = tuple[str, tuple, Any]  # a call of NumPy's RandomState that is expected: name, arguments, the answer


class Refused(Exception):
    """The original asked its random generator for something that our decisions do not answer."""


class Script:
    """Stands in for NumPy's RandomState: answers the calls that are expected, in their order."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = deque(calls)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Any method of the generator."""

        def answer(*args: Any, **kwargs: Any) -> Any:
            given = name, (*args, *kwargs.values())
            expected, arguments, value = self.calls.popleft() if self.calls else ("nothing", (), None)
            if given != (expected, arguments):
                raise Refused(f"{given} instead of {expected}{arguments}")
            return value

        return answer


class Adapter:
    """How one of our environments looks in the original; `e` is the original, `s` a state of ours as NumPy scalars."""

    obs_limit = 0.0  # largest error of an observation
    reward_limit = 0.0
    episode_samples = 4  # samples for each whole random episode of the original: its cost in time decides

    def build(self, env: Any, params: Any) -> Any:
        """The original with the static fields and parameters of ours."""
        raise NotImplementedError

    def attributes(self, s: Any, e: Any) -> dict[str, Any]:
        """The attributes that the original has in state `s`."""
        raise NotImplementedError

    def start_calls(self, s: Any, obs: np.ndarray, e: Any) -> list[Call]:
        """What the original draws in the reset that gives `s` and `obs`."""
        del s, obs, e
        return []

    def calls(self, s: Any, action: int, draws: Any, e: Any) -> list[Call]:
        """What the original draws in a step from `s`."""
        del s, action, draws, e
        return []

    def action(self, s: Any, params: Any, uniform: jax.Array, n: int) -> jax.Array:
        """A policy (traced): one of `n` actions, by a uniform number in 0 … 1."""
        del s, params
        return (uniform * n).astype(jnp.int32)

    def scattered(self, start: Any, n: int, rng: np.random.Generator) -> Any:
        """`n` states to step from, NumPy [n, ...] in the form of `start`; None: those of a run."""
        del start, n, rng

    def margins(self, e: Any) -> list[float]:
        """Distances of the original's state from the thresholds of its flags; [] where rounding cannot matter."""
        del e
        return []


class Catch(Adapter):
    """A ball and a paddle."""

    def build(self, env: Any, params: Any) -> Any:
        """The board."""
        del params
        return _load("environments.catch").Catch(env.rows, env.columns)

    def attributes(self, s: Any, e: Any) -> dict[str, Any]:
        """Where they are."""
        del e
        return {"_ball_x": s.ball_x, "_ball_y": s.ball_y, "_paddle_x": s.paddle_x}

    def start_calls(self, s: Any, obs: np.ndarray, e: Any) -> list[Call]:
        """The column of the ball."""
        del obs
        return [("randint", (e._columns,), int(s.ball_x))]


class DeepSea(Adapter):
    """The sea and its diver."""

    reward_limit = 1e-6  # sums of cost, treasure and noise

    def build(self, env: Any, params: Any) -> Any:
        """The sea; it warns of one whose actions are not mapped."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _load("environments.deep_sea").DeepSea(
                env.size,
                deterministic=env.deterministic,
                unscaled_move_cost=float(params.move_cost),
                randomize_actions=env.mapping_seed is not None,
                mapping_seed=env.mapping_seed,
            )

    def attributes(self, s: Any, e: Any) -> dict[str, Any]:
        """The diver."""
        del e
        return {"_row": s.row, "_column": s.column, "_bad_episode": s.bad_episode}

    def calls(self, s: Any, action: int, draws: Any, e: Any) -> list[Call]:
        """Noise at both ends of the last row; the wind at every step to the right, used or not."""
        calls = []
        if not e._deterministic and s.row == e._size - 1 and s.column in (0, e._size - 1):
            calls.append(("randn", (), float(draws.noise)))
        if action == e._action_mapping[s.row, s.column]:
            fails = not e._deterministic and draws.fails
            calls.append(("rand", (), (0.5 if fails else 1.5) / e._size))
        return calls

    def action(self, s: Any, params: Any, uniform: jax.Array, n: int) -> jax.Array:
        """Mostly to the right: a random diver hardly ever sees the treasure."""
        right = jnp.asarray(params.right_action)[s.row, s.column]
        return jnp.where(uniform < 0.9, right, 1 - right)


class MemoryChain(Adapter):
    """Bits and a question."""

    obs_limit = _ULP

    def build(self, env: Any, params: Any) -> Any:
        """The chain."""
        return _load("environments.memory_chain").MemoryChain(int(params.memory_length), env.num_bits)

    def attributes(self, s: Any, e: Any) -> dict[str, Any]:
        """The bits, the question and the clock."""
        del e
        return {"_timestep": s.t, "_query": s.query, "_context": s.context.astype(int)}

    def start_calls(self, s: Any, obs: np.ndarray, e: Any) -> list[Call]:
        """The bits and the question."""
        del obs
        bits = "binomial", (1, 0.5, e._num_bits), s.context.astype(int)
        return [bits, ("randint", (e._num_bits,), int(s.query))]


class UmbrellaChain(Adapter):
    """A walk."""

    obs_limit = _ULP

    def build(self, env: Any, params: Any) -> Any:
        """The way."""
        return _load("environments.umbrella_chain").UmbrellaChain(int(params.chain_length), env.n_distractor)

    def attributes(self, s: Any, e: Any) -> dict[str, Any]:
        """The umbrella and the clock."""
        del e
        return {"_timestep": s.t, "_need_umbrella": s.needed, "_has_umbrella": s.carried}

    def start_calls(self, s: Any, obs: np.ndarray, e: Any) -> list[Call]:
        """Two coins and the distractors."""
        coins: list[Call] = [("binomial", (1, 0.5), int(coin)) for coin in (s.needed, s.carried)]
        return [*coins, ("binomial", (1, 0.5, e._n_distractor), obs[3:])]

    def calls(self, s: Any, action: int, draws: Any, e: Any) -> list[Call]:
        """A coin for the reward, but for the last, and the distractors."""
        del action
        coin: list[Call] = [("binomial", (1, 0.5), int(draws.reward))]
        distractors: Call = ("binomial", (1, 0.5, e._n_distractor), draws.distractors)
        return [*(coin if s.t + 1 < e._chain_length else []), distractors]


class DiscountingChain(Adapter):
    """Five chains."""

    obs_limit = _ULP

    def build(self, env: Any, params: Any) -> Any:
        """The chains."""
        del params
        return _load("environments.discounting_chain").DiscountingChain(env.mapping_seed)

    def attributes(self, s: Any, e: Any) -> dict[str, Any]:
        """The choice and the clock."""
        del e
        return {"_timestep": s.t, "_context": s.chain}


class SimpleBandit(Adapter):
    """Arms."""

    def build(self, env: Any, params: Any) -> Any:
        """The arms."""
        del params
        return _load("environments.bandit").SimpleBandit(env.mapping_seed, env.num_actions)

    def attributes(self, s: Any, e: Any) -> dict[str, Any]:
        """There are none."""
        del s, e
        return {}


class CartPole(Adapter):
    """The pole that stands."""

    obs_limit = _EDGE
    episode_samples = 40
    hangs = 0.0  # the angle about which it starts

    def build(self, env: Any, params: Any) -> Any:
        """The original's physics cannot be set, so those of `params` must be its own."""
        del env
        return _load("environments.cartpole").Cartpole(
            float(params.height_threshold), float(params.x_threshold), float(params.dt), float(params.max_time)
        )

    def attributes(self, s: Any, e: Any) -> dict[str, Any]:
        """The pole and the seconds, as the original adds them up."""
        seconds = float(np.cumsum(np.full(int(s.t), e._timescale))[-1]) if s.t else 0.0
        physics = (float(value) for value in (s.x, s.x_dot, s.theta, s.theta_dot))
        return {"_state": type(e._state)(*physics, seconds)}

    def start_calls(self, s: Any, obs: np.ndarray, e: Any) -> list[Call]:
        """Every coordinate."""
        del obs, e
        values = (s.x, s.x_dot, np.float64(s.theta) - self.hangs, s.theta_dot)
        return [("uniform", (-0.05, 0.05), float(value)) for value in values]

    def scattered(self, start: Any, n: int, rng: np.random.Generator) -> Any:
        """Upright or anywhere, on the rail or just off it, some in the last steps."""
        theta = np.where(rng.random(n) < 0.5, rng.normal(0, 0.3, n), rng.uniform(0, 2 * np.pi, n))
        values = rng.uniform(-3.2, 3.2, n), rng.normal(0, 2, n), theta, rng.normal(0, 1.5, n)
        t = np.where(rng.random(n) < 0.2, rng.integers(998, 1002, n), rng.integers(0, 998, n))
        return type(start)(*(value.astype(np.float32) for value in values), t.astype(np.int32))

    def margins(self, e: Any) -> list[float]:
        """Of height and place."""
        return [np.cos(e._state.theta) - e._height_threshold, abs(e._state.x) - e._x_threshold]


class CartPoleSwingUp(CartPole):
    """The pole that hangs."""

    hangs = np.pi
    episode_samples = 60

    def build(self, env: Any, params: Any) -> Any:
        """The original's physics cannot be set, so those of `params` must be its own."""
        del env
        return _load("experiments.cartpole_swingup.cartpole_swingup").CartpoleSwingup(
            height_threshold=float(params.height_threshold),
            theta_dot_threshold=float(params.theta_dot_threshold),
            x_reward_threshold=float(params.x_reward_threshold),
            move_cost=float(params.move_cost),
        )

    def margins(self, e: Any) -> list[float]:
        """Of height, places and velocity."""
        more = abs(e._state.x) - e._x_reward_threshold, abs(e._state.theta_dot) - e._theta_dot_threshold
        return [*super().margins(e), *more]


class MountainCar(Adapter):
    """The car."""

    obs_limit = 1e-6
    episode_samples = 1000  # random cars never arrive

    def build(self, env: Any, params: Any) -> Any:
        """The original's physics cannot be set, so those of `params` must be its own."""
        del params
        return _load("environments.mountain_car").MountainCar(env.max_steps)

    def attributes(self, s: Any, e: Any) -> dict[str, Any]:
        """The car and the clock."""
        del e
        return {"_position": float(s.env.position), "_velocity": float(s.env.velocity), "_timestep": int(s.t)}

    def start_calls(self, s: Any, obs: np.ndarray, e: Any) -> list[Call]:
        """The place."""
        del obs, e
        return [("uniform", (-0.6, -0.4), float(s.env.position))]

    def scattered(self, start: Any, n: int, rng: np.random.Generator) -> Any:
        """At the wall, before the goal, or anywhere."""
        place = rng.integers(0, 3, n)
        position = rng.uniform(np.array([-1.2, 0.4, -1.2])[place], np.array([-1.15, 0.5, 0.5])[place])
        car = type(start.env)(position.astype(np.float32), rng.uniform(-0.07, 0.07, n).astype(np.float32))
        return start._replace(env=car, t=rng.integers(0, 1000, n, dtype=np.int32))

    def margins(self, e: Any) -> list[float]:
        """Of the goal and the wall."""
        return [e._position - 0.5, e._position + 1.2 if e._position > -1.2 else 1.0]


def _load(module: str) -> Any:
    return load(f"bsuite.{module}", "test")


class Row(NamedTuple):
    """A recorded step of ours."""

    state: Any
    action: Any
    draws: Any  # () if nothing is random
    step: Any


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(env: Any, action: Any, params: Any, keys: jax.Array, uniform: jax.Array, starts: Any, scattered: Any) -> Row:
    """Steps from `scattered` states, or those of a run that `starts` afresh after every end; [steps, LANES, ...]."""

    def one(state: Any, key: jax.Array, u: jax.Array) -> Row:
        chosen = action(state, params, u, env.action_space.n)
        if not env.random_step:
            return Row(state, chosen, (), env.step(key, state, chosen, params))
        draws = env.draw(key)
        return Row(state, chosen, draws, env.transition(state, chosen, draws, params))

    if scattered is not None:
        return jax.vmap(jax.vmap(one))(scattered, keys, uniform)

    def body(state: Any, x: Any) -> tuple[Any, Row]:
        keys, u, start = x
        row = jax.vmap(one)(state, keys, u)

        def choose(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(row.step.terminated.reshape(LANES, *[1] * (old.ndim - 1)), new, old)

        return jax.tree.map(choose, start, row.step.state), row

    return jax.lax.scan(body, jax.tree.map(lambda x: x[0], starts), (keys, uniform, starts))[1]


def _rows(tree: Any) -> Iterator[Any]:
    """The elements of a tree of NumPy arrays [steps, LANES, ...]."""
    leaves, treedef = jax.tree.flatten(tree)
    flat = [leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]) for leaf in leaves]
    return (treedef.unflatten(leaves) for leaves in zip(*flat, strict=True))


def replayed(env: Env, params: Any, adapter: Adapter, samples: int, rng: np.random.Generator) -> list[Check]:
    """Compares `samples` steps, and as many starts, with the original."""
    shape = -(-samples // LANES), LANES
    keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), (2, *shape))
    starts = jax.jit(jax.vmap(jax.vmap(env.reset, in_axes=(0, None)), in_axes=(0, None)))(keys[0], params)
    one = jax.tree.map(lambda x: x[0, 0], starts[1])
    scattered = adapter.scattered(one, shape[0] * LANES, rng)
    if scattered is not None:
        scattered = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), scattered)
    uniform = rng.random(shape, np.float32)
    run = _run(env, adapter.action, params, keys[1], uniform, starts[1], scattered)
    starts, run = jax.device_get((starts, run))

    e = adapter.build(env, params)
    e.reset()  # some attributes that never change are set there
    exact = scattered is None
    obs_error, reward_error, ended, paid, edge = 0.0, 0.0, 0, 0, 0
    wrong = dict.fromkeys(("random decisions", "terminated", "state", "starts"), 0)
    for row in _rows(run):
        for name, value in adapter.attributes(row.state, e).items():
            setattr(e, name, value.copy() if isinstance(value, np.ndarray) else value)
        e._reset_next_step = False
        e._rng = Script(adapter.calls(row.state, row.action, row.draws, e))
        try:
            timestep = e.step(int(row.action))
        except Refused:
            wrong["random decisions"] += 1
            continue
        wrong["random decisions"] += bool(e._rng.calls)
        if any(abs(margin) < _EDGE for margin in adapter.margins(e)):
            edge += 1
            continue
        theirs = timestep.observation.reshape(row.step.obs.shape)
        error = np.abs(row.step.obs - theirs) / (1.0 if exact else 1 + np.abs(theirs))
        obs_error = max(obs_error, float(error.max()))
        reward_error = max(reward_error, abs(float(row.step.reward) - float(np.float32(timestep.reward))))
        wrong["terminated"] += row.step.terminated != timestep.last() or timestep.discount != 1 - timestep.last()
        ended += bool(timestep.last())
        paid += timestep.reward != 0
        if exact:
            expected = adapter.attributes(row.step.state, e).items()
            wrong["state"] += any(np.any(getattr(e, name) != value) for name, value in expected)
    for obs, state in _rows(starts):
        e._rng = Script(adapter.start_calls(state, obs, e))
        try:
            error = np.abs(obs - e.reset().observation.reshape(obs.shape)).max()
            wrong["starts"] += bool(e._rng.calls) or error > adapter.obs_limit
        except Refused:
            wrong["starts"] += 1
    n = shape[0] * LANES
    checks = [
        Check(
            "observation",
            "max |error|",
            obs_error,
            adapter.obs_limit,
            n,
            edge,
            "" if exact else "in units of 1 + |value|",
        ),
        Check("reward", "max |error|", reward_error, adapter.reward_limit, n, edge, f"{paid:,} are not 0"),
        Check("terminated", "mismatches", wrong["terminated"], 0, n, edge, f"{ended:,} terminate"),
        Check("random decisions", "mismatches", wrong["random decisions"], 0, n),
        Check("starts", "mismatches", wrong["starts"], 0, n, note="observation, and what is drawn"),
        _spaces(env, e),
    ]
    return [*checks, Check("state", "mismatches", wrong["state"], 0, n, note="every attribute")] if exact else checks


def _spaces(env: Any, e: Any) -> Check:
    theirs = e.observation_spec().shape
    same_shape = env.observation_space.shape == (theirs[1:] if len(env.observation_space.shape) == 1 else theirs)
    wrong = (not same_shape) + (env.action_space.n != e.action_spec().num_values)
    return Check("spaces", "mismatches", int(wrong), 0, 2, note="but for a leading axis of 1 of vectors")


def _play(e: Any, rng: np.random.Generator) -> Play:
    """Whole episodes of the original with its own random numbers."""
    e._rng = np.random.RandomState(int(rng.integers(2**31)))

    def play(actions: Iterator[Any]) -> tuple[float, int]:
        timestep, total, length = e.reset(), 0.0, 0
        while not timestep.last():
            timestep = e.step(next(actions))
            total, length = total + float(timestep.reward), length + 1
        return total, length

    return play


def reference(adapter: Adapter) -> Reference:
    """Makes the comparing function of an environment."""

    def compare(env: Env, params: Any, samples: int, episodes: int | None, rng: np.random.Generator) -> list[Check]:
        episodes = episodes or max(1, samples // adapter.episode_samples)
        checks = replayed(env, params, adapter, samples, rng)
        return checks + random_policy(env, params, _play(adapter.build(env, params), rng), episodes, rng)

    return compare


compare_catch = reference(Catch())
compare_deep_sea = reference(DeepSea())
compare_memory_chain = reference(MemoryChain())
compare_umbrella_chain = reference(UmbrellaChain())
compare_discounting_chain = reference(DiscountingChain())
compare_simple_bandit = reference(SimpleBandit())
compare_cartpole = reference(CartPole())
compare_cartpole_swingup = reference(CartPoleSwingUp())
compare_mountain_car = reference(MountainCar())
