"""Random stepping with auto-reset: our environments beside their originals, gymnax's and envpool's, in one run.

    python -m benchmarks.stepping [--names CartPole-v1 …] [--num-envs 1 256 4096] [--turns 3] [--out FILE]

Ours and gymnax are each one compiled scan over a batch of environments with actions drawn inside; ours has one device
for each core, as `jaxrl train` has, gymnax all cores in one device, which is JAX's default; envpool steps its batch in
C++ on all cores, with actions drawn by NumPy; the originals step one environment in a Python loop. Every figure is the
median of rounds in which all contenders take turns (A B C A B C), with the slowest and the fastest round beside it.
Compilation is timed apart. The results go to a JSON file from which `docs/generate.py` makes the table of
docs/environments.md.
"""

import argparse
import gc
import importlib.util
import json
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from benchmarks.machine import machine
from envs import episode, spaces
from envs.wrappers import Wrapper
from jaxrl.placement import map_runs, spread, use_all_cores
from jaxrl.rollout import rollout
from jaxrl.types import Policy

SECONDS = 0.2  # that one turn lasts at least
ORIGINAL_STEPS = 32  # between two looks at the clock
SHARDED = 256  # from so many environments on ours are shared by all devices
RESULTS = Path(__file__).parent / "results" / "stepping.json"

# Ours -> gymnax's, where the names differ; gymnax 0.0.9's SimpleBandit-bsuite cannot take a step (an IndexError).
GYMNAX_NAMES = {"FourRooms-v0": "FourRooms-misc", "SimpleBandit-bsuite": ""}


