import json
import math
from pathlib import Path

import numpy as np
import pytest

from envs.errors import InputError
from jaxrl import reproduce
from jaxrl.reproduce import Reference, judge

ROOT = Path(__file__).parents[2]
REFERENCE = Reference("X1", "mine", "a claim", 10.0, 0.5, "a paper", "published", "text")


def around(centre, spread, n=200):
    """Values with this mean and about this standard deviation."""
    values = np.random.default_rng(0).normal(size=n)
    return centre + spread * (values - values.mean()) / values.std()


@pytest.mark.parametrize(
    ("compare", "values", "word"),
    [
        ("equal", around(10.2, 1.0), "match"),  # ± 0.14: wholly within ± 0.5
        ("equal", around(10.4, 1.0), "close"),  # the interval reaches beyond
        ("equal", around(10.55, 1.0), "undecided"),  # our value lies outside, but the interval meets the band
        ("equal", around(11.0, 1.0), "no match"),
        ("equal", around(9.0, 1.0), "no match"),
        ("equal", around(10.0, 10.0, 20), "close"),  # ± 4.7 meets nearly anything, and shows nothing
        ("equal", around(11.0, 10.0, 20), "undecided"),
        ("equal", 10.4, "match"),
        ("equal", 10.6, "no match"),
        ("equal", [10.0], "too few runs"),
        ("equal", [10.0] * 4, "too few runs"),
        ("equal", [10.0] * 5, "match"),
        ("at least", around(30.0, 50.0), "match"),  # wide, but wholly on the right side
        ("at least", around(10.0, 50.0), "close"),
        ("at least", around(9.0, 10.0), "undecided"),
        ("at least", around(9.0, 1.0), "no match"),
        ("at most", 3.0, "match"),
        ("at most", around(-5.0, 50.0), "match"),
        ("at most", around(11.0, 1.0), "no match"),
        ("equal", [10.0, math.nan, 10.0, 10.0, 10.0], "undecided"),
    ],
)
def test_verdicts(compare, values, word):
    verdict = judge(REFERENCE._replace(compare=compare), values)
    assert verdict.word == word
    assert np.isnan(verdict.low) or verdict.low <= verdict.value <= verdict.high
    again = reproduce.judge_interval(verdict.reference, *verdict[1:5])
    assert again.word == word or np.ndim(values) == 0  # what is exact has no runs to count


def test_the_statistic_is_the_references():
    values = [0.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 100.0]
    assert judge(REFERENCE._replace(statistic="iqm"), values).value == 10.0
    assert judge(REFERENCE, values).value == 20.0


STUDY = '''"""A study of nothing.

What there is to say about it.
"""
import numpy as np
from jaxrl.reproduce import Line, Map, Outcome, Panel

def run(quick):
    n = 5 if quick else 50
    values = 10 + np.linspace(-0.1, 0.1, n)
    line = Line("ours", np.arange(3), np.stack([values] * 3, 1))
    grid = Map("m", np.eye(2), np.array([[0, 1], [0, -1]]), ((1, 0), (0, 1)))
    return Outcome({"X1": values}, [Panel("t", "x", "y", [line], ["X1"]), grid], {"runs": n})
'''
ENTRY = (
    '[[reference]]\nid="X1"\nstudy="mine"\nclaim="c"\nvalue=10.0\ntolerance=0.5\nsource="s"\n'
    'origin="published"\nseen="text"\n'
)


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    directory = tmp_path / "experiments"
    directory.mkdir()
    (directory / "mine.py").write_text(STUDY)
    (directory / "references.toml").write_text(ENTRY)
    monkeypatch.chdir(tmp_path)
    return directory


def test_the_full_form_writes_and_the_quick_one_does_not(experiments):
    (verdict,) = reproduce.reproduce("mine", quick=True)
    assert (verdict.word, verdict.runs) == ("match", 5)
    assert not (experiments / "results").exists()
    (verdict,) = reproduce.reproduce("mine")
    assert verdict.runs == 50
    record = json.loads((experiments / "results" / "mine" / "result.json").read_text())
    assert record["command"] == "jaxrl reproduce mine"
    assert record["settings"] == {"runs": 50}
    assert record["versions"]["jax"]
    (row,) = record["references"]
    assert row["verdict"] == "match"
    assert row["value"] == 10.0
    low, high = row["interval"]
    assert low < row["ours"] < high
    assert (experiments / "results" / "mine" / "mine.png").stat().st_size > 10_000
    assert (experiments / "results" / "mine" / "verdicts.png").stat().st_size > 5_000
    text = reproduce.page(experiments)
    assert "**1 of 1 references match**" in text
    assert "| published by others | 1 | 1 |" in text
    assert "earlier version" not in text
    assert "A study of nothing." in text
    assert "What there is to say about it." in text


