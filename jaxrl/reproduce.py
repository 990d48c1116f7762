"""Known numbers against ours: `experiments/references.toml`, the studies, and the verdicts.

A study is a file `experiments/NAME.py` with a docstring and `run(quick) -> Outcome`; it may say `QUICK = True` when its
quick form is worth running as a check. References name the study that measures them. A study reports what it measured
for each of its references, one value per run, and what to draw; the interval, the verdict and the files are made here:
`experiments/results/NAME/result.json`, `verdicts.png` and, with what the study wants drawn, `NAME.png`.

A verdict compares the 95 % interval of our statistic (see `jaxrl.statistics`) with the band value ± tolerance:

    match         the whole interval lies within the band: equivalence is shown, not only a difference not found
    close         our value does, and the interval reaches beyond
    undecided     our value does not, but the interval meets the band: more runs are needed
    no match      the interval misses the band
    too few runs  fewer than five

For a reference that is a bound ("at least", "at most") the band is open at the other end. What is exact, a single
number and not a list of runs, matches within the band and does not match outside.
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
Origin = Literal["published", "computed", "simulated", "chosen"]
Seen = Literal["text", "data", "figure", ""]
Word = Literal["match", "close", "undecided", "no match", "too few runs"]
STATISTICS = {"mean": statistics.mean, "iqm": statistics.iqm, "median": statistics.median}
RESULT_FILE = "result.json"
VERDICTS_FILE = "verdicts.png"
BANDS = "95 % interval"  # what the bands of a study's picture are
_WORD_COLOURS = {"match": "#009E73", "close": "#0072B2", "undecided": "#E69F00", "no match": "#D55E00"}
_ORIGINS = {
    "published": "published by others",
    "computed": "computed exactly",
    "simulated": "simulated by us",
    "chosen": "a bar chosen by us",
}


class Reference(NamedTuple):
    """One number to measure again."""

    id: str
    study: str  # which file in experiments/ measures it
    claim: str  # what the number is: algorithm, environment, metric
    value: float
    tolerance: float  # half the width of the band that counts as the same
    source: str
    origin: Origin  # published by others; computed exactly; simulated by a program of ours; a bar chosen by us
    seen: Seen = ""  # how a published value was read
    spread: str = ""  # as published
    protocol: str = ""  # steps, runs, settings
    compare: Compare = "equal"
    statistic: str = "mean"  # of our runs; a key of STATISTICS


class Line(NamedTuple):
    """A curve, drawn as a statistic over runs with its 95 % interval."""

    label: str
    x: np.ndarray  # [n]
    y: np.ndarray  # [runs, n]


class Panel(NamedTuple):
    """Axes of the study's picture."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    references: Sequence[str] = ()  # ids of the references to draw across; the lines are of the first one's statistic
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
    word: Word


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
        if reference.origin not in get_args(Origin) or (reference.origin == "published") != bool(reference.seen):
            raise InputError(f"{path}: {reference.id}: origin={reference.origin!r} seen={reference.seen!r}")
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
    """Compares [runs] values of ours with a reference; a single number is exact."""
    runs = np.asarray(values, np.float64)
    value = float(STATISTICS[reference.statistic](runs))
    if runs.ndim == 0:
        return Verdict(reference, 1, value, value, value, _word(reference, value, value, value))
    return judge_interval(
        reference, len(runs), value, *statistics.stratified_bootstrap(runs, STATISTICS[reference.statistic])
    )


def judge_interval(reference: Reference, runs: int, value: float, low: float, high: float) -> Verdict:
    """Compares our statistic of so many runs and its 95 % interval with a reference."""
    few = runs < statistics.VERDICT_RUNS
    return Verdict(reference, runs, value, low, high, "too few runs" if few else _word(reference, value, low, high))


def _word(reference: Reference, value: float, low: float, high: float) -> Word:
    if not np.isfinite([value, low, high]).all():
        return "undecided"  # a run that is not finite says nothing either way
    bottom, top = band(reference)
    if bottom <= low and high <= top:
        return "match"
    if low > top or high < bottom:
        return "no match"
    return "close" if bottom <= value <= top else "undecided"


def band(reference: Reference) -> tuple[float, float]:
    """Returns (bottom, top) of what counts as the same as the reference."""
    bottom, top = reference.value - reference.tolerance, reference.value + reference.tolerance
    return -math.inf if reference.compare == "at most" else bottom, math.inf if reference.compare == "at least" else top


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
        _write_record(target, _record(name, outcome, verdicts, seconds, command))
    return verdicts