def length(num_envs: int) -> int:
    """Steps of a rollout, few enough to stay in the cache."""
    return min(1024, max(8192 // num_envs, min(32, 2**18 // num_envs), 8))


class Contender:
    """Something that steps environments: one call of `turn` advances `steps` of them."""

    def __init__(self, turn: Callable[[], Any], steps: int, compile_seconds: float) -> None:
        self.turn, self.steps, self.compile_seconds = turn, steps, compile_seconds
        self.speeds: list[float] = []

    def go(self) -> None:
        """Takes turns until SECONDS are over, and notes the steps per second."""
        start, calls = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < SECONDS or calls == 0:
            self.turn()
            calls += 1
        self.speeds.append(calls * self.steps / elapsed)

    def figures(self) -> dict[str, float]:
        """Median, slowest and fastest turn in steps per second, and the seconds of compilation."""
        return {
            "median": round(statistics.median(self.speeds)),
            "min": round(min(self.speeds)),
            "max": round(max(self.speeds)),
            "compile_seconds": round(self.compile_seconds, 1),
        }


def compiled(advance: Callable[[Any, jax.Array], Any], carry: Any, num_envs: int) -> Contender:
    """A contender out of a function (carry, key) -> carry that takes `length` steps in `num_envs` environments.

    One call of the program repeats it often enough that the call itself costs nothing.
    """

    def repeat(carry: Any, key: jax.Array, times: jax.Array) -> Any:
        return jax.lax.fori_loop(0, times, lambda i, carry: advance(carry, jax.random.fold_in(key, i)), carry)

    start = time.perf_counter()
    # Without donation the loop could not keep its buffers in place across calls.
    program = jax.jit(repeat, donate_argnums=0).lower(carry, jax.random.key(0), 1).compile()
    seconds = time.perf_counter() - start
    state = {"carry": carry, "key": jax.random.key(1)}

    def turn(times: int) -> float:
        state["key"], key = jax.random.split(state["key"])
        start = time.perf_counter()
        state["carry"] = jax.block_until_ready(program(state["carry"], key, times))
        return time.perf_counter() - start

    turn(1)
    times = math.ceil(SECONDS / 4 / turn(1))
    return Contender(lambda: turn(times), times * length(num_envs) * num_envs, seconds)


def random_actions(space: spaces.Space, key: jax.Array, num_envs: int) -> Any:
    """Uniform actions for a batch, one call of the generator where that is possible: the same for us and for gymnax."""
    if isinstance(space, spaces.Discrete):  # as randint, without its division
        return (((jax.random.bits(key, (num_envs,)) >> 16) * space.n) >> 16).astype(jnp.int32)
    if isinstance(space, spaces.Box) and np.isfinite([space.lower, space.upper]).all():
        return jax.random.uniform(key, (num_envs, *space.shape), space.dtype, space.lower, space.upper)
    return jax.vmap(lambda k: spaces.sample(space, k))(jax.random.split(key, num_envs))


def ours(name: str, num_envs: int) -> Contender:
    """Our environment under the collector that the agents use, large batches shared by all devices as runs are."""
    env, params = envs.make(name)
    shards = jax.local_device_count() if num_envs >= SHARDED else 1
    share = num_envs // shards

    def act(key: jax.Array, obs: Any, memory: Any) -> Any:
        del obs
        return random_actions(env.action_space, key, share), memory, ()

    def advance_share(carry: Any, key: jax.Array) -> Any:
        state, total = carry
        out = rollout(env, params, Policy(act), state, (), key, length(num_envs))
        return out.episode, total + out.transitions.reward.sum()  # else the compiler drops rewards that nobody reads

    def advance(carry: Any, key: jax.Array) -> Any:
        return map_runs(advance_share)(carry, jax.random.split(key, shards))

    start = jax.jit(map_runs(lambda key: episode.reset(env, params, key, share)))
    state = start(spread(jax.random.split(jax.random.key(0), shards)))
    return compiled(advance, (state, spread(jnp.zeros(shards))), num_envs)


def of_gymnax(name: str, num_envs: int) -> Contender | None:
    """The environment of gymnax as its documentation steps it; None where it has none."""
    if importlib.util.find_spec("gymnax") is None:
        return None
    gymnax: Any = importlib.import_module("gymnax")
    ours_name, name = name, GYMNAX_NAMES.get(name, name)
    if name not in gymnax.registered_envs:
        return None
    env, params = gymnax.make(name)
    theirs = env.action_space(params)
    space = spaces.Discrete(theirs.n) if hasattr(theirs, "n") else envs.make(ours_name)[0].action_space

    def one_step(carry: Any, key: jax.Array) -> Any:
        _, state, total = carry
        key_act, key_step = jax.random.split(key)
        action = random_actions(space, key_act, num_envs)
        keys = jax.random.split(key_step, num_envs)
        obs, state, reward, *_ = jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, state, action, params)
        return (obs, state, total + reward.sum()), None

    def advance(carry: Any, key: jax.Array) -> Any:
        return jax.lax.scan(one_step, carry, jax.random.split(key, length(num_envs)))[0]

    reset = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))
    start = reset(jax.random.split(jax.random.key(0), num_envs), params)
    return compiled(advance, (*start, jnp.float32(0)), num_envs)


def original(name: str) -> tuple[str, Contender] | None:
    """(package, the original implementation in a Python loop), or None where there is none."""
    if name.endswith("-MinAtar"):
        return _minatar(name)
    if name.endswith("-bsuite"):
        return _bsuite(name)
    package = "minigrid" if name.startswith("MiniGrid-") else "gymnasium"
    if importlib.util.find_spec(package) is None:
        return None
    import gymnasium

    if package == "minigrid":
        importlib.import_module("minigrid")
    if name not in gymnasium.registry:
        return None
    env = gymnasium.make(name)
    env.reset(seed=0)
    env.action_space.seed(0)

    def turn() -> None:
        for _ in range(ORIGINAL_STEPS):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()

    return f"{package} {version(package)}", Contender(turn, ORIGINAL_STEPS, 0.0)


def _minatar(name: str) -> tuple[str, Contender] | None:
    if importlib.util.find_spec("minatar") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from minatar import Environment
    game = {"SpaceInvaders": "space_invaders"}.get(name.partition("-")[0], name.partition("-")[0].lower())
    env, rng = Environment(game), np.random.default_rng(0)

    def turn() -> None:
        for _ in range(ORIGINAL_STEPS):
            _, terminal = env.act(int(rng.integers(6)))
            env.state()
            if terminal:
                env.reset()

    return f"minatar {version('minatar')}", Contender(turn, ORIGINAL_STEPS, 0.0)


