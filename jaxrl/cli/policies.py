"""Commands that let a trained policy play: evaluate, render."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from envs.errors import InputError
from jaxrl.cli.flags import require, use_cache
from jaxrl.cli.printing import print_table


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate the greedy policies of a run, every seed's, by whole episodes."""

    run: tyro.conf.Positional[Path]
    """The run directory."""
    episodes: int = 100
    """Whole episodes for each seed."""
    gymnasium: bool = False
    """Also play the same weights, run by NumPy alone, in Gymnasium's own environment."""
    evaluations: tuple[str, ...] = ()
    """What is evaluated beside the greedy policy: sampling, own_reward, test; as in `jaxrl train`."""
    cache: bool = True
    """Keep XLA's compiled programs in the user's cache directory for the next start."""


@dataclasses.dataclass(frozen=True)
class RenderOptions:
    """Film an episode of a trained policy."""

    run: tyro.conf.Positional[Path]
    """The run directory."""
    out: Path | None = None
    """A .gif or .mp4 file (.mp4 needs ffmpeg); RUN/episode.gif unless given."""
    seed: int | None = None
    """Seed of the run whose policy plays; the run's first unless given."""
    episode: int = 0
    """Seed of the episode's initial state."""
    fps: int = 30
    """Frames per second."""


def evaluate(options: EvaluateOptions) -> None:
    """`jaxrl evaluate RUN`."""
    use_cache(options.cache)
    import jax

    from jaxrl import evaluations, runs
    from jaxrl.evaluate import evaluate as play
    from jaxrl.placement import map_runs, use_all_cores

    require(options, "episodes")
    use_all_cores()
    spec = runs.read_spec(options.run)
    agent, env_params = spec.build()
    wanted = evaluations.add(agent._replace(evaluations=()), options.evaluations, env_params).evaluations
    agent, state, _ = runs.restore(spec, options.run)
    # Other starts than in the evaluations during training, and others for every run: the episodes are independent.
    keys = jax.random.split(jax.random.key(2**31 - 2), len(spec.seeds))
    greedy = map_runs(lambda s, key: play(agent.env, s.env_params, agent.policy(s), key, options.episodes))
    ours = np.asarray(jax.jit(greedy)(state, keys).returns, np.float64)
    others = {}
    for other in wanted:

        def one_run(s: Any, key: Any, other: Any = other) -> Any:
            return play(other.env, other.params(s, ()), other.policy(s, ()), key, options.episodes)

        others[other.name] = np.asarray(jax.jit(map_runs(one_run))(state, keys).returns, np.float64)
    theirs = None
    if options.gymnasium:
        from jaxrl import gymnasium_check

        theirs = gymnasium_check.returns(spec, options.run, options.episodes)
    _print_evaluation(spec, ours, theirs, others)


def render(options: RenderOptions) -> None:
    """`jaxrl render RUN`."""
    from jaxrl import film, runs

    spec = runs.read_spec(options.run)
    seed = spec.seeds[0] if options.seed is None else options.seed
    if seed not in spec.seeds:
        raise InputError(f"{options.run} has no run of seed {seed}; its seeds: {', '.join(map(str, spec.seeds))}.")
    agent, state, _ = runs.restore(spec, options.run)
    frames, episode_return = film.episode(agent, state, spec.seeds.index(seed), options.episode)
    path = film.write(frames, options.out or options.run / "episode.gif", options.fps)
    print(f"{path}: {len(frames)} frames, return {episode_return:g}")


def _print_evaluation(spec: Any, ours: np.ndarray, theirs: np.ndarray | None, others: dict[str, np.ndarray]) -> None:
    """Tables of returns [seeds, episodes], ours, (or None) Gymnasium's, and of further evaluations by name."""
    from jaxrl import statistics

    header = ["seed", "mean return", "std of episodes"]
    rows = [[str(seed), f"{r.mean():.1f}", f"{r.std():.1f}"] for seed, r in zip(spec.seeds, ours, strict=True)]
    if theirs is not None:
        header += ["in Gymnasium", "std of episodes"]
        rows = [[*row, f"{r.mean():.1f}", f"{r.std():.1f}"] for row, r in zip(rows, theirs, strict=True)]
    for name, returns in others.items():
        header += [name, "std of episodes"]
        rows = [[*row, f"{r.mean():.1f}", f"{r.std():.1f}"] for row, r in zip(rows, returns, strict=True)]
    print_table(f"{spec.agent} on {spec.env}: {ours.shape[1]} episodes for each seed", header, rows)
    if theirs is not None:
        # Episodes are the samples, policies the strata: the weights on both sides are the same.
        low, high = statistics.mean_difference(ours, theirs)
        verdict = "the same" if low <= 0 <= high else "different"
        print(
            f"ours {ours.mean():.2f}, Gymnasium {theirs.mean():.2f}, difference {ours.mean() - theirs.mean():.2f} "
            f"(95 % interval {low:.2f} to {high:.2f}): {verdict}"
        )
