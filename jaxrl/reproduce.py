"""Published numbers against ours: `experiments/references.toml`, the studies, and the verdicts.

A study is a file `experiments/NAME.py` with a docstring and `run(quick) -> Outcome`; it may say `QUICK = True` when its
quick form is worth running as a check. References name the study that measures them. A study reports what it measured
for each of its references, one value per run, and what to draw; the interval, the verdict and the files are made here:
`experiments/results/NAME/result.json` and `NAME.png`.

A verdict compares the 95 % interval of our statistic with the band value ± tolerance:

    match       the interval meets the band, and is narrow enough to have missed it (half-width ≤ 2 · tolerance)
    undecided   it meets the band, but so would nearly anything: more runs are needed
    no match    it misses the band

For a reference that is a bound ("at least", "at most") the band is open at the other end.
"""

import importlib.util
import json
import math
import sys
import textwrap
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

import jaxrl
from envs.errors import InputError, unknown
from jaxrl import plotting, results, statistics

Compare = Literal["equal", "at least", "at most"]
STATISTICS = {"mean": statistics.mean, "iqm": statistics.iqm, "median": statistics.median}
RESULT_FILE = "result.json"


class Reference(NamedTuple):
    """One published number."""

    id: str
    study: str  # which file in experiments/ measures it
    claim: str  # what the number is: algorithm, environment, metric
    value: float
    tolerance: float  # half the width of the band that counts as the same
    source: str
    seen: str  # "text", "data", "figure" or "computed": how the value was read
    spread: str = ""  # as published
    protocol: str = ""  # steps, runs, settings
    compare: Compare = "equal"
    statistic: str = "mean"  # of our runs; a key of STATISTICS


class Line(NamedTuple):
    """A curve with a band."""

    label: str
    x: np.ndarray  # [n]
    y: np.ndarray  # [runs, n]


class Panel(NamedTuple):
    """Axes of the study's picture."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    references: Sequence[str] = ()  # ids of the published values to draw across
    y_limits: tuple[float, float] | None = None
    log_x: bool = False


class Map(NamedTuple):
    """A grid world's values as coloured cells, and a policy as arrows; see `plotting.value_map`."""

    title: str
    values: np.ndarray  # [H, W]
    actions: np.ndarray  # [H, W], −1 where none is taken
    arrows: Sequence[tuple[int, int]]


class Outcome(NamedTuple):
    """What a study returns."""

    measured: Mapping[str, Any]  # reference id -> [runs], or one number where it is exact
    panels: Sequence[Panel | Map] = ()
    settings: Mapping[str, Any] = {}  # seeds, steps, configurations: written down with the result


class Verdict(NamedTuple):
    """A reference beside what we measured."""

    reference: Reference
    runs: int
    value: float  # our statistic
    low: float  # its 95 % interval
    high: float
    word: Literal["match", "undecided", "no match"]


def experiments() -> Path:
    """The directory of the studies: in the working directory, or beside the package in a checkout.

    Raises:
        InputError: there is none.
    """
    for parent in (Path.cwd(), Path(jaxrl.__file__).parents[1]):
        if (parent / "experiments" / "references.toml").exists():
            return parent / "experiments"
    raise InputError("no experiments/references.toml here: `jaxrl reproduce` needs a checkout of the repository.")


def references(directory: Path) -> dict[str, Reference]:
    """Reads references.toml; returns id -> Reference.

    Raises:
        InputError: an entry that is incomplete, doubled or has an unknown field.
    """
    path = directory / "references.toml"
    found: dict[str, Reference] = {}
    for entry in tomllib.loads(path.read_text())["reference"]:
        for name in entry:
            if name not in Reference._fields:
                raise InputError(f"{path}: {unknown('field', name, Reference._fields)}")
        try:
            reference = Reference(**entry)
        except TypeError as error:
            raise InputError(f"{path}: {entry.get('id', entry)}: {error}") from None
        if reference.id in found:
            raise InputError(f"{path}: {reference.id} is there twice.")
        if reference.compare not in get_args(Compare) or reference.statistic not in STATISTICS:
            raise InputError(f"{path}: {reference.id}: compare={reference.compare!r} statistic={reference.statistic!r}")
        found[reference.id] = reference
    return found


