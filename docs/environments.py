"""Generates docs/environments.md, its films and docs/parity.md from what is registered and what was measured.

    python docs/environments.py [films] [parity] [table]      (all three by default)

Speeds come from benchmarks/results/stepping.json, which `python -m benchmarks.stepping` measures; the parity column
comes from a comparison with the originals made here (minutes), kept in docs/parity.json for the table.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

import envs
from envs import episode, spaces
from envs.base import Env
from envs.interop import parity
from envs.wrappers import Wrapper
from jaxrl import film

DOCS = Path(__file__).parent
FILMS = DOCS / "films"
SPEEDS = DOCS.parent / "benchmarks" / "results" / "stepping.json"
PARITY = DOCS / "parity.json"
EPISODES = 2_000  # whole ones of every original, under random actions
FRAMES, WIDTH = 60, 200  # of a film
STEPS_A_FRAME = {"box2d": 3}  # where a step is a small part of a second

TITLES = {
    "classic_control": "Classic control",
    "toy_text": "Toy text and the textbooks' small problems",
    "gridworld": "Grid worlds and navigation",
    "goals": "Goals",
    "bsuite": "Behaviour suite",
    "minatar": "MinAtar",
    "box2d": "Box2D",
    "pixels": "Pixel games",
    "procgen": "Procedurally generated games",
}


def innermost(env: Env) -> Env:
    """The environment inside all wrappers."""
    return innermost(env.env) if isinstance(env, Wrapper) else env


def kind(env: Env) -> tuple[type, ...]:
    """The classes of an environment and of what it wraps."""
    return (type(env), *(kind(env.env) if isinstance(env, Wrapper) else ()))


def family(name: str) -> str:
    """The package under `envs` that holds the environment."""
    return "bsuite" if name.endswith("-bsuite") else type(innermost(envs.make(name)[0])).__module__.split(".")[1]


def draw_film(name: str) -> None:
    """Writes FRAMES frames of uniformly random actions, through as many episodes as they take."""
    env, params = envs.make(name)
    every = STEPS_A_FRAME.get(family(name), 1)

    @jax.jit
    def play(key: jax.Array) -> Any:
        key_reset, key_steps = jax.random.split(key)

        def step(state: episode.EpisodeState, key: jax.Array) -> tuple[episode.EpisodeState, Any]:
            key_act, key_env = jax.random.split(key)
            action = jax.tree.map(lambda x: x[None], spaces.sample(env.action_space, key_act))
            return episode.step(env, params, key_env, state, action)[0], state.state

        return jax.lax.scan(
            step, episode.reset(env, params, key_reset, 1), jax.random.split(key_steps, FRAMES * every)
        )[1]

    states = jax.device_get(play(jax.random.key(0)))
    frames = []
    for t in range(FRAMES):
        picture = Image.fromarray(env.render(jax.tree.map(lambda x, t=t: x[t * every, 0], states), params))
        if picture.width > WIDTH:
            picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
        frames.append(np.asarray(picture))
    FILMS.mkdir(exist_ok=True)
    path = FILMS / f"{name}.gif"
    path.unlink(missing_ok=True)
    film.write(frames, path, fps=15)


def compare() -> None:
    """Writes docs/parity.md and docs/parity.json."""
    reports = [parity.parity(name, episodes=EPISODES) for name in parity.names()]
    (DOCS / "parity.md").write_text(parity.markdown(reports))
    summaries = {report.name: {"reference": report.reference, "summary": report.summary} for report in reports}
    PARITY.write_text(json.dumps(summaries, indent=1, ensure_ascii=False) + "\n")


def describe(space: spaces.Space) -> str:
    """A space in a table's cell."""
    if isinstance(space, Mapping):
        return ", ".join(f"{key}: {describe(part)}" for key, part in space.items())
    if isinstance(space, tuple):
        return " × ".join(map(describe, space))
    if isinstance(space, spaces.Discrete):
        return f"{space.n} values"
    if isinstance(space, spaces.MultiDiscrete):
        return " × ".join(map(str, space.nvec)) + " values"
    return f"{np.dtype(space.dtype).name}[{', '.join(map(str, space.shape))}]"