@pytest.mark.parametrize(
    ("study", "entry", "words"),
    [
        ("minn", ENTRY, ["unknown study 'minn'", "Did you mean 'mine'"]),
        ("mine", ENTRY + ENTRY, ["X1 is there twice"]),
        ("mine", ENTRY + 'valu=3\n', ["valu", "Did you mean 'value'"]),
        ("mine", ENTRY.replace('source="s"\n', ""), ["X1", "source"]),
        ("mine", ENTRY + 'statistic="mode"\n', ["mode"]),
        ("mine", ENTRY.replace('"published"', '"heard"'), ["heard"]),
        ("mine", ENTRY.replace('"published"', '"computed"'), ["computed", "text"]),
        ("mine", ENTRY + ENTRY.replace("X1", "X2"), ["disagree about X2"]),
        ("mine", ENTRY.replace('"mine"', '"other"'), ["disagree about X1"]),
    ],
)  # fmt: skip
def test_bad_input_is_explained(experiments, study, entry, words):
    (experiments / "references.toml").write_text(entry)
    with pytest.raises(InputError) as caught:
        reproduce.reproduce(study)
    for word in words:
        assert word in str(caught.value)


def test_results_are_judged_again_when_a_tolerance_changes(experiments):
    reproduce.reproduce("mine")
    path = experiments / "results" / "mine" / "result.json"
    before = path.read_text()
    reproduce.judge_again(experiments)
    assert path.read_text() == before
    (experiments / "references.toml").write_text(ENTRY.replace("0.5", "0.001"))
    reproduce.judge_again(experiments)
    (row,) = json.loads(path.read_text())["references"]
    assert (row["tolerance"], row["verdict"]) == (0.001, "close")
    assert row["values"] == json.loads(before)["references"][0]["values"]
    assert "**0 of 1 references match**" in reproduce.page(experiments)
    record = json.loads(before)
    record["references"][0]["values"] = record["references"][0]["values"][:10]  # of 50: the rest is not kept
    path.write_text(json.dumps(record))
    reproduce.judge_again(experiments)
    (row,) = json.loads(path.read_text())["references"]
    assert (row["runs"], row["verdict"], row["interval"]) == (50, "close", record["references"][0]["interval"])
    (experiments / "references.toml").write_text(ENTRY + 'statistic="iqm"\n')
    with pytest.raises(InputError, match="run the study again"):
        reproduce.judge_again(experiments)
    (experiments / "references.toml").write_text(ENTRY.replace("X1", "X2"))
    with pytest.raises(InputError, match="unknown reference 'X1'"):
        reproduce.judge_again(experiments)


def test_the_bands_of_a_picture_are_the_intervals_of_the_verdict(experiments, monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self))
    values = np.random.default_rng(0).gamma(2.0, size=(8, 3))
    reference = REFERENCE._replace(statistic="iqm")
    panel = reproduce.Panel("t", "x", "y", [reproduce.Line("ours", np.arange(3), values)], ["X1"])
    reproduce.draw(reproduce.Outcome({}, [panel]), {"X1": reference}, experiments / "x.png", "title")
    (axes,) = figures[0].axes
    verdict = judge(reference, values[:, 2])
    assert axes.lines[0].get_ydata()[2] == pytest.approx(verdict.value)
    edges = axes.collections[0].get_paths()[0].vertices
    at_end = edges[edges[:, 0] == 2, 1]
    assert (at_end.min(), at_end.max()) == pytest.approx((verdict.low, verdict.high))
    assert axes.get_legend().get_texts()[0].get_text() == "ours (n = 8)"
    assert "iqm of n runs; bands: its 95 % interval" in figures[0]._supxlabel.get_text()


def test_without_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce.jaxrl, "__file__", str(tmp_path / "a" / "b" / "__init__.py"))
    with pytest.raises(InputError, match="needs a checkout"):
        reproduce.experiments()


def test_the_committed_references_and_results_fit_together():
    directory = ROOT / "experiments"
    known = reproduce.references(directory)
    names = reproduce.studies(directory)
    # An exercise that asks for a figure alone has no number to meet.
    compared = {"exploration", "minatar_breakout", "network_sizes", "reinforce_baselines"}  # with one another alone
    assert set(names) - {reference.study for reference in known.values()} == compared
    assert {reference.study for reference in known.values()} < set(names)
    origins = [reference.origin for reference in known.values()]
    counts = {"published": 57, "computed": 23, "simulated": 32, "chosen": 3}
    assert {origin: origins.count(origin) for origin in counts} == counts
    for name in names:
        assert callable(reproduce.load(directory, name).run)
    for path in (directory / "results").glob("*/result.json"):
        record = json.loads(path.read_text())
        assert record["study"] == path.parent.name
        for row in record["references"]:
            known_row = known[row["id"]]._asdict()
            assert {name: row[name] for name in known_row} == known_row, f"{path}: run the study again"
            kept = np.size(row["values"])
            if kept == row["runs"]:
                verdict = judge(known[row["id"]], row["values"])
                np.testing.assert_allclose(row["interval"], [verdict.low, verdict.high], rtol=1e-4)
            else:
                verdict = reproduce.judge_interval(known[row["id"]], row["runs"], row["ours"], *row["interval"])
            assert verdict.word == row["verdict"]
    page = (ROOT / "docs" / "reproductions.md").read_text()
    assert page == reproduce.page(directory), "python docs/generate.py"
