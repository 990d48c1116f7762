"""Our MiniGrid tasks against the original package: rules and views step by step, and layouts by their distributions."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import pytest
from scipy import stats

import envs
from envs.gridworld.minigrid import world
from envs.gridworld.minigrid.world import State

minigrid = pytest.importorskip("minigrid")

# Programs that run once are not worth optimising.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# One name for every class and view of ours; sizes at which a driver without memory ends some episodes.
NAMES = (
    "MiniGrid-Empty-Random-6x6-v0",
    "MiniGrid-DoorKey-6x6-v0",
    "MiniGrid-FourRooms-v0",
    "MiniGrid-MultiRoom-N4-S5-v1",
    "MiniGrid-MemoryS9-v0",
    "MiniGrid-Unlock-v0",
    "MiniGrid-UnlockPickup-v0",
    "MiniGrid-KeyCorridorS3R2-v0",
)
MORE_NAMES = (
    "MiniGrid-DoorKey-8x8-v0",
    "MiniGrid-MultiRoom-N2-S4-v0",
    "MiniGrid-MultiRoom-N6-v0",
    "MiniGrid-MemoryS7-v0",
    "MiniGrid-MemoryS17Random-v0",
    "MiniGrid-KeyCorridorS3R1-v0",
    "MiniGrid-KeyCorridorS4R3-v0",
    "MiniGrid-KeyCorridorS6R3-v0",
)


def original(name):
    import gymnasium

    return gymnasium.make(name).unwrapped


def code(obj):
    """One of the original's objects as a cell of ours."""
    if obj is None:
        return world.EMPTY
    kind, colour, state = obj.encode()
    return (world.OPEN, world.CLOSED, world.LOCKED)[state] | colour << 4 if kind == world.OPEN else kind | colour << 4


def state_of(env):
    """The original's state as ours."""
    target = 0
    if hasattr(env, "success_pos"):
        target = env.success_pos[1] * env.width + env.success_pos[0]
    elif hasattr(env, "obj"):
        target = code(env.obj) >> 4
    grid = np.array([code(obj) for obj in env.grid.grid], np.uint8).reshape(env.height, env.width)
    x, y = env.agent_pos
    return State(
        grid,
        np.int32(x),
        np.int32(y),
        np.int32(env.agent_dir),
        np.uint8(code(env.carrying)),
        np.int32(target),
        np.int32(env.step_count),
    )


def drive(env, rng):
    """Mostly walks on, turns at walls and handles what it meets, with enough chance to try every action anywhere."""
    if rng.random() < 0.25:
        return rng.integers(7)
    ahead = env.grid.get(*env.front_pos)
    turn_or_walk = rng.choice(3, p=(0.2, 0.2, 0.6))
    if ahead is None or ahead.can_overlap():
        return turn_or_walk
    if ahead.type == "door":
        return 5
    if ahead.can_pickup():
        return 4 if env.carrying else 3
    return rng.integers(2) if env.carrying is None or rng.random() < 0.9 else 4


def advance(env, rng):
    """Opens all doors and puts the agent beside what ends the task: a driver without a plan seldom gets there."""
    for obj in env.grid.grid if type(env).__name__ != "UnlockEnv" else ():
        if obj is not None and obj.type == "door":
            obj.is_open, obj.is_locked = True, False
    cells = [(i % env.width, i // env.width) for i in range(len(env.grid.grid))]
    for x, y in cells:
        if type(env).__name__ != "MemoryEnv" and getattr(env.grid.get(x, y), "type", None) in ("goal", "ball", "box"):
            beside = [(x + dx, y + dy) for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1))]
            free = [place for place in beside if env.grid.get(*place) is None]
            if free:
                env.agent_pos, env.agent_dir = free[rng.integers(len(free))], int(rng.integers(4))


class Run(NamedTuple):
    """Episodes in the original, padded to the same length: [episodes, steps, ...]."""

    start: State  # [episodes, ...]
    action: np.ndarray
    image: np.ndarray
    first_image: np.ndarray  # [episodes, ...]
    reward: np.ndarray
    terminated: np.ndarray
    state: State
    valid: np.ndarray  # the episode has not ended before


def play(name, episodes, steps, seed=0):
    env, rng = original(name), np.random.default_rng(seed)
    starts, firsts, runs = [], [], []
    for episode in range(episodes):
        env.reset(seed=seed + episode)
        if episode % 2:
            advance(env, rng)
        starts.append(state_of(env))
        firsts.append(env.gen_obs()["image"])
        rows = []
        for _ in range(steps):
            action = drive(env, rng)
            obs, reward, terminated, truncated, _ = env.step(action)
            rows.append((np.int32(action), obs["image"], np.float64(reward), terminated, state_of(env), True))
            if terminated or truncated:
                break
        rows += [(*rows[-1][:-1], False)] * (steps - len(rows))
        runs.append(stack(rows))
    action, image, reward, terminated, state, valid = stack(runs)
    return Run(stack(starts), action, image, np.stack(firsts), reward, terminated, state, valid)


def stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def compare(name, run):
    """Takes the same actions in ours; returns how many steps and endings were compared."""
    env, params = envs.make(name)

    @jit
    @jax.vmap
    def ours(state, actions):
        def step(state, action):
            out = env.step(None, state, action, params)
            return out.state, out

        return env.observe(state), jax.lax.scan(step, state, actions)[1]

    first, out = jax.device_get(ours(run.start, run.action))
    np.testing.assert_array_equal(first, run.first_image)
    valid = run.valid
    np.testing.assert_array_equal(out.obs[valid], run.image[valid])
    np.testing.assert_array_equal(out.terminated[valid], run.terminated[valid])
    np.testing.assert_allclose(out.reward[valid], run.reward[valid], rtol=1e-6)
    for field in State._fields:
        np.testing.assert_array_equal(getattr(out.state, field)[valid], getattr(run.state, field)[valid], field)
    return valid.sum(), run.terminated[valid].sum(), (run.reward[valid] > 0).sum()


@pytest.mark.parametrize("name", [name for name in NAMES if "FourRooms" not in name])
def test_steps(name):
    check_steps(name, episodes=16, steps=80)


def check_steps(name, episodes, steps):
    assert original(name).max_steps == envs.make(name)[0].max_steps
    compared, ends, rewards = compare(name, play(name, episodes, steps))
    assert compared > 0.2 * episodes * steps
    assert ends > 0
    assert rewards > 0


def original_layouts(name, number):
    env = original(name)
    env.reset(seed=0)
    states = []
    for _ in range(number):
        env.agent_pos, env.agent_dir = (-1, -1), -1
        env._gen_grid(env.width, env.height)
        states.append(state_of(env))
    return stack(states)


def our_layouts(name, number):
    env, _ = envs.make(name)
    return jax.device_get(jit(jax.vmap(env.layout))(jax.random.split(jax.random.key(0), number)))


def features(layouts):
    """What can differ between layouts, as whole numbers: [features][layouts]."""
    n, _, cols = layouts.grid.shape
    cells = layouts.grid.reshape(n, -1)
    found = {
        "agent": layouts.y * cols + layouts.x,
        "direction": layouts.direction,
        "target": layouts.target,
        "walls": (cells == world.WALL).sum(1),
        "walls above": (cells[:, : cells.shape[1] // 2] == world.WALL).sum(1),
        "walls on the left": (layouts.grid[:, :, : cols // 2] == world.WALL).sum((1, 2)),
        "ahead": cells[
            range(n),
            (layouts.y + (0, 1, 0, -1) @ (layouts.direction == np.arange(4)[:, None])) * cols
            + layouts.x
            + (1, 0, -1, 0) @ (layouts.direction == np.arange(4)[:, None]),
        ]
        & 15,
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


def same_distribution(a, b):
    """The p-value of a two-sample χ² test on whole numbers; rare ones count as one category."""
    values, category = np.unique(np.concatenate([a, b]), return_inverse=True)
    counts = np.stack([np.bincount(part, minlength=len(values)) for part in (category[: len(a)], category[len(a) :])])
    rare = counts.sum(0) < 20
    counts = np.concatenate([counts[:, ~rare], counts[:, rare].sum(1, keepdims=True)], 1)
    counts = counts[:, counts.sum(0) > 0]
    return stats.chi2_contingency(counts, correction=False).pvalue if counts.shape[1] > 1 else 1.0


def compare_layouts(name, number):
    """Returns the p-values of all features and of all pairs, which show what depends on what."""
    a, b = features(original_layouts(name, number)), features(our_layouts(name, number))
    varied = [key for key in a if len(np.unique(np.concatenate([a[key], b[key]]))) > 1]
    pairs = {(f, g): (a[f] % 7 * 7 + a[g] % 7, b[f] % 7 * 7 + b[g] % 7) for f in varied for g in varied if f < g}
    return {
        key: same_distribution(x.astype(int), y.astype(int))
        for key, (x, y) in ({key: (a[key], b[key]) for key in varied} | pairs).items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_layouts_are_distributed_as_the_originals(name):
    check_layouts(name, 300 if "MultiRoom" in name else 700)


def check_layouts(name, number):
    p = compare_layouts(name, number)
    assert len(p) > 3
    smallest = min(p, key=p.get)
    assert p[smallest] > 1e-3 / len(p), (smallest, p[smallest])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, *MORE_NAMES])
def test_many_steps_and_layouts(name):
    check_steps(name, episodes=100, steps=200)
    check_layouts(name, 5000)