def judge_again(directory: Path) -> None:
    """Judges what is in `experiments/results` by the references and the rule of now, and draws the verdicts anew.

    Where a result has more runs than it keeps values of, its statistic and interval stand as they are.

    Raises:
        InputError: a result of a reference that there is no longer, or of another statistic than it keeps.
    """
    known = references(directory)
    for path in sorted((directory / "results").glob(f"*/{RESULT_FILE}")):
        record = json.loads(path.read_text())
        rows = []
        for row in record["references"]:
            if row["id"] not in known:
                raise InputError(f"{path}: {unknown('reference', row['id'], known)}")
            reference, values = known[row["id"]], row["values"]
            if np.ndim(values) == 0 or len(values) == row["runs"]:
                verdict = judge(reference, values)
            elif row["statistic"] == reference.statistic:
                verdict = judge_interval(reference, row["runs"], row["ours"], *row["interval"])
            else:
                raise InputError(
                    f"{path}: {row['id']} is now a matter of the {reference.statistic}: run the study again."
                )
            rows.append(_row(verdict, values))
        _write_record(path.parent, record | {"references": rows})


def _write_record(directory: Path, record: Mapping[str, Any]) -> None:
    (directory / RESULT_FILE).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    if record["references"]:
        draw_verdicts(record["references"], directory / VERDICTS_FILE)


