"""What every agent computes, recorded from toy runs of three iterations: a net under changes that should alter nothing.

A case is an agent, an environment, a configuration and hyper-parameters, from one fixed key, or from four (`lanes`).
Recorded are the state after the last iteration without `hp` and `env_params`, the metrics of every iteration, and the
actions of the greedy policy. The state is the multiset of its leaves, whatever they are called and however they are
nested, so that a State can be renamed and regrouped without a new record. Its int32 scalars are a group of their own,
the counters.

A leaf of up to 256 numbers is recorded in full. Of a larger one there are a few statistics (floats) or a digest
(everything else). Floats agree to a tolerance, everything else bitwise. A leaf of uint32 is taken for packed words, as
replay memories hold them: those that read as ordinary floats agree to the tolerance of floats.

    python -m tests.jaxrl.records                   record all agents anew
    python -m tests.jaxrl.records dqn sac           some of them
    python -m tests.jaxrl.records --counters dqn    their counters alone
"""

import argparse
import dataclasses
import functools
import hashlib
import inspect
import json
import runpy
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import envs
from envs import spaces
from envs.base import Env
from jaxrl import agents

FOLDER = Path(__file__).with_name("records")
ITERATIONS = 3
SEED = 7
LANES = 4
IN_FULL = 256  # numbers in a leaf
NUM_SAMPLES = 16  # entries kept of a larger one
RTOL, ATOL = 1e-5, 1e-6  # the second is relative to the largest number of a leaf
# Absolute. Some gradients are zero but for rounding; metrics are often small differences of numbers near 1.
STATE_FLOOR, METRICS_FLOOR = 5e-8, 1e-6


class Case(NamedTuple):
    """A toy run."""

    agent: str
    env: str
    options: dict[str, Any]  # of the environment
    config: dict[str, Any]
    hp: dict[str, Any]
    lanes: bool = False


class Leaf(NamedTuple):
    """What is kept of an array."""

    kind: str  # dtype and shape
    numbers: np.ndarray  # f64: all of them, or statistics
    digest: str = ""  # of a large array, of all that must agree bitwise; "" for a small one


class Entry(NamedTuple):
    """A recorded leaf and where it belongs."""

    where: str  # "state", "counters", "actions" or the name of a metric
    leaf: Leaf


# ---------------------------------------------------------------------------------------------------------------------
# Cases
# ---------------------------------------------------------------------------------------------------------------------

# Short episodes: every run sees the end of some, by the time limit and, where there is one, by the environment.
CARTPOLE = ("CartPole-v1", {"max_steps": 14})
HIDDEN_CARTPOLE = ("CartPole-Hidden-v0", {})
PENDULUM = ("Pendulum-v1", {"max_steps": 8})
CATCH = ("Catch-bsuite", {"rows": 4, "columns": 3})
BITS = ("BitFlipping-v0", {"bits": 4, "max_steps": 4})
TMAZE = ("TMaze-v0", {"corridor_length": 3, "max_steps": 9})
GRID = ("GridWorld-5x5", {"max_steps": 12})
CLIFF = ("CliffWalking-v1", {})
WALK = ("RandomWalk-5", {})
BANDIT = ("Bandit-10", {})
MAZE = ("DynaMaze-v0", {})
BREAKOUT = ("Breakout-MinAtar", {})

HIDDEN = {"hidden": (8,)}
REPLAY = HIDDEN | {"num_envs": 4, "num_updates": 2, "batch_size": 16, "replay_capacity": 200, "warmup_steps": 56}
FULL = REPLAY | {"replay_capacity": 58}  # its ring begins anew
VALUES = {"learning_rate": 5e-3, "epsilon_fraction": 0.1, "target_period": 4}
ROLLOUT = HIDDEN | {"num_envs": 4, "rollout_length": 8}
EPOCHS = {"num_epochs": 2, "num_minibatches": 2}
NORMALIZED = {"normalize_obs": True, "normalize_reward": True}
TARGET = {"target_rate": 0.1}
SLOW = {"learning_rate": 2e-4}  # keys have biases without gradient, which move by rounding alone
TABLE = {"num_envs": 2, "steps_per_iteration": 20}
TABLE_HP = {"epsilon_start": 0.5, "epsilon_end": 0.1}
SOFTMAX = {"exploration": "softmax"}
PER_EPISODE = {"epsilon_schedule": "per_episode"}
PER_EPISODE_HP = {"learning_rate_decay": 0.1, "epsilon_start": 0.9, "epsilon_decay": 0.8}

