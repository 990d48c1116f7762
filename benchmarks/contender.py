"""One contender of a training benchmark, in a process of its own: `benchmarks.training` starts it and gives it turns.

    python -m benchmarks.contender CASE WHO

It answers on standard output with one JSON object a line: first what it cost to get ready, then for each line that it
reads a turn: the whole training of fresh seeds. Each contender has the process to itself because ours wants one device
for each core and the peers want all cores in one.
"""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.cases import CASES, Case

# From seeds to the mean return of each seed's last evaluation; the compiled program, and trace and compile seconds.
Ready = tuple[Callable[[list[int]], tuple[float, np.ndarray]], dict[str, float]]


def ours(case: Case) -> Ready:
    """This framework: initialisation and training as one program, laid out over the cores as `fit` does it."""
    import jax
    import jax.numpy as jnp

    import envs
    import jaxrl
    from jaxrl import agents
    from jaxrl.evaluate import evaluate
    from jaxrl.placement import compiler_options, map_runs, spread
    from jaxrl.train import run, with_total_steps

    env, params = envs.make(case.env, **case.env_options)
    jaxrl.use_all_cores(case.num_seeds, env.observation_space)
    module = agents.get(case.agent)
    agent = module.make(env, module.Config(**case.config))
    hp = with_total_steps(module.Hyperparams(**case.hp), case.env_steps)
    iterations = (case.env_steps - agent.warmup_steps) // agent.steps_per_iteration

    def batch(seeds: list[int]) -> Any:
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
        copies = jax.tree.map(lambda x: jnp.repeat(np.asarray(x)[None], len(seeds), axis=0), (hp, params))
        return spread((keys, *copies))

    def train(key: Any, hp: Any, params: Any) -> Any:
        state, metrics = run(agent, agent.init(key, hp, params), iterations)
        return state, metrics.episodes

    options = compiler_options(case.num_seeds)
    program, seconds = compiled(map_runs(train), *batch(list(range(case.num_seeds))), options=options)

    def greedy(state: Any) -> Any:
        # Every seed from starts of its own: starts that all seeds share have an error that their spread does not show.
        return evaluate(
            env, state.env_params, agent.policy(state), jax.random.fold_in(state.key, 0), case.eval_episodes
        )

    judge = jax.jit(map_runs(greedy))

    def turn(seeds: list[int]) -> tuple[float, np.ndarray]:
        arguments = batch(seeds)
        start = time.perf_counter()
        state, _ = jax.block_until_ready(program(*arguments))
        elapsed = time.perf_counter() - start
        return elapsed, np.asarray(judge(state).returns).mean(axis=-1)

    return turn, seconds


def rejax(case: Case) -> Ready:
    """Rejax as its documentation runs it: `jit(vmap(train))`; evaluated once, in the end, as part of the program."""
    import jax
    import jax.numpy as jnp

    algorithms: Any = importlib.import_module("rejax")
    settings = dict(case.rejax or {})
    algorithm = algorithms.get_algo(settings.pop("algorithm")).create(
        env=case.env,
        total_timesteps=case.env_steps,
        eval_freq=case.env_steps,
        skip_initial_evaluation=True,
        **settings,
    )
    episodes = case.eval_episodes
    evaluate: Any = importlib.import_module("rejax.evaluate").evaluate

    def judge(algorithm: Any, state: Any, key: Any) -> Any:
        limit = algorithm.env_params.max_steps_in_episode
        return evaluate(algorithm.make_act(state), key, algorithm.env, algorithm.env_params, episodes, limit)

    algorithm = algorithm.replace(eval_callback=judge)

    def keys(seeds: list[int]) -> Any:
        return jax.vmap(jax.random.PRNGKey)(jnp.asarray(seeds, jnp.uint32))

    def train(key: Any) -> Any:
        return algorithm.train(key)[1][1]  # the returns of the evaluations [1, episodes]

    program, seconds = compiled(jax.vmap(train), keys(list(range(case.num_seeds))))

    def turn(seeds: list[int]) -> tuple[float, np.ndarray]:
        arguments = keys(seeds)
        start = time.perf_counter()
        returns = jax.block_until_ready(program(arguments))
        return time.perf_counter() - start, np.asarray(returns).reshape(len(seeds), -1)[:, -episodes:].mean(axis=-1)

    return turn, seconds


def stable_baselines3(case: Case) -> Ready:
    """Stable-Baselines3 on Gymnasium's environment, seed after seed."""
    return _by_the_interface_of_sb3(case, "stable_baselines3", 0)


def sbx(case: Case) -> Ready:
    """Stable-Baselines3 with its updates in JAX, as that; what it compiles, for every model anew, is not timed."""
    return _by_the_interface_of_sb3(case, "sbx", 2_048)


def _by_the_interface_of_sb3(case: Case, module: str, untimed_steps: int) -> Ready:
    import gymnasium
    from stable_baselines3.common import evaluation, vec_env  # pyright: ignore[reportMissingImports]

    settings = dict(case.sb3 or {})
    algorithm = getattr(importlib.import_module(module), settings.pop("algorithm"))
    num_envs = settings.pop("num_envs", 1)

    def turn(seeds: list[int]) -> tuple[float, np.ndarray]:
        elapsed, returns = 0.0, []
        for seed in seeds:
            env = vec_env.DummyVecEnv([lambda: gymnasium.make(case.env)] * num_envs)
            model = algorithm("MlpPolicy", env, seed=seed, device="cpu", **settings)
            if untimed_steps:
                model.learn(untimed_steps)
            start = time.perf_counter()
            model.learn(case.sb3_steps, reset_num_timesteps=not untimed_steps)
            elapsed += time.perf_counter() - start
            returns.append(evaluation.evaluate_policy(model, gymnasium.make(case.env), 20, warn=False)[0])
        return elapsed, np.asarray(returns)

    return turn, {"trace_seconds": 0.0, "compile_seconds": 0.0}


def compiled(
    function: Callable[..., Any], *arguments: Any, options: dict[str, Any] | None = None
) -> tuple[Any, dict[str, float]]:
    """The compiled program, and the seconds of tracing and of compilation."""
    import jax

    start = time.perf_counter()
    lowered = jax.jit(function).lower(*arguments)
    traced = time.perf_counter()
    program = lowered.compile(options)
    ended = time.perf_counter()
    return program, {"trace_seconds": round(traced - start, 2), "compile_seconds": round(ended - traced, 2)}


CONTENDERS: dict[str, Callable[[Case], Ready]] = {
    "ours": ours,
    "rejax": rejax,
    "stable-baselines3": stable_baselines3,
    "sbx-rl": sbx,
}
ONE_SEED = ("stable-baselines3", "sbx-rl")  # a turn of theirs is one seed and fewer steps


def main() -> None:
    """Gets ready, then trains once for each line of standard input: the first seed of the turn."""
    name, who = sys.argv[1:]
    case = CASES[name]
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    turn, ready = CONTENDERS[who](case)

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    answer(**ready)
    num_seeds, steps = (1, case.sb3_steps) if who in ONE_SEED else (case.num_seeds, case.env_steps)
    for line in sys.stdin:
        first = int(line)
        elapsed, returns = turn(list(range(first, first + num_seeds)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer(
            seconds=elapsed,
            env_steps=steps * num_seeds,
            returns=[round(float(x), 2) for x in returns],
            peak_memory_bytes=peak,
        )


if __name__ == "__main__":
    main()