def _row(verdict: Verdict, values: Any) -> dict[str, Any]:
    """The entry of result.json for a reference: `values` are those of the first 100 runs, or one exact number."""
    return {
        **verdict.reference._asdict(),
        "ours": _short(verdict.value),
        "interval": [_short(verdict.low), _short(verdict.high)],
        "runs": verdict.runs,
        "verdict": verdict.word,
        "values": _short(float(values)) if np.ndim(values) == 0 else [_short(x) for x in list(values)[:100]],
    }


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
        "bands": BANDS,
        "references": [_row(verdict, outcome.measured[verdict.reference.id]) for verdict in verdicts],
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def draw(outcome: Outcome, known: Mapping[str, Reference], path: Path, title: str) -> None:
    """Draws the panels side by side: a statistic with its 95 % interval, and references with their tolerance.

    Both are those of the verdicts (`judge`), at every point of a curve. Maps are drawn as `plotting.value_map` does.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    count = len(outcome.panels)
    columns = 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(5.6 * columns, 4.5 * rows + 0.3), layout="constrained")
    figure.suptitle(textwrap.fill(title, 62 * columns), fontsize=12)
    drawn = set()
    for index, panel in enumerate(outcome.panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.set_title(panel.title, fontsize=11, loc="left")
        if isinstance(panel, Map):
            plotting.draw_values(axes, panel.values, panel.actions, panel.arrows)
            continue
        statistic = known[panel.references[0]].statistic if panel.references else "mean"
        for i, line in enumerate(panel.lines):
            colour = plotting.COLOURS[i % len(plotting.COLOURS)]
            style = plotting.STYLES[i // len(plotting.COLOURS) % len(plotting.STYLES)]
            runs = np.asarray(line.y, np.float64)
            label = f"{line.label} (n = {len(runs)})" if len(runs) > 1 else line.label
            middle = STATISTICS[statistic](runs, axis=0)
            axes.plot(line.x, middle, style, color=colour, linewidth=1.8, label=label, zorder=3)
            if len(runs) > 1:
                drawn.add(statistic)
                low, high = statistics.bootstrap_curve(runs.T, STATISTICS[statistic])
                axes.fill_between(line.x, low, high, color=colour, alpha=0.2, linewidth=0)
        for key in panel.references:
            reference = known[key]
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
    if drawn:
        figure.supxlabel(
            f"lines: {' or '.join(sorted(drawn))} of n runs; bands: its 95 % interval; dotted: reference ± tolerance",
            fontsize=9,
            color="#555555",
        )
    figure.savefig(path, dpi=110)


def draw_verdicts(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws every reference of a result.json: its band, our runs, our statistic with its interval, and the verdict."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.78 * len(rows) + 0.6), layout="constrained")
    for index, row in enumerate(rows):
        axes = figure.add_subplot(len(rows), 1, index + 1)
        reference = Reference(**{name: row[name] for name in Reference._fields})
        bottom, top = band(reference)
        values = np.atleast_1d(np.asarray(row["values"], np.float64))
        seen = np.array([x for x in (row["ours"], *row["interval"], reference.value, bottom, top) if np.isfinite(x)])
        margin = 0.6 * float(np.ptp(seen)) or max(abs(reference.value), 1e-3) * 0.05
        left, right = seen.min() - margin, seen.max() + margin
        axes.axvspan(max(bottom, left), min(top, right), color="black", alpha=0.1, linewidth=0)
        axes.axvline(reference.value, color="black", linestyle=":", linewidth=1.2)
        colour = _WORD_COLOURS.get(row["verdict"], "#555555")
        if np.ndim(row["values"]):
            axes.plot(values, np.full(len(values), -0.5), "|", color="#555555", alpha=0.6, markersize=6, clip_on=True)
        axes.plot(row["interval"], [0.4, 0.4], color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot(row["ours"], 0.4, "o", color=colour, markersize=6)
        axes.set_xlim(left, right)
        axes.set_ylim(-1, 1)
        axes.set_yticks([])
        axes.tick_params(labelsize=8, length=2)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        what = "exact" if np.ndim(row["values"]) == 0 else f"{row['statistic']}, n = {row['runs']}"
        axes.set_title(textwrap.shorten(row["claim"], 95, placeholder=" …"), loc="left", fontsize=8.5, pad=2)
        axes.set_title(f"{row['verdict']} ({what})", loc="right", fontsize=8.5, color=colour, pad=2, weight="bold")
    figure.supxlabel(
        "grey: reference ± tolerance; dot and bar: our statistic with its 95 % interval; ticks: runs (at most 100)",
        fontsize=8.5,
        color="#555555",
    )
    figure.savefig(path, dpi=110)


def page(directory: Path) -> str:
    """The text of docs/reproductions.md, from the committed results."""
    known = references(directory)
    lines = [
        "# Reproductions",
        "",
        "Known numbers beside ours. `jaxrl reproduce STUDY` runs a study again and writes its result; each row is from",
        "the committed `experiments/results/STUDY/result.json`, with the command, versions and values of its runs.",
        "",
        "A reference **matches** when our whole 95 % interval lies within the stated tolerance of it (for a",
        "bound: on the right side). It is **close** when our value does and the interval reaches beyond,",
        "**undecided** when our value does not but the interval meets the band, and does **not match** when the",
        "interval misses it. Fewer than five runs get no verdict. What intervals are, and how often they hold",
        "what they should at a few runs, stands in `jaxrl/statistics.py`; they are symmetric, so that of a score",
        "with a ceiling may reach beyond it. Where a tolerance comes from stands in",
        "`experiments/references.toml`: it is the published spread where nothing else is said. This page is",
        "generated (`python docs/generate.py`).",
        "",
    ]
    body: list[str] = []
    counts = {origin: dict.fromkeys(get_args(Word), 0) for origin in get_args(Origin)}
    for path in sorted((directory / "results").glob(f"*/{RESULT_FILE}")):
        record = json.loads(path.read_text())
        name = record["study"]
        module = load(directory, name)
        body += [f"## {name}", "", _title(module) + ".", ""]
        body += [
            f"`{record['command']}`, {record['seconds']:,.0f} s, jax {record['versions']['jax']}, {record['backend']}.",
            "",
        ]
        if record["references"]:
            body += ["| id | claim | reference | tolerance | ours (95 % interval) | runs | verdict | origin | source |"]
            body += ["|---|---|---|---|---|---|---|---|---|"]
        for row in record["references"]:
            counts[row["origin"]][row["verdict"]] += 1
            bound = {"equal": "", "at least": "≥ ", "at most": "≤ "}[row["compare"]]
            spread = f" {row['spread']}" if row["spread"] else ""
            low, high = row["interval"]
            exact = np.ndim(row["values"]) == 0
            ours = f"{row['ours']:.5g}" + ("" if exact else f" ({low:.5g} – {high:.5g}), {row['statistic']}")
            read = f" ({row['seen']})" if row["seen"] else ""
            body += [
                f"| {row['id']} | {row['claim']} | {bound}{row['value']:g}{spread} | {row['tolerance']:g} | {ours} "
                f"| {'exact' if exact else row['runs']} | {row['verdict']} | {row['origin']}{read} | {row['source']} |"
            ]
        body += [""] if record["references"] else []
        for picture in (path.parent / VERDICTS_FILE, path.parent / f"{name}.png"):
            if picture.exists():
                body += [f"![{name}](../experiments/results/{name}/{picture.name})", ""]
                if picture.name != VERDICTS_FILE and record.get("bands") != BANDS:
                    body += [
                        "(Drawn by an earlier version: means over runs, with bands of ± 1.96 standard errors.)",
                        "",
                    ]
        note = (module.__doc__ or "").strip().partition("\n")[2].strip()
        body += [note, ""] if note else []
    words = [word for word in get_args(Word) if any(row[word] for row in counts.values())]
    total = sum(sum(row.values()) for row in counts.values())
    matches = sum(row["match"] for row in counts.values())
    lines += [
        f"**{matches} of {total} references match**; {len(known) - total} of {len(known)} have no result yet.",
        "",
        "| origin of the reference | all | " + " | ".join(words) + " |",
        "|---|---|" + "---|" * len(words),
        *(
            f"| {_ORIGINS[origin]} | {sum(row.values())} | " + " | ".join(str(row[word]) for word in words) + " |"
            for origin, row in counts.items()
            if any(row.values())
        ),
        f"| all | {total} | " + " | ".join(str(sum(row[word] for row in counts.values())) for word in words) + " |",
        "",
    ]
    return "\n".join(lines + body).rstrip() + "\n"