_TABLE: list[tuple[str, str, tuple[str, dict[str, Any]], dict[str, Any], dict[str, Any]]] = [
    # agent, variant, environment, configuration, hyper-parameters
    ("a2c", "discrete", CARTPOLE, ROLLOUT, {}),
    (
        "a2c",
        "continuous",
        PENDULUM,
        ROLLOUT | {"squash": "tanh", "epsilon_in_root": False, "anneal_learning_rate": False},
        {"entropy_coef": 0.01, "gae_lambda": 0.9},
    ),
    ("a2c", "normalized", CARTPOLE, ROLLOUT | NORMALIZED | {"shared_torso": True, "normalize_advantage": True}, {}),
    ("actor_critic", "discrete", CARTPOLE, HIDDEN | {"num_envs": 4, "steps_per_iteration": 8}, {}),
    (
        "actor_critic",
        "continuous",
        PENDULUM,
        HIDDEN | {"num_envs": 4, "steps_per_iteration": 4, "discount_gradient": True, "anneal_learning_rate": False},
        {},
    ),
    ("apg", "default", PENDULUM, HIDDEN | {"num_envs": 4, "horizon": 6, "critic_epochs": 2}, {}),
    *[
        (
            "awr",
            variant,
            env,
            ROLLOUT | {"num_rollouts": rollouts, "critic_steps": 3, "policy_steps": 4, "batch_size": 16},
            {},
        )
        for variant, env, rollouts in (("discrete", CARTPOLE, 2), ("continuous", PENDULUM, 4))
    ],
    ("bandit", "epsilon_greedy", BANDIT, TABLE, {}),
    ("bandit", "constant_step", BANDIT, TABLE | {"sample_average": False}, {"initial_value": 2.0}),
    ("bandit", "ucb", BANDIT, TABLE | {"method": "ucb"}, {}),
    ("bandit", "gradient", BANDIT, TABLE | {"method": "gradient"}, {}),
    ("bandit", "gradient_alone", BANDIT, TABLE | {"method": "gradient", "baseline": False}, {}),
    (
        "bootstrapped_dqn",
        "default",
        CATCH,
        REPLAY | {"num_members": 3},
        {"learning_rate": 5e-3, "target_period": 4},
    ),
    ("c51", "default", CARTPOLE, REPLAY | {"num_atoms": 11}, VALUES),
    ("c51", "soft_target", CATCH, REPLAY | {"num_atoms": 7, "rollout_length": 3}, TARGET | {"target_period": 1}),
    (
        "crossq",
        "default",
        PENDULUM,
        REPLAY | {"num_updates": 3, "critic_hidden": (8,)},
        {},
    ),
    ("d4pg", "default", PENDULUM, REPLAY | {"num_atoms": 11}, TARGET),
    (
        "d4pg",
        "one_step",
        PENDULUM,
        REPLAY | {"num_atoms": 7, "n_step": 1, "normalize_obs": True},
        TARGET | {"noise_theta": 0.3, "v_min": -20.0, "v_max": 0.0},
    ),
    ("ddpg", "default", PENDULUM, REPLAY, TARGET),
    ("ddpg", "n_step", PENDULUM, REPLAY | {"n_step": 3, "normalize_obs": True}, TARGET | {"noise_theta": 0.3}),
    ("dqn", "default", CARTPOLE, REPLAY, VALUES),
    (
        "dqn",
        "prioritized",
        CARTPOLE,
        FULL | {"double": True, "dueling": True, "n_step": 3, "prioritized": True},
        VALUES,
    ),
    ("dqn", "noisy", CARTPOLE, REPLAY | {"exploration": "noisy", "munchausen": True}, VALUES),
    ("dqn", "noisy_double", CARTPOLE, REPLAY | {"exploration": "noisy", "double": True, "huber": True}, VALUES),
    (
        "dqn",
        "softmax",
        CATCH,
        FULL | SOFTMAX | {"weights": "lecun", "rollout_length": 3},
        TARGET | {"target_period": 1, "temperature": 0.5},
    ),
    ("dqn", "hindsight", BITS, REPLAY | {"hindsight": 2, "rollout_length": 4}, VALUES),
    ("dqn", "pictures", BREAKOUT, REPLAY | {"torso": "minatar_cnn", "warmup_steps": 20, "replay_capacity": 60}, VALUES),
    ("dyna_q", "default", MAZE, TABLE | {"planning_steps": 3}, {}),
    ("dyna_q", "bonus", MAZE, TABLE | {"planning_steps": 3, "exploration_bonus": True}, {"bonus": 1e-2}),
    ("dyna_q", "prioritized", GRID, TABLE | {"planning_steps": 3, "prioritized": True}, {}),
    ("dyna_q", "model_free", GRID, TABLE | {"planning_steps": 0}, {}),
    ("es", "discrete", CARTPOLE, HIDDEN | {"population": 6, "episodes": 2}, {}),
    ("es", "continuous", PENDULUM, HIDDEN | {"population": 4, "horizon": 6, "normalize_obs": True}, {}),
    ("impala", "default", CARTPOLE, ROLLOUT, {}),
    ("impala", "no_lag", CARTPOLE, ROLLOUT | {"lag": 0, "shared_torso": True}, {}),
    ("impala", "uncorrected", PENDULUM, ROLLOUT | {"lag": 1, "correct": False, "anneal_learning_rate": False}, {}),
    ("iqn", "default", CARTPOLE, REPLAY | {"hidden": (8, 8), "num_cosines": 4}, VALUES),
    (
        "iqn",
        "quantiles",
        CARTPOLE,
        REPLAY
        | {
            "hidden": (8, 8),
            "num_cosines": 4,
            "num_quantiles": 3,
            "num_target_quantiles": 5,
            "num_policy_quantiles": 4,
            "rollout_length": 2,
        },
        TARGET | {"target_period": 1},
    ),
    ("monte_carlo", "default", GRID, {"num_envs": 2, "rollout_length": 30}, TABLE_HP),
    (
        "monte_carlo",
        "every_visit",
        GRID,
        {"num_envs": 2, "rollout_length": 30, "first_visit": False, "sample_average": False},
        TABLE_HP,
    ),
    ("monte_carlo", "softmax", WALK, {"num_envs": 2, "rollout_length": 30} | SOFTMAX, {}),
    ("mpo", "default", PENDULUM, REPLAY | {"num_samples": 6, "target_period": 3}, {}),
    ("n_step_sarsa", "default", GRID, TABLE, TABLE_HP),
    ("n_step_sarsa", "tree_backup", GRID, TABLE | PER_EPISODE | {"n": 3, "tree_backup": True}, PER_EPISODE_HP),
    ("n_step_sarsa", "softmax", CLIFF, TABLE | SOFTMAX | {"n": 2}, {}),
    ("ppo", "discrete", CARTPOLE, ROLLOUT | EPOCHS, {}),
    ("ppo", "continuous", PENDULUM, ROLLOUT | EPOCHS, {}),
    ("ppo", "tanh", PENDULUM, ROLLOUT | EPOCHS | {"squash": "tanh", "clip_value": False}, {}),
    ("ppo", "kl_penalty", CARTPOLE, ROLLOUT | EPOCHS | {"surrogate": "kl_penalty"}, {"learning_rate": 0.01}),
    ("ppo", "early_stop", CARTPOLE, ROLLOUT | EPOCHS | {"early_stop": True}, {"learning_rate": 0.03}),
    ("ppo", "normalized", CARTPOLE, ROLLOUT | EPOCHS | NORMALIZED, {}),
    ("ppo", "shared_torso", CARTPOLE, ROLLOUT | EPOCHS | {"shared_torso": True, "anneal_learning_rate": False}, {}),
    (
        "ppo",
        "minibatches_by_sorting",
        CARTPOLE,
        ROLLOUT | {"rollout_length": 9, "num_epochs": 2, "num_minibatches": 3, "normalize_advantage": False},
        {},
    ),
    ("ppo_recurrent", "gru", HIDDEN_CARTPOLE, ROLLOUT | EPOCHS | {"memory_size": 8, "time_scale": 10}, {}),
    (
        "ppo_recurrent",
        "lstm",
        TMAZE,
        ROLLOUT | EPOCHS | {"memory_size": 6, "cell": "lstm", "normalize_reward": False, "anneal_learning_rate": False},
        {},
    ),
    ("ppo_transformer", "default", TMAZE, ROLLOUT | EPOCHS | {"hidden": (), "features": 8, "memory_length": 4}, SLOW),
    (
        "ppo_transformer",
        "plain",
        HIDDEN_CARTPOLE,
        ROLLOUT
        | EPOCHS
        | {"features": 8, "memory_length": 6, "normalize_reward": False, "anneal_learning_rate": False},
        SLOW,
    ),
    ("pqn", "default", CARTPOLE, ROLLOUT | EPOCHS, {}),
    ("pqn", "plain", CATCH, ROLLOUT | EPOCHS | {"layer_norm": False, "anneal_learning_rate": False}, {"q_lambda": 0.5}),
    ("q_learning", "default", GRID, TABLE, TABLE_HP),
    ("q_learning", "double", CLIFF, TABLE | {"double": True}, TABLE_HP),
    ("q_learning", "softmax", GRID, TABLE | SOFTMAX, {"learning_rate_decay": 0.1}),
    ("q_learning", "per_episode", GRID, TABLE | PER_EPISODE, PER_EPISODE_HP),
    ("qr_dqn", "default", CARTPOLE, REPLAY | {"num_quantiles": 5}, VALUES),
    ("qr_dqn", "soft_target", CATCH, REPLAY | {"num_quantiles": 7, "rollout_length": 3}, TARGET | {"target_period": 1}),
    *[
        (
            "r2d2",
            variant,
            env,
            HIDDEN
            | {
                "num_envs": 4,
                "rollout_length": 4,
                "burn_in": 3,
                "num_updates": 2,
                "batch_size": 8,
                "replay_capacity": 20,
                "warmup_steps": 48,
                "memory_size": 6,
            }
            | config,
            VALUES,
        )
        for variant, env, config in (
            ("default", HIDDEN_CARTPOLE, {}),
            ("zero_memory", HIDDEN_CARTPOLE, {"stored_memory": False}),
            ("rescaled", TMAZE, {"burn_in": 0, "n_step": 1, "double": False, "value_rescaling": True, "hidden": ()}),
        )
    ],
    ("rainbow", "default", CARTPOLE, REPLAY | {"num_atoms": 11}, VALUES),
    ("rainbow", "scalar", CARTPOLE, REPLAY | {"distributional": False}, VALUES),
    (
        "rainbow",
        "greedy",
        CARTPOLE,
        REPLAY | {"num_atoms": 7, "noisy": False, "double": False, "n_step": 1},
        VALUES | {"v_min": -5.0, "v_max": 15.0},
    ),
    (
        "rainbow",
        "none",
        CATCH,
        REPLAY
        | dict.fromkeys(("double", "prioritized", "dueling", "distributional", "noisy"), False)
        | {"n_step": 1, "rollout_length": 2},
        VALUES,
    ),
    ("reinforce", "value", CARTPOLE, ROLLOUT | {"rollout_length": 16}, {}),
    ("reinforce", "mean", CARTPOLE, ROLLOUT | {"rollout_length": 16, "baseline": "mean"}, {"gamma": 0.8}),
    ("reinforce", "none", PENDULUM, ROLLOUT | {"baseline": "none", "anneal_learning_rate": False}, {}),
    ("sac", "default", PENDULUM, REPLAY, TARGET),
    ("sac", "redq", PENDULUM, REPLAY | {"num_critics": 4, "target_subset": 2, "critic_steps": 2}, TARGET),
    ("sac", "dropout", PENDULUM, REPLAY | {"dropout": 0.1, "layer_norm": True}, TARGET),
    ("sac", "n_step", PENDULUM, REPLAY | {"n_step": 3}, TARGET | {"noise_theta": 0.3}),
    ("sac", "normalized", PENDULUM, REPLAY | {"normalize_obs": True, "rollout_length": 2}, TARGET),
    ("sac_discrete", "default", CARTPOLE, REPLAY, TARGET),
    ("sac_discrete", "n_step", CARTPOLE, REPLAY | {"n_step": 3, "normalize_obs": True}, TARGET),
    ("sarsa", "default", GRID, TABLE, TABLE_HP),
    ("sarsa", "expected", CLIFF, TABLE | {"expected": True}, TABLE_HP),
    ("sarsa", "expected_softmax", GRID, TABLE | SOFTMAX | {"expected": True}, {}),
    ("sarsa", "per_episode", GRID, TABLE | PER_EPISODE, PER_EPISODE_HP),
    ("sarsa_lambda", "accumulating", GRID, TABLE, TABLE_HP),
    ("sarsa_lambda", "replacing", GRID, TABLE | PER_EPISODE | {"trace": "replacing"}, PER_EPISODE_HP),
    ("sarsa_lambda", "dutch", CLIFF, TABLE | SOFTMAX | {"trace": "dutch"}, {}),
    ("sarsa_lambda", "off_policy", GRID, TABLE | {"off_policy": True}, TABLE_HP),
    ("td3", "default", PENDULUM, REPLAY, TARGET),
    ("td3", "n_step", PENDULUM, REPLAY | {"n_step": 3, "normalize_obs": True}, TARGET | {"noise_theta": 0.3}),
    ("tqc", "default", PENDULUM, REPLAY | {"num_quantiles": 5}, TARGET),
    (
        "tqc",
        "three_critics",
        PENDULUM,
        REPLAY | {"num_critics": 3, "num_quantiles": 4, "num_dropped": 1, "n_step": 2, "normalize_obs": True},
        TARGET | {"noise_theta": 0.3},
    ),
    *[
        (
            "trpo",
            variant,
            env,
            ROLLOUT
            | {"cg_iterations": 3, "line_search_steps": 4, "critic_epochs": 2, "critic_minibatches": 2}
            | config,
            {},
        )
        for variant, env, config in (
            ("discrete", CARTPOLE, {}),
            ("continuous", PENDULUM, {"squash": "tanh"}),
            ("normalized", CARTPOLE, NORMALIZED),
        )
    ],
]
_IN_LANES = (
    "ppo-discrete",
    "dqn-default",
    "sac-default",
    "ppo_recurrent-gru",
    "q_learning-default",
    "dqn-prioritized",
)