def rate(figures: dict[str, Any] | None) -> str:
    """Steps per second, short."""
    if not figures:
        return "–"
    speed = figures["median"]
    return f"{speed / 1e6:.2g} M" if speed >= 1e6 else f"{speed / 1e3:.3g} k"


def devices(speeds: Mapping[str, Any]) -> str:
    """Which of ours had more than one device."""
    several = sorted(name for name, entry in speeds.items() if entry.get("devices", 1) > 1)
    return f"From 256 environments on, ours have a device for each core: {', '.join(several)}; the others have one."


def table() -> Iterator[str]:
    """The lines of docs/environments.md."""
    measured = json.loads(SPEEDS.read_text())
    speeds, machine = measured["environments"], measured["machine"]
    alike = json.loads(PARITY.read_text())
    names = envs.names()
    measured_kinds = {kind(envs.make(name)[0]): name for name in speeds}
    yield "# Environments"
    yield ""
    yield f"All {len(names)} registered names. The docstring of each environment's file has its source, spaces, reward,"
    yield "ending and every deviation from the original. Generated by `python docs/environments.py`."
    yield ""
    yield "*Parity* is the largest difference of a step from the original, started from the same state with the same"
    yield "random draws ([parity.md](parity.md) has every check, also of starts and of random policies' returns);"
    yield '"–": there is no original, or none that can be run.'
    yield ""
    yield (
        "*Steps/s* are random actions with auto-reset: medians of at least three turns, "
        "which the contenders of an environment take in one run "
        f"(`python -m benchmarks.stepping`) on {machine['cores']} cores of {machine['device']}, "
        f"Python {machine['python']}, jax {machine['jax']}, gymnax {machine['gymnax']}; the original steps one "
        f"environment in a Python loop. {devices(speeds)} Names that differ in options "
        "alone are measured once. Spread and compile times: "
        "benchmarks/results/stepping.json. The films show uniformly random actions."
    )
    for group, title in TITLES.items():
        members = [name for name in names if family(name) == group]
        if not members:
            continue
        yield ""
        yield f"## {title}"
        yield ""
        yield (
            "| | id | observation | actions | limit | parity | steps/s: 1 | 256 | 4,096 | original: 1 "
            "| gymnax: 1 | 256 | 4,096 |"
        )
        yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
        for name in members:
            env, _ = envs.make(name)
            entry, like = speeds.get(name, {"ours": {}, "gymnax": {}}), measured_kinds.get(kind(env))
            cells = [
                f'<img src="films/{name}.gif" width="100">',
                f"`{name}`",
                describe(env.observation_space),
                describe(env.action_space),
                f"{env.max_steps:,}" if env.max_steps else "none",
                alike[name]["summary"].replace("|", "\\|") if name in alike else "–",
                *(
                    [rate(entry["ours"].get(size)) for size in ("1", "256", "4096")]
                    if name in speeds or like is None
                    else [f"as `{like}`", "", ""]
                ),
                rate(entry.get("original")),
                *(rate(entry["gymnax"].get(size)) for size in ("1", "256", "4096")),
            ]
            yield "| " + " | ".join(cells) + " |"
    missing = {family(name) for name in names} - set(TITLES)
    if missing:
        raise SystemExit(f"families without a title: {', '.join(sorted(missing))}")


def main() -> None:
    """Makes what the command line names."""
    chosen = sys.argv[1:] or ["films", "parity", "table"]
    if "films" in chosen:
        for name in envs.names():
            draw_film(name)
    if "parity" in chosen:
        compare()
    if "table" in chosen:
        (DOCS / "environments.md").write_text("\n".join(table()) + "\n")


if __name__ == "__main__":
    main()