# Ours -> bsuite's experiment of the same settings.
BSUITE_IDS = {
    "Catch-bsuite": "catch/0",
    "DeepSea-bsuite": "deep_sea/0",
    "DeepSeaStochastic-bsuite": "deep_sea_stochastic/0",
    "MemoryChain-bsuite": "memory_len/0",
    "UmbrellaChain-bsuite": "umbrella_length/0",
    "DiscountingChain-bsuite": "discounting_chain/0",
    "CartPoleSwingUp-bsuite": "cartpole_swingup/0",
}


def _bsuite(name: str) -> tuple[str, Contender] | None:
    if name not in BSUITE_IDS or importlib.util.find_spec("bsuite") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import bsuite

        env = bsuite.load_from_id(BSUITE_IDS[name])
    rng = np.random.default_rng(0)
    specification: Any = env.action_spec()
    actions = specification.num_values
    env.reset()

    def turn() -> None:
        for _ in range(ORIGINAL_STEPS):
            env.step(int(rng.integers(actions)))  # steps after an ending start anew

    return f"bsuite {version('bsuite')}", Contender(turn, ORIGINAL_STEPS, 0.0)


def of_envpool(name: str, num_envs: int) -> Contender | None:
    """Envpool's environment of that name, if it is installed and has one."""
    if importlib.util.find_spec("envpool") is None:
        return None
    envpool: Any = importlib.import_module("envpool")
    if name not in envpool.list_all_envs():
        return None
    env = envpool.make_gymnasium(name, num_envs=num_envs, num_threads=jax.local_device_count())
    env.reset()
    space, draws = env.action_space, np.random.default_rng(0)

    def turn() -> None:
        for _ in range(ORIGINAL_STEPS):
            if hasattr(space, "n"):
                action = draws.integers(space.n, size=num_envs, dtype=np.int32)
            else:
                action = draws.uniform(space.low, space.high, (num_envs, *space.shape)).astype(space.dtype)
            env.step(action)  # where an episode has ended, this starts the next

    return Contender(turn, ORIGINAL_STEPS * num_envs, 0.0)


def measure(name: str, sizes: list[int], turns: int) -> dict[str, Any]:
    """All contenders: {"devices": ours, "ours": {size: figures}, "gymnax": …, "envpool": …, "original": {…}}."""
    entry: dict[str, Any] = {"devices": jax.local_device_count(), "ours": {}, "gymnax": {}, "envpool": {}}
    found = original(name)
    for index, num_envs in enumerate(sizes):
        contenders = {"ours": ours(name, num_envs)}
        if (peer := of_gymnax(name, num_envs)) is not None:
            contenders["gymnax"] = peer
        if (peer := of_envpool(name, num_envs)) is not None:
            contenders["envpool"] = peer
        if index == 0 and found is not None:
            contenders["original"] = found[1]
        for _ in range(turns):
            for contender in contenders.values():
                contender.go()
        for who, contender in contenders.items():
            if who == "original":
                entry["original"] = {"package": found[0] if found else "", **contender.figures()}
            else:
                entry[who][str(num_envs)] = contender.figures()
        del contenders
        gc.collect()
    return entry


def one_of_each_kind() -> list[str]:
    """The first name of each class, wrappers counted: names that differ in options alone step alike."""
    found: dict[tuple[type, ...], str] = {}
    for name in envs.names():
        env, kind = envs.make(name)[0], []
        while isinstance(env, Wrapper):
            kind.append(type(env))
            env = env.env
        found.setdefault((*kind, type(env)), name)
    return sorted(found.values())


def main() -> None:
    """Measures what the command line asks for; environments that are in FILE already are measured anew."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--names", nargs="+", default=one_of_each_kind())
    parser.add_argument("--num-envs", nargs="+", type=int, default=[1, 256, 4096])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    use_all_cores()
    jax.config.update("jax_enable_compilation_cache", False)
    old = json.loads(options.out.read_text()) if options.out.exists() else {"environments": {}}
    peers = {name: version(name) if importlib.util.find_spec(name) else None for name in ("gymnax", "envpool")}
    old["machine"] = machine() | peers
    for name in options.names:
        sys.stderr.write(f"{name} …\n")
        old["environments"][name] = measure(name, options.num_envs, options.turns)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(old, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
