"""Everything that is listed, through every command: what a user types for one pair of agent and environment.

A walk trains with the defaults (a few iterations, two evaluations), is killed after the first checkpoint, resumed,
evaluated (also in Gymnasium where the original lies there), plotted in every kind, filmed, exported in every format,
and swept over a traced and a static axis of the agent and of the environment. A command passes (exit status 0),
refuses (2, with one message), or fails (anything else); what may refuse, and why, is listed in `MAY_REFUSE`.

    python -m tests.walk                            every environment and every agent; hours
    python -m tests.walk --agents ppo --envs Pong-Pixels-v0
    python -m tests.walk --out docs/walk.md         with the table of counts
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import io
import os
import re
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import envs
from envs.errors import InputError
from jaxrl import agents, cli
from jaxrl.train import fields_of

# command -> patterns of the messages with which it may refuse
MAY_REFUSE = {
    "evaluate --gymnasium": ("Gymnasium cannot make", "no policy files", "is not a policy", "no original"),
    "export parquet": ("pyarrow",),
    "sweep environment": ("nothing to sweep",),
}
SIZES = ["--evals", "2", "--eval-episodes", "2"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    agent: str
    env: str
    command: str
    status: str  # passed, refused, failed
    message: str
    seconds: float


@functools.cache
def fitting() -> dict[str, list[str]]:
    """The environments in which each agent can be made with its defaults: every pair that is listed."""
    made = {name: envs.make(name)[0] for name in envs.names()}
    return {agent: [name for name, env in made.items() if _fits(agent, env)] for agent in agents.NAMES}


def _fits(agent: str, env: Any) -> bool:
    module = agents.get(agent)
    try:
        module.make(env, module.Config())
    except InputError:
        return False
    return True


def pairs() -> list[tuple[str, str]]:
    """Every environment with an agent and every agent with an environment, each side in turn."""
    of_env: dict[str, list[str]] = {}
    for agent, names in fitting().items():
        for name in names:
            of_env.setdefault(name, []).append(agent)
    # Environments meet agents in rotation, so that the common ones are not met by the first agent alone.
    chosen = [(fits[index % len(fits)], name) for index, (name, fits) in enumerate(sorted(of_env.items()))]
    met = {agent for agent, _ in chosen}
    chosen += [
        (agent, names[index % len(names)]) for index, (agent, names) in enumerate(fitting().items()) if agent not in met
    ]
    return chosen


def trace(agent: str, env: str) -> None:
    """Traces initialisation and one iteration with the defaults, which meets every shape and branch."""
    module = agents.get(agent)
    made, params = envs.make(env)
    algorithm = module.make(made, module.Config())
    state = jax.eval_shape(algorithm.init, jax.random.key(0), _with_horizon(module.Hyperparams()), params)
    following, _ = jax.eval_shape(algorithm.step, state)
    assert jax.tree.structure(state) == jax.tree.structure(following)


def _with_horizon(hp: Any) -> Any:
    from jaxrl.train import with_total_steps

    return with_total_steps(hp, 100_000)


def walk(agent: str, env: str, directory: Path) -> Iterator[Outcome]:
    """Takes a pair through every command, in an empty directory."""
    module = agents.get(agent)
    made, params = envs.make(env)
    algorithm = module.make(made, module.Config())
    steps = str(algorithm.warmup_steps + 4 * algorithm.steps_per_iteration)
    run, sizes = directory / "run", ["--steps", steps, *SIZES]

    def command(name: str, *arguments: object) -> Outcome:
        return _outcome(agent, env, name, [str(argument) for argument in arguments])

    yield _killed(agent, env, ["train", agent, env, *sizes, "--out", str(run)])
    yield command("resume", "resume", run)
    yield command("evaluate", "evaluate", run, "--episodes", 2)
    if _has_original(env):
        yield command("evaluate --gymnasium", "evaluate", run, "--episodes", 2, "--gymnasium")
    for kind in ("curves", "seeds", "profile"):
        yield command(f"plot {kind}", "plot", run, "--kind", kind, "--out", directory / f"{kind}.png")
    yield command("render", "render", run, "--out", directory / "film.gif")
    for suffix in (".csv", ".parquet", ".json", ""):
        yield command(f"export {suffix.lstrip('.') or 'tensorboard'}", "export", run, directory / f"results{suffix}")
    for where, axes in _axes(module, made, params).items():
        out = directory / f"sweep-{where}"
        grid = [part for axis in axes for part in ("--grid", axis)]
        yield command(f"sweep {where}", "sweep", agent, env, *grid, *sizes, "--seeds", 1, "--out", out)
        if where == "agent":
            yield command("plot heat", "plot", out, "--kind", "heat", "--out", directory / "heat.png")
            yield command("plot slices", "plot", out, "--kind", "slices", "--out", directory / "slices.png")


def _axes(module: Any, env: Any, params: Any) -> dict[str, list[str]]:
    """A traced and a static axis of the agent, and of the environment where it has such."""
    hp = {name: value for name, value in fields_of(module.Hyperparams()).items() if isinstance(value, float)}
    traced = next((name for name in ("learning_rate", "critic_learning_rate", "gamma") if name in hp), next(iter(hp)))
    agent = [f"hp.{traced}={hp[traced]},{hp[traced] / 2}"]
    config = module.Config()
    if "num_envs" in fields_of(config):
        agent.append(f"config.num_envs={config.num_envs},{2 * config.num_envs}")
    else:
        flag = next(name for name, value in fields_of(config).items() if isinstance(value, bool))
        agent.append(f"config.{flag}=False,True")
    environment = []
    for name, value in fields_of(params).items() if params else ():
        if np.ndim(value) == 0 and np.asarray(value).dtype.kind == "f" and float(value):
            environment.append(f"env.{name}={float(value)},{float(value) * 0.9}")
            break
    if env.max_steps is not None and "max_steps" in env.options():
        environment.append(f"env.max_steps={env.max_steps},{max(env.max_steps // 2, 1)}")
    return {"agent": agent, "environment": environment} if environment else {"agent": agent}


def _has_original(env: str) -> bool:
    import gymnasium

    if env.startswith("MiniGrid-"):
        import minigrid  # noqa: F401  (registers its environments)
    return env in gymnasium.registry


def _outcome(agent: str, env: str, name: str, arguments: list[str], expected: int = 0) -> Outcome:
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            status = cli.main(arguments)
        except SystemExit as stopped:  # the parser of flags ends so
            status = stopped.code if isinstance(stopped.code, int) else 1
        except Exception:
            status = 1
            errors.write(traceback.format_exc())
    word = {expected: "passed", 2: "refused"}.get(status, "failed")
    message = "" if word == "passed" else (errors.getvalue() or out.getvalue()).strip()
    return Outcome(agent, env, name, word, message, round(time.perf_counter() - started, 1))


def _killed(agent: str, env: str, arguments: list[str]) -> Outcome:
    """Trains until the first checkpoint is written and is interrupted there, which ends with status 130."""
    from jaxrl import checkpoint

    def save(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        signal.raise_signal(signal.SIGINT)

    original, checkpoint.save = checkpoint.save, save
    try:
        return _outcome(agent, env, "train", arguments, expected=130)
    finally:
        checkpoint.save = original


def allowed(outcome: Outcome) -> bool:
    """Whether a command passed, or refused for a reason that is listed."""
    patterns = MAY_REFUSE.get(outcome.command, ())
    refused = outcome.status == "refused" and any(re.search(pattern, outcome.message) for pattern in patterns)
    return outcome.status == "passed" or refused


def table(outcomes: list[Outcome]) -> str:
    """Counts of each command in Markdown, and every message that is no pass."""
    counts: dict[str, collections.Counter[str]] = {}
    for outcome in outcomes:
        word = outcome.status if allowed(outcome) else "failed"
        counts.setdefault(outcome.command, collections.Counter())[word] += 1
    lines = ["| command | passed | refused, as listed | failed |", "|---|---|---|---|"]
    lines += [f"| {name} | {c['passed']} | {c['refused']} | {c['failed']} |" for name, c in counts.items()]
    reasons = collections.Counter(
        (o.command, o.message.splitlines()[-1] if o.message else "") for o in outcomes if o.status != "passed"
    )
    lines += ["", *(f"- {command}, {count} ×: {reason}" for (command, reason), count in reasons.items())]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Walks, and prints or writes the table; exit status 1 where something failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--agents", nargs="*", default=[])
    parser.add_argument("--envs", nargs="*", default=[])
    parser.add_argument("--part", default="0/1", help="I/N: every N-th walk from the I-th on")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    chosen = pairs()
    if options.agents and options.envs:
        chosen = [(agent, env) for agent in options.agents for env in options.envs]
    elif options.agents or options.envs:
        chosen = [(agent, env) for agent, env in chosen if agent in options.agents or env in options.envs]
    first, count = map(int, options.part.split("/"))
    outcomes = []
    for agent, env in chosen[first::count]:
        with tempfile.TemporaryDirectory() as directory:
            for outcome in walk(agent, env, Path(directory)):
                outcomes.append(outcome)
                mark = "" if allowed(outcome) else f"\n{outcome.message}\n"
                print(f"{agent} {env}: {outcome.command}: {outcome.status} ({outcome.seconds} s){mark}", flush=True)
        jax.clear_caches()
    print(table(outcomes))
    if options.out:
        options.out.write_text(table(outcomes))
    return 0 if all(map(allowed, outcomes)) else 1


if __name__ == "__main__":
    os.environ.setdefault("JAXRL_CACHE", "off")
    raise SystemExit(main())
