"""Commands that let a trained policy play: evaluate, render."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from envs.errors import InputError
from jaxrl.cache import use_cache
from jaxrl.cli.flags import EvaluationNames
from jaxrl.cli.printing import print_table
from jaxrl.train import Episodes

HOLD = 1.5  # seconds for which a film shows how the episode ended


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate the greedy policies of a run, every seed's, by whole episodes."""

    run: tyro.conf.Positional[Path]
    """The run directory."""
    trial: str | None = None
    """Of a sweep that kept its policies: whose play, by number or by settings (hp.gamma=0.9,config.num_envs=4)."""
    episodes: Episodes = 100
    """Whole episodes for each seed."""
    gymnasium: bool = False
    """Also play the same weights, run by NumPy alone, in Gymnasium's own environment."""
    tolerance: float | None = None
    """Mean returns that differ by no more than that are called the same as Gymnasium's; without it nothing is."""
    evaluations: EvaluationNames = ()
    """What is evaluated beside the greedy policy: sampling, own_reward, test; as in `jaxrl train`."""
    checkpoint: int | None = None
    """Which checkpoint plays (its number of evaluations); the newest unless given."""
    cache: bool = True
    """Keep XLA's compiled programs in the user's cache directory for the next start."""


@dataclasses.dataclass(frozen=True)
class RenderOptions:
    """Film an episode of a trained policy."""

    run: tyro.conf.Positional[Path]
    """The run directory."""
    trial: str | None = None
    """Of a sweep that kept its policies: whose play, by number or by settings (hp.gamma=0.9,config.num_envs=4)."""
    out: Path | None = None
    """A .gif or .mp4 file (.mp4 needs ffmpeg); RUN/episode.gif unless given."""
    overwrite: bool = False
    """Replace a film that is there."""
    seed: int | None = None
    """Seed of the run whose policy plays; the run's first unless given."""
    episode: int = 0
    """Seed of the episode's initial state."""
    fps: int | None = None
    """Frames per second; unless given so many that the film takes about eight seconds, at 2 to 30."""
    checkpoint: int | None = None
    """Which checkpoint plays (its number of evaluations); the newest unless given."""
    cache: bool = True
    """Keep XLA's compiled programs in the user's cache directory for the next start."""


def evaluate(options: EvaluateOptions) -> None:
    """`jaxrl evaluate RUN`."""
    if options.cache:
        use_cache()
    import jax

    from jaxrl import evaluations, library, runs
    from jaxrl.evaluate import MOST_STEPS
    from jaxrl.evaluate import evaluate as play
    from jaxrl.placement import map_runs, use_all_cores

    use_all_cores()
    if options.gymnasium and options.checkpoint is not None:
        raise InputError("--gymnasium plays the policy files of a run, which are of its end: leave out --checkpoint.")
    run = library.play(options.run, options.trial, options.checkpoint)
    if options.gymnasium and options.trial is not None:
        raise InputError("--gymnasium plays the policy files of a run; a sweep has none.")
    agent, state = run.agent._replace(evaluations=()), run.state
    wanted = evaluations.add(agent, options.evaluations, run.env_params).evaluations
    # Other starts than in the evaluations during training, and others for every run: the episodes are independent.
    keys = jax.random.split(jax.random.key(2**31 - 2), len(run.seeds))
    greedy = map_runs(lambda s, key: play(agent.env, s.env_params, agent.policy(s), key, options.episodes))
    found = {"": jax.device_get(jax.jit(greedy)(state, keys))}
    for other in wanted:

        def one_run(s: Any, key: Any, other: Any = other) -> Any:
            return play(other.env, other.params(s, ()), other.policy(s, ()), key, options.episodes)

        found[other.name] = jax.device_get(jax.jit(map_runs(one_run))(state, keys))
    title = f"{run.config['agent']} on {run.config['env']}: {options.episodes} episodes for each seed"
    _print_evaluations(title, run.seeds, found)
    if options.gymnasium:
        from jaxrl import gymnasium_check

        limit = agent.env.max_steps or MOST_STEPS
        spec = runs.read_spec(options.run)
        theirs = gymnasium_check.returns(spec, options.run, options.episodes, limit)
        _print_comparison(spec, np.asarray(found[""].returns, np.float64), theirs, options.tolerance)