CASES = {f"{agent}-{variant}": Case(agent, *env, config, hp) for agent, variant, env, config, hp in _TABLE}
CASES |= {f"{name}-lanes": CASES[name]._replace(lanes=True) for name in _IN_LANES}


# ---------------------------------------------------------------------------------------------------------------------
# Running a case
# ---------------------------------------------------------------------------------------------------------------------


def run(case: Case) -> list[Entry]:
    """Runs a case and describes what came of it."""
    module = agents.get(case.agent)
    env, env_params = envs.make(case.env, **case.options)
    agent = module.make(env, module.Config(**case.config))
    horizon = {"total_steps": 1000.0} if "total_steps" in inspect.signature(module.Hyperparams).parameters else {}
    hp = module.Hyperparams(**horizon | case.hp)

    def program(key: jax.Array, hp: Any, env_params: Any) -> tuple[Any, Any, Any]:
        state = agent.init(key, hp, env_params)
        state, metrics = jax.lax.scan(lambda state, _: agent.step(state), state, None, length=ITERATIONS)
        policy = agent.policy(state)

        def act(memory: Any, obs: Any) -> tuple[Any, Any]:
            action, memory, _ = policy.act(jax.random.key(12), obs, memory)
            return memory, action

        twice = jax.tree.map(lambda x: jnp.stack([x, x[::-1]]), _observations(env))  # for those that remember
        memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (8, *jnp.shape(x))), policy.memory)
        _, actions = jax.lax.scan(act, memory, twice)
        return _without(state, "hp", "env_params"), metrics, actions

    if case.lanes:
        keys = jax.vmap(jax.random.key)(SEED + jnp.arange(LANES))
        state, metrics, actions = jax.jit(jax.vmap(program, (0, None, None)))(keys, hp, env_params)
    else:
        state, metrics, actions = jax.jit(program)(jax.random.key(SEED), hp, env_params)

    scalar = (LANES,) if case.lanes else ()
    entries = [
        Entry("counters" if x.dtype == jnp.int32 and x.shape == scalar else "state", describe(x))
        for x in jax.tree.leaves(state)
    ]
    entries += [
        Entry("metrics." + jax.tree_util.keystr(path[-1:], simple=True), describe(x))
        for path, x in jax.tree_util.tree_leaves_with_path(metrics)
    ]
    return entries + [Entry("actions", describe(x)) for x in jax.tree.leaves(actions)]


