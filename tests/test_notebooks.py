"""The notebooks run from top to bottom, at a small size."""

import json
import tempfile
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SMALL = {
    "from_one_seed_to_a_thousand": {
        "SEEDS": 6,
        "STEPS": 5 * 512,
        "SWEEP_SEEDS": 2,
        "POPULATION": 4,
        "ROUNDS": 2,
        "SETTINGS": 8,
    },
    "write_your_own_environment": {"STEPS": 6_000, "SEEDS": 2},
    "write_your_own_agent": {"STEPS": 16_000, "SEEDS": 2},
}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem == "write_your_own_agent" else pytest.mark.slow)
        for path in NOTEBOOKS
    ],
)
def test_runs(path, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert any(cell["outputs"] for cell in cells), "a notebook is committed with its outputs"
    sources = ["".join(cell["source"]) for cell in cells]
    assert sources[0].startswith("# Sizes")
    space: dict = {"__name__": "notebook"}
    for number, source in enumerate(sources):
        exec(compile(source, f"{path.name}[{number}]", "exec"), space)  # our own file
        if number == 0:
            assert set(SMALL[path.stem]) <= set(space)
            space |= SMALL[path.stem]
    assert list(space["pictures"].glob("*.png"))


def test_all_are_run():
    assert {path.stem for path in NOTEBOOKS} == set(SMALL)