def render(options: RenderOptions) -> None:
    """`jaxrl render RUN`."""
    if options.cache:
        use_cache()
    from jaxrl import film, library, results

    # Whether it is a run, and where the film goes, is asked before anything is played.
    results.read_config(options.run)
    wanted = options.out or options.run / "episode.gif"
    path = film.check(wanted, 1 if options.fps is None else options.fps, options.overwrite)
    run = library.play(options.run, options.trial, options.checkpoint)
    seed = run.seeds[0] if options.seed is None else options.seed
    run.policy(seed)  # says what seeds there are
    played = film.episode(run.agent, run.state, run.seeds.index(seed), options.episode)
    fps = film.speed(len(played.frames)) if options.fps is None else options.fps
    film.write(played.frames, path, fps, HOLD, options.overwrite)
    print(
        f"{path}: {len(played.frames)} frames, {fps} a second; {played.steps} steps, {played.ending}, "
        f"return {film.format_return(played.returns)}"
    )


def _print_evaluations(title: str, seeds: Sequence[int], found: Mapping[str, Any]) -> None:
    """Prints a table of evaluations by name ("": the greedy policy's), each of [seeds, episodes, ...]: a row a seed."""
    header, columns = ["seed"], [list(map(str, seeds))]

    def add(title: str, values: Any) -> None:
        # [seeds, episodes] or, in a game, [seeds, episodes, players]
        values = np.asarray(values, np.float64)
        means, spreads = values.mean(1), values.std(1, ddof=1) if values.shape[1] > 1 else values[:, 0] * np.nan
        header.extend((title, "std of episodes"))
        columns.append([" / ".join(f"{x:.1f}" for x in np.atleast_1d(mean)) for mean in means])
        columns.append([" / ".join("–" if np.isnan(x) else f"{x:.1f}" for x in np.atleast_1d(s)) for s in spreads])

    for name, evaluation in found.items():
        add(name or "mean return", evaluation.returns)
        for k in range(np.shape(evaluation.costs)[-1] if np.size(evaluation.costs) else 0):
            add(f"{name} cost {k}".strip(), np.asarray(evaluation.costs)[..., k])
        finished = np.asarray(evaluation.finished)
        if not finished.all():
            header.append(f"{name} unfinished".strip())
            columns.append([f"{n} of {finished.shape[1]}" for n in (~finished).sum(1)])
    print_table(title, header, list(zip(*columns, strict=True)))


def _print_comparison(spec: Any, ours: np.ndarray, theirs: np.ndarray, tolerance: float | None) -> None:
    """Prints returns [seeds, episodes] of ours beside Gymnasium's, and whether they differ."""
    from jaxrl import statistics

    rows = [
        (str(seed), f"{a.mean():.1f}", f"{b.mean():.1f}", "–" if len(b) < 2 else f"{b.std(ddof=1):.1f}")
        for seed, a, b in zip(spec.seeds, ours, theirs, strict=True)
    ]
    print_table("the same weights, run by NumPy in Gymnasium", ("seed", "ours", "Gymnasium", "std of episodes"), rows)
    # Episodes are the samples, policies the strata: the weights on both sides are the same.
    compared = statistics.compare(ours.T, theirs.T, statistics.mean, tolerance=tolerance)
    same = f"the same within ± {tolerance}"
    word = {"better": "different", "worse": "different", "the same": same, "cannot tell": "cannot tell"}
    interval = "" if np.isnan(compared.low) else f" (95 % interval {compared.low:.2f} to {compared.high:.2f})"
    print(
        f"mean over {ours.size} episodes: ours {ours.mean():.2f}, Gymnasium {theirs.mean():.2f}, "
        f"difference {compared.difference:.2f}{interval}: {word[compared.verdict]}"
        + (f" ({compared.reason})" if compared.reason else "")
    )
