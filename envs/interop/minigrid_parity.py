"""Parity of the MiniGrid tasks with the original package.

Episodes of the original are recorded: states, actions, views, rewards. Ours starts from the same states and takes the
same actions; every view, reward, ending and state must be equal. The driver mostly walks on and handles what it meets;
in every other episode doors stand open and the agent beside its goal, so that endings are seen too. What a reset draws
is compared by χ² tests of features of layouts (where agent, walls, doors, keys are, their colours and all pairs of
these), whole episodes by returns and lengths of the random policy.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import stats

from envs.base import Env
from envs.gridworld.minigrid import world
from envs.gridworld.minigrid.world import State
from envs.interop.foreign import load
from envs.interop.parity import Check, Play, random_policy

# Programs that run once are not worth optimising.
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

STEPS = 80  # at most, of a recorded episode
EPISODE_SAMPLES = 100  # samples for each recorded episode


class Run(NamedTuple):
    """Episodes of the original, padded to one length: [episodes, steps, ...]."""

    start: State  # [episodes, ...]
    first_image: np.ndarray  # [episodes, ...]
    action: np.ndarray
    image: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    state: State
    valid: np.ndarray  # the episode has not ended before


def original(name: str) -> Any:
    """The original's environment of the same id, without wrappers."""
    load("minigrid", "test")
    return load("gymnasium", "test").make(name).unwrapped


def _code(obj: Any) -> int:
    """One of the original's objects as a cell of ours."""
    if obj is None:
        return world.EMPTY
    kind, colour, state = obj.encode()
    return (world.OPEN, world.CLOSED, world.LOCKED)[state] | colour << 4 if kind == world.OPEN else kind | colour << 4


def _state(env: Any) -> State:
    """The original's state as ours."""
    target = 0
    if hasattr(env, "success_pos"):
        target = env.success_pos[1] * env.width + env.success_pos[0]
    elif hasattr(env, "obj"):
        target = _code(env.obj) >> 4
    grid = np.array([_code(obj) for obj in env.grid.grid], np.uint8).reshape(env.height, env.width)
    x, y = (np.int32(place) for place in env.agent_pos)
    direction, carrying = np.int32(env.agent_dir), np.uint8(_code(env.carrying))
    leaves: Any = (grid, x, y, direction, carrying, np.int32(target), np.int32(env.step_count))
    return State(*leaves)


def _drive(env: Any, rng: np.random.Generator) -> int:
    """Mostly walks on, turns at walls and handles what it meets, with enough chance to try every action anywhere."""
    if rng.random() < 0.25:
        return int(rng.integers(7))
    ahead = env.grid.get(*env.front_pos)
    turn_or_walk = int(rng.choice(3, p=(0.2, 0.2, 0.6)))
    if ahead is None or ahead.can_overlap():
        return turn_or_walk
    if ahead.type == "door":
        return 5
    if ahead.can_pickup():
        return 4 if env.carrying else 3
    return int(rng.integers(2)) if env.carrying is None or rng.random() < 0.9 else 4


def _advance(env: Any, rng: np.random.Generator) -> None:
    """Opens all doors and puts the agent beside what ends the task: a driver without a plan seldom gets there."""
    for obj in env.grid.grid if type(env).__name__ != "UnlockEnv" else ():
        if obj is not None and obj.type == "door":
            obj.is_open, obj.is_locked = True, False
    if type(env).__name__ == "MemoryEnv":
        return
    for i, obj in enumerate(env.grid.grid):
        if getattr(obj, "type", None) in ("goal", "ball", "box"):
            x, y = i % env.width, i // env.width
            beside = [(x + dx, y + dy) for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1))]
            free = [place for place in beside if env.grid.get(*place) is None]
            if free:
                env.agent_pos, env.agent_dir = free[rng.integers(len(free))], int(rng.integers(4))


def record(env: Any, episodes: int, steps: int, rng: np.random.Generator) -> Run:
    """Plays the original."""
    starts, firsts, runs = [], [], []
    for episode in range(episodes):
        env.reset(seed=int(rng.integers(2**31)))
        if episode % 2:
            _advance(env, rng)
        starts.append(_state(env))
        firsts.append(env.gen_obs()["image"])
        rows: list[Any] = []
        for _ in range(steps):
            action = _drive(env, rng)
            obs, reward, terminated, truncated, _ = env.step(action)
            rows.append((np.int32(action), obs["image"], np.float64(reward), terminated, _state(env), True))
            if terminated or truncated:
                break
        rows += [(*rows[-1][:-1], False)] * (steps - len(rows))
        runs.append(_stack(rows))
    return Run(_stack(starts), np.stack(firsts), *_stack(runs))


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def replayed(env: Any, params: Any, run: Run) -> list[Check]:
    """Takes the same actions from the same states in ours, and compares."""

    @_jit
    @jax.vmap
    def ours(state: Any, actions: jax.Array) -> Any:
        def step(state: Any, action: jax.Array) -> Any:
            out = env.step(None, state, action, params)
            return out.state, out

        return env.observe(state), jax.lax.scan(step, state, actions)[1]

    first, out = jax.device_get(ours(run.start, run.action))
    valid, n = run.valid, int(run.valid.sum())

    def mismatches(quantity: str, pairs: list[tuple[Any, Any]], note: str = "") -> Check:
        wrong = np.any([(a != b).reshape(len(a), -1).any(1) for a, b in pairs], 0)
        return Check(quantity, "mismatches", int(wrong.sum()), 0, wrong.size, note=note)

    error = np.abs(out.reward[valid] - run.reward[valid]).max()
    fields = [(getattr(out.state, name)[valid], getattr(run.state, name)[valid]) for name in State._fields]
    return [
        mismatches("first observation", [(first, run.first_image)]),
        mismatches("observation", [(out.obs[valid], run.image[valid])]),
        mismatches("state", fields, "every cell, the agent, what it carries, the clock"),
        Check("reward", "max |error|", float(error), 1e-6, n, note=f"{(run.reward[valid] > 0).sum():,} are not 0"),
        mismatches(
            "terminated",
            [(out.terminated[valid], run.terminated[valid])],
            f"{run.terminated[valid].sum():,} terminate",
        ),
    ]