def studies(directory: Path) -> list[str]:
    """The names of all studies."""
    return sorted(path.stem for path in directory.glob("*.py"))


def load(directory: Path, name: str) -> ModuleType:
    """Imports a study.

    Raises:
        InputError: no such study; the message has the nearest.
    """
    if name not in studies(directory):
        raise unknown("study", name, studies(directory))
    spec = importlib.util.spec_from_file_location(f"experiments.{name}", directory / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def judge(reference: Reference, values: Any) -> Verdict:
    """Compares [runs] values of ours with a reference; a single number is taken as exact."""
    runs = np.atleast_1d(np.asarray(values, np.float64))
    statistic = STATISTICS[reference.statistic]
    value = float(statistic(runs))
    low, high = (value, value) if len(runs) == 1 else statistics.stratified_bootstrap(runs, statistic)
    bottom, top = reference.value - reference.tolerance, reference.value + reference.tolerance
    if reference.compare == "at least":
        top = math.inf
    if reference.compare == "at most":
        bottom = -math.inf
    meets = low <= top and high >= bottom
    inside = bottom <= low and high <= top
    narrow = inside or (high - low) / 2 <= 2 * reference.tolerance
    word = ("match" if narrow else "undecided") if meets else "no match"
    return Verdict(reference, len(runs), value, low, high, word)


def reproduce(name: str, *, quick: bool = False, command: Sequence[str] = ()) -> list[Verdict]:
    """Runs a study and judges all its references.

    The full form writes `experiments/results/NAME/`, in place of the result of an earlier run; the quick form, with
    fewer runs or steps, writes nothing.

    Raises:
        InputError: no such study, or a study that does not measure what the references ask of it.
    """
    directory = experiments()
    wanted = {key: ref for key, ref in references(directory).items() if ref.study == name}
    module = load(directory, name)
    started = time.perf_counter()
    outcome: Outcome = module.run(quick)
    seconds = time.perf_counter() - started
    strange = set(outcome.measured) - set(wanted)
    missing = set() if quick else set(wanted) - set(outcome.measured)
    if strange or missing:
        raise InputError(
            f"study {name}: references.toml and the study disagree about {', '.join(sorted(strange | missing))}."
        )
    verdicts = [judge(wanted[key], values) for key, values in outcome.measured.items()]
    if not quick:
        target = directory / "results" / name
        target.mkdir(parents=True, exist_ok=True)
        if outcome.panels:
            draw(outcome, wanted, target / f"{name}.png", _title(module))
        text = json.dumps(_record(name, outcome, verdicts, seconds, command), indent=1, ensure_ascii=False)
        (target / RESULT_FILE).write_text(text + "\n")
    return verdicts


def _title(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def _record(
    name: str, outcome: Outcome, verdicts: Iterable[Verdict], seconds: float, command: Sequence[str]
) -> dict[str, Any]:
    facts = results.provenance()
    return {
        "study": name,
        "command": " ".join(command) or f"jaxrl reproduce {name}",
        "seconds": round(seconds, 1),
        "versions": facts["versions"],
        "commit": (facts["git"] or {}).get("commit"),
        "backend": facts["backend"],
        "devices": facts["devices"],
        "settings": results.plain(outcome.settings),
        "references": [
            {
                **v.reference._asdict(),
                "ours": _short(v.value),
                "interval": [_short(v.low), _short(v.high)],
                "runs": v.runs,
                "verdict": v.word,
                "values": [_short(x) for x in np.atleast_1d(outcome.measured[v.reference.id]).tolist()[:100]],
            }
            for v in verdicts
        ],
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def draw(outcome: Outcome, published: Mapping[str, Reference], path: Path, title: str) -> None:
    """Draws the panels side by side: means with 95 % bands, published values as dotted lines with their tolerance.

    Maps are drawn as `plotting.value_map` does.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    count = len(outcome.panels)
    columns = 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(5.6 * columns, 4.4 * rows), layout="constrained")
    figure.suptitle(textwrap.fill(title, 62 * columns), fontsize=12)
    for index, panel in enumerate(outcome.panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.set_title(panel.title, fontsize=11, loc="left")
        if isinstance(panel, Map):
            plotting.draw_values(axes, panel.values, panel.actions, panel.arrows)
            continue
        for i, line in enumerate(panel.lines):
            colour = plotting.COLOURS[i % len(plotting.COLOURS)]
            runs = np.asarray(line.y, np.float64)
            mean = runs.mean(0)
            style = plotting.STYLES[i // len(plotting.COLOURS) % len(plotting.STYLES)]
            axes.plot(line.x, mean, style, color=colour, linewidth=1.8, label=line.label, zorder=3)
            if len(runs) > 1:
                error = 1.96 * runs.std(0, ddof=1) / math.sqrt(len(runs))
                axes.fill_between(line.x, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
        for key in panel.references:
            reference = published[key]
            axes.axhline(reference.value, color="black", linestyle=":", linewidth=1.2, zorder=2)
            axes.axhspan(
                reference.value - reference.tolerance, reference.value + reference.tolerance, color="black", alpha=0.06
            )
            axes.annotate(  # in the margin, where it hides no curve
                f"{reference.value:g}",
                (1.005, reference.value),
                xycoords=("axes fraction", "data"),
                ha="left",
                va="center",
                fontsize=7,
                annotation_clip=False,
            )
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
        if panel.y_limits:
            axes.set_ylim(*panel.y_limits)
        if panel.log_x:
            axes.set_xscale("log", base=2)
        elif axes.get_xlim()[1] >= 10_000:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plotting.format_steps(value)))
        axes.grid(color="#e5e5e5", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        if panel.lines:
            axes.legend(framealpha=0.8, edgecolor="none", fontsize=8.5)
    figure.savefig(path, dpi=110)


def page(directory: Path) -> str:
    """The text of docs/reproductions.md, from the committed results."""
    known = references(directory)
    lines = [
        "# Reproductions",
        "",
        "Published numbers beside ours. `jaxrl reproduce STUDY` runs a study again and writes its result; each row is",
        "from the committed `experiments/results/STUDY/result.json`, with the command, versions and values of every",
        "run. A reference matches when our 95 % interval meets the published value within the stated tolerance, and is",
        "narrow enough to have missed it. How a value was seen: as text, in data files, read off a figure, or computed",
        "exactly. This page is generated (`python docs/generate.py`).",
        "",
    ]
    body: list[str] = []
    counts = {"match": 0, "undecided": 0, "no match": 0}
    for path in sorted((directory / "results").glob(f"*/{RESULT_FILE}")):
        record = json.loads(path.read_text())
        name = record["study"]
        body += [f"## {name}", "", _title(load(directory, name)) + ".", ""]
        body += [
            f"`{record['command']}`, {record['seconds']:,.0f} s, jax {record['versions']['jax']}, {record['backend']}.",
            "",
        ]
        body += ["| id | claim | published | tolerance | ours (95 % interval) | runs | verdict | source |"]
        body += ["|---|---|---|---|---|---|---|---|"]
        for row in record["references"]:
            counts[row["verdict"]] += 1
            bound = {"equal": "", "at least": "≥ ", "at most": "≤ "}[row["compare"]]
            spread = f" {row['spread']}" if row["spread"] else ""
            low, high = row["interval"]
            interval = "" if row["runs"] == 1 else f" ({low:.5g} – {high:.5g})"
            body += [
                f"| {row['id']} | {row['claim']} | {bound}{row['value']:g}{spread} | {row['tolerance']:g} "
                f"| {row['ours']:.5g}{interval} | {row['runs']} | {row['verdict']} | {row['source']} ({row['seen']}) |"
            ]
        picture = path.parent / f"{name}.png"
        body += ["", f"![{name}](../experiments/results/{name}/{name}.png)", ""] if picture.exists() else [""]
        note = (load(directory, name).__doc__ or "").strip().partition("\n")[2].strip()
        body += [note, ""] if note else []
    total = sum(counts.values())
    lines += [
        f"**{counts['match']} of {total} references match**, {counts['undecided']} undecided, "
        f"{counts['no match']} do not; {len(known) - total} of {len(known)} entries have no result yet.",
        "",
    ]
    return "\n".join(lines + body).rstrip() + "\n"
