"""Start-up: seconds to import, to trace and compile each agent, and to start a second time with the cache.

    python -m benchmarks.startup [--agents ppo dqn …] [--out FILE]

The program that is compiled is what `jaxrl train` compiles for its stretches: training and the evaluation after it.
Every agent has a budget of seconds, in terms of PPO's on the same machine; what exceeds it makes the command fail.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

RESULTS = Path(__file__).parent / "results" / "startup.json"
TURNS = 5
IMPORTS = {
    "jax, flax, optax": "import jax, flax, optax",
    "jax, flax, optax, jaxrl, envs": "import jax, flax, optax, jaxrl, envs",
    "gymnax": "import gymnax",
    "rejax": "import rejax",
    "stable_baselines3": "import stable_baselines3",
}
# What an agent is compiled for; the tabular ones and the planners are left out.
ENVIRONMENTS = {
    "CartPole-v1": (
        "ppo a2c trpo impala reinforce actor_critic ppo_recurrent ppo_transformer awr es dqn c51 qr_dqn iqn rainbow "
        "pqn bootstrapped_dqn r2d2 sac_discrete"
    ),
    "Pendulum-v1": "ddpg td3 d4pg sac tqc crossq mpo apg",
}
AGENTS = {agent: env for env, names in ENVIRONMENTS.items() for agent in names.split()}
# What tracing and compilation may take: PPO half of purejaxrl's 10 s; others as many times PPO's seconds.
PPO_SECONDS, TIMES_PPO = 5.0, {"ppo_transformer": 4.0}
OTHERS_TIMES_PPO = 2.5


def imports() -> dict[str, dict[str, float]]:
    """Wall seconds of a fresh interpreter that imports, in turn; what is not installed is left out."""
    found: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(TURNS + 1):
        for name, line in IMPORTS.items():
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-W", "ignore", "-c", line], capture_output=True, check=False)
            if done.returncode == 0:
                found[name].append(time.perf_counter() - start)
    return {name: _spread(times[1:]) for name, times in found.items() if times}  # the first turn fills the disk cache


def _spread(times: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(times), 2),
        "min": round(min(times), 2),
        "max": round(max(times), 2),
    }


def compilation(agent: str, env: str) -> dict[str, float]:
    """Seconds of tracing and of compilation of one stretch of training, for one seed."""
    import jax
    import jax.numpy as jnp

    import envs
    from jaxrl import agents
    from jaxrl.placement import map_runs
    from jaxrl.train import evaluate_agent, run, with_total_steps

    module = agents.get(agent)
    environment, params = envs.make(env)
    made = module.make(environment, module.Config())
    hp = with_total_steps(module.Hyperparams(), 100_000)

    def stretch(state: Any) -> Any:
        state, metrics = run(made, state, 10)
        return state, metrics, evaluate_agent(made, state, 32)

    keys = jax.random.split(jax.random.key(0), 1)
    copies = jax.tree.map(lambda x: jnp.asarray(x)[None], (hp, params))
    state = jax.eval_shape(map_runs(made.init), keys, *copies)
    start = time.perf_counter()
    lowered = jax.jit(map_runs(stretch)).lower(state)
    traced = time.perf_counter()
    lowered.compile()
    return {"trace_seconds": round(traced - start, 2), "compile_seconds": round(time.perf_counter() - traced, 2)}


def budgets(agents: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Seconds that each measured agent may take; without a figure of PPO's, its own budget stands for it."""
    ppo = agents.get("ppo")
    unit = ppo["trace_seconds"] + ppo["compile_seconds"] if ppo else PPO_SECONDS
    times = {agent: TIMES_PPO.get(agent, OTHERS_TIMES_PPO) for agent in agents}
    return {agent: PPO_SECONDS if agent == "ppo" else round(unit * times[agent], 1) for agent in agents}


def second_start() -> dict[str, float]:
    """Seconds that `jaxrl train ppo CartPole-v1` takes to get ready, without and with the cache of its first start."""
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        for which in ("first", "second"):
            run = Path(directory) / which
            command = [sys.executable, "-m", "jaxrl", "train", "ppo", "CartPole-v1", "--steps", "4096", "--evals", "1"]
            command += ["--out", str(run)]
            environment = os.environ | {"JAXRL_CACHE": f"{directory}/cache"}
            start = time.perf_counter()
            subprocess.run(command, env=environment, capture_output=True, check=True)
            found[f"{which}_process"] = round(time.perf_counter() - start, 2)
            found[f"{which}_ready"] = json.loads((run / "cost.json").read_text())["compile_s"]
    return found


def main() -> None:
    """Measures everything, or only the compilation of the named agents."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--agents", nargs="+", choices=list(AGENTS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() else {"agents": {}}
    if options.agents is None:
        results |= {"imports": imports(), "start": second_start()}
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    results["machine"] = machine()
    for agent in options.agents or AGENTS:
        sys.stderr.write(f"{agent} …\n")
        results["agents"][agent] = {"env": AGENTS[agent], **compilation(agent, AGENTS[agent])}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    allowed = budgets(results["agents"])
    spent = {
        agent: round(took["trace_seconds"] + took["compile_seconds"], 1) for agent, took in results["agents"].items()
    }
    over = [f"{agent} {spent[agent]} s of {allowed[agent]} s" for agent in spent if spent[agent] > allowed[agent]]
    if over:
        sys.exit(f"over the budget of compilation: {', '.join(over)}")


if __name__ == "__main__":
    main()