@functools.lru_cache
def _observations(env: Env) -> Any:
    """Eight of them, NumPy arrays [8, ...]."""
    draw = jax.jit(jax.vmap(lambda key: spaces.sample(env.observation_space, key)))
    with jax.ensure_compile_time_eval():
        return jax.tree.map(np.asarray, draw(jax.random.split(jax.random.key(11), 8)))


def _without(state: Any, *names: str) -> Any:
    nothing: dict[str, Any] = dict.fromkeys(names, ())
    if hasattr(state, "_replace"):
        return state._replace(**nothing)
    return dataclasses.replace(state, **nothing)


# ---------------------------------------------------------------------------------------------------------------------
# Describing and comparing arrays
# ---------------------------------------------------------------------------------------------------------------------


def describe(leaf: jax.Array) -> Leaf:
    """Keeps what is compared of an array or an array of typed keys."""
    kind = f"{leaf.dtype}{list(leaf.shape)}"
    x = np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
    if x.size <= IN_FULL:
        return Leaf(kind, x.astype(np.float64).reshape(-1))  # holds integers of 32 bits as they are
    floats, rest = _parts(kind, x)
    statistics = np.array([]) if floats is None else _statistics(floats)
    return Leaf(kind, statistics, hashlib.sha256(np.ascontiguousarray(rest).tobytes()).hexdigest())