def _original_layouts(env: Any, number: int) -> State:
    env.reset(seed=0)
    states = []
    for _ in range(number):
        env.agent_pos, env.agent_dir = (-1, -1), -1
        env._gen_grid(env.width, env.height)
        states.append(_state(env))
    return _stack(states)


def _features(layouts: Any) -> dict[str, np.ndarray]:
    """What can differ between layouts, as whole numbers: [features][layouts]."""
    n, _, cols = layouts.grid.shape
    cells = layouts.grid.reshape(n, -1)
    facing = layouts.direction == np.arange(4)[:, None]
    ahead = (layouts.y + (0, 1, 0, -1) @ facing) * cols + layouts.x + (1, 0, -1, 0) @ facing
    found = {
        "agent": layouts.y * cols + layouts.x,
        "direction": layouts.direction,
        "target": layouts.target,
        "walls": (cells == world.WALL).sum(1),
        "walls above": (cells[:, : cells.shape[1] // 2] == world.WALL).sum(1),
        "walls on the left": (layouts.grid[:, :, : cols // 2] == world.WALL).sum((1, 2)),
        "ahead": cells[range(n), ahead] & 15,
    }
    for kind in (world.EMPTY, world.KEY, world.BALL, world.BOX, world.GOAL & 15, world.CLOSED, world.LOCKED):
        is_kind = cells & 15 == kind
        first, last = is_kind.argmax(1), cells.shape[1] - 1 - is_kind[:, ::-1].argmax(1)
        found |= {
            f"{kind} number": is_kind.sum(1),
            f"{kind} first": first,
            f"{kind} last": last,
            f"{kind} first colour": cells[range(n), first] >> 4,
            f"{kind} last colour": cells[range(n), last] >> 4,
        }
    return found


def _same_distribution(a: np.ndarray, b: np.ndarray) -> float:
    """The p-value of a two-sample χ² test on whole numbers; rare ones count as one category."""
    values, category = np.unique(np.concatenate([a, b]), return_inverse=True)
    counts = np.stack([np.bincount(part, minlength=len(values)) for part in (category[: len(a)], category[len(a) :])])
    rare = counts.sum(0) < 20
    counts = np.concatenate([counts[:, ~rare], counts[:, rare].sum(1, keepdims=True)], 1)
    counts = counts[:, counts.sum(0) > 0]
    return float(np.asarray(stats.chi2_contingency(counts, correction=False)[1])) if counts.shape[1] > 1 else 1.0


def layouts(env: Any, reference: Any, number: int, rng: np.random.Generator) -> Check:
    """Tests whether resets draw from the same distribution: all features, and all pairs, for what depends on what."""
    keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), number)
    a, b = _features(_original_layouts(reference, number)), _features(jax.device_get(_jit(jax.vmap(env.layout))(keys)))
    varied = [key for key in a if len(np.unique(np.concatenate([a[key], b[key]]))) > 1]
    tests = {key: (a[key], b[key]) for key in varied}
    tests |= {
        f"{f} with {g}": (a[f] % 7 * 7 + a[g] % 7, b[f] % 7 * 7 + b[g] % 7) for f in varied for g in varied if f < g
    }
    p = {key: _same_distribution(x.astype(int), y.astype(int)) for key, (x, y) in tests.items()}
    if not p:
        return Check("layouts", "χ² p-value", 1.0, 0.0, number, note="always the same")
    smallest = min(p, key=lambda key: p[key])
    note = f"smallest of {len(p):,} features and pairs: {smallest}; limit 0.001 / {len(p):,}"
    return Check("layouts", "χ² p-value", p[smallest], 1e-3 / len(p), number, note=note)


def _play(reference: Any, rng: np.random.Generator) -> Play:
    """Whole episodes of the original with its own random numbers."""
    reference.gen_obs = dict  # a view, most of a step's cost, which random actions do not look at
    reference.reset(seed=int(rng.integers(2**31)))

    def play(actions: Iterator[Any]) -> tuple[float, int]:
        reference.reset()
        total, length, ended = 0.0, 0, False
        while not ended:
            _, reward, terminated, truncated, _ = reference.step(int(next(actions)))
            total, length, ended = total + float(reward), length + 1, terminated or truncated
        return total, length

    return play


def compare(
    name: str, env: Env, params: Any, samples: int, episodes: int | None, rng: np.random.Generator
) -> list[Check]:
    """Compares the task `name` with the original's of the same id; see the module."""
    reference = original(name)
    checks = replayed(env, params, record(reference, max(4, samples // EPISODE_SAMPLES), STEPS, rng))
    limit = Check("time limit", "mismatches", int(env.max_steps != reference.max_steps), 0, 1)
    checks += [limit, layouts(env, reference, max(100, samples // 4), rng)]
    episodes = episodes or max(10, min(samples // 10, 10 * samples // reference.max_steps))  # by their cost
    return checks + random_policy(env, params, _play(reference, rng), episodes, rng)