def _parts(kind: str, x: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """What agrees to a tolerance, as f64 with zeros elsewhere, or None; and what agrees bitwise, zeros elsewhere."""
    if "float" in kind:
        floats = x.astype(np.float64)
        ordinary = np.isfinite(floats)
        rest = np.where(ordinary, 0, np.where(np.isnan(floats), 1, np.where(floats > 0, 2, 3))).astype(np.uint8)
    elif kind.startswith("uint32"):
        # Integers near 0 read as subnormal numbers or as nan.
        with np.errstate(invalid="ignore"):
            floats = x.view(np.float32).astype(np.float64)
        ordinary = np.isfinite(floats) & ((np.abs(floats) >= np.finfo(np.float32).tiny) | (floats == 0))
        rest = np.where(ordinary, 0, x)
    else:
        return None, x
    return np.where(ordinary, floats, 0.0), rest


def _statistics(x: np.ndarray) -> np.ndarray:
    """Sum, sum of squares, product with a fixed vector like noise of unit variance, and samples of f64[...]."""
    x = x.reshape(-1)
    noise = np.sqrt(2) * np.sin(np.arange(1.0, x.size + 1) ** 2)
    samples = x[np.linspace(0, x.size - 1, NUM_SAMPLES).astype(int)]
    return np.array([x.sum(), (x * x).sum(), (x * noise).sum(), *samples])


def excess(recorded: Leaf, today: Leaf, floor: float = STATE_FLOOR) -> float:
    """How far two arrays are apart, in tolerances: up to 1 they agree; infinite where no tolerance applies."""
    if recorded.kind != today.kind or recorded.digest != today.digest:
        return np.inf
    if recorded.digest:
        want, got = recorded.numbers, today.numbers
        if not want.size:
            return 0.0
        total, squares = np.abs(want[:2])
        size = _size(recorded.kind)
        norm, rms = np.sqrt(squares), np.sqrt(squares / size)
        tolerance = RTOL * np.array([max(norm, total), squares, norm, *np.maximum(np.abs(want[3:]), rms)]) + floor
        tolerance[1] = RTOL * squares + size * floor**2
        return float(np.max(np.abs(got - want) / tolerance))
    numbers = [leaf.numbers for leaf in (recorded, today)]
    if recorded.kind.startswith("uint32"):
        numbers = [x.astype(np.uint32) for x in numbers]
    (want, want_rest), (got, got_rest) = (_parts(recorded.kind, x) for x in numbers)
    if not np.array_equal(want_rest, got_rest):
        return np.inf
    if want is None or not want.size:
        return 0.0
    tolerance = RTOL * np.abs(want) + ATOL * np.abs(want).max() + floor
    return float(np.max(np.abs(got - want) / tolerance))


def _size(kind: str) -> int:
    return int(np.prod(json.loads(kind[kind.index("[") :])))


def without_partner(recorded: list[Leaf], today: list[Leaf]) -> list[Leaf]:
    """The recorded leaves that are left over when as many as possible are paired with agreeing ones of today."""
    agreeing = [[j for j, leaf in enumerate(today) if excess(wanted, leaf) <= 1] for wanted in recorded]
    partner: dict[int, int] = {}  # of a leaf of today

    def place(i: int, tried: set[int]) -> bool:
        for j in agreeing[i]:
            if j not in tried:
                tried.add(j)
                if j not in partner or place(partner[j], tried):
                    partner[j] = i
                    return True
        return False

    return [leaf for i, leaf in enumerate(recorded) if not place(i, set())]


def differences(recorded: list[Entry], today: list[Entry]) -> list[str]:
    """Compares two outcomes of a case.

    Returns:
        A line for everything recorded that is not found today; metrics must also be the same set. Leaves that are new
        in the state are no difference.
    """

    def group(entries: list[Entry], where: str) -> list[Leaf]:
        return [leaf for name, leaf in entries if name == where]

    lines = []
    for where in ("state", "counters"):
        now = group(today, where)
        for leaf in without_partner(group(recorded, where), now):
            distances = [excess(leaf, other) for other in now if other.kind == leaf.kind]
            least = f"the nearest is {min(distances):.3g} tolerances away" if distances else "there is none"
            lines.append(f"{where}: {_text(leaf)} is gone; of {len(distances)} of its kind today {least}")
    for where in sorted({name for name, _ in recorded + today} - {"state", "counters"}):
        want, got = group(recorded, where), group(today, where)
        if len(want) != len(got):
            lines.append(f"{where}: recorded {len(want)} times, today {len(got)}")
            continue
        for one, other in zip(want, got, strict=True):
            distance = excess(one, other, METRICS_FLOOR if where != "actions" else STATE_FLOOR)
            if distance > 1:
                lines.append(f"{where}: {_text(one)}, today {_text(other)}, {distance:.3g} tolerances away")
    return lines


def _text(leaf: Leaf) -> str:
    few = ", ".join(f"{x:.7g}" for x in leaf.numbers[:4])
    return f"{leaf.kind} ({few}{', …' if leaf.numbers.size > 4 else ''})"


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------


def load(agent: str) -> dict[str, list[Entry]]:
    """Reads an agent's records: case -> entries."""
    with np.load(FOLDER / f"{agent}.npz") as file:
        case, where, kind, digest = (file[name].tolist() for name in ("case", "where", "kind", "digest"))
        numbers = np.split(file["numbers"], np.cumsum(file["size"])[:-1])
    records: dict[str, list[Entry]] = {}
    for name, place, *leaf in zip(case, where, kind, numbers, digest, strict=True):
        records.setdefault(name, []).append(Entry(place, Leaf(*leaf)))
    return records


def save(agent: str, records: dict[str, list[Entry]]) -> None:
    """Writes an agent's records."""
    rows = [(case, where, *leaf) for case, entries in records.items() for where, leaf in entries]
    case, where, kind, numbers, digest = zip(*rows, strict=True)
    np.savez_compressed(
        FOLDER / f"{agent}.npz",
        case=np.array(case),
        where=np.array(where),
        kind=np.array(kind),
        digest=np.array(digest),
        size=np.array([len(x) for x in numbers]),
        numbers=np.concatenate(numbers),
    )


def record(agent: str, counters_alone: bool = False) -> None:
    """Runs an agent's cases and writes what came of them, or of their counters alone."""
    records = {name: run(case) for name, case in CASES.items() if case.agent == agent}
    if counters_alone:
        old = load(agent)
        for name, entries in records.items():
            kept = [entry for entry in old[name] if entry.where != "counters"]
            records[name] = kept + [entry for entry in entries if entry.where == "counters"]
    save(agent, records)


def main() -> None:
    """Records the agents named on the command line."""
    parser = argparse.ArgumentParser(description="Record anew what agents compute.")
    parser.add_argument("agents", nargs="*", metavar="AGENT", help="all unless given")
    parser.add_argument("--counters", action="store_true", help="int32 scalars of the state alone")
    options = parser.parse_args()
    runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))  # compiled as in the tests
    for agent in options.agents or agents.NAMES:
        agents.get(agent)  # an error for an unknown name
        record(agent, options.counters)
        print(agent, flush=True)


if __name__ == "__main__":
    main()
