"""Results for other tools, read back with those tools where they are installed."""

import json
import sys
import types

import numpy as np
import pandas as pd
import pytest

from envs.errors import InputError
from jaxrl import results, tables


def dataset(**dims):
    shape = (*(len(values) for values in dims.values()), 2, 3)  # seeds, evaluations
    returns = np.arange(np.prod(shape), dtype=float).reshape(shape)
    count = np.ones(shape, int)
    return results.curves(
        [10, 20, 30],
        [4, 7],
        returns[..., None],
        returns[..., None],
        train=(returns, returns, count),
        scalars={"loss": np.where(returns == 0, np.nan, returns / 10)},
        dims={name.replace("_", ".", 1): values for name, values in dims.items()},
    )


def test_a_row_for_every_evaluation():
    table = tables.to_dataframe(dataset())
    assert list(table.columns[:3]) == ["seed", "env_step", "evaluation_return"]
    np.testing.assert_array_equal(table.evaluation_return, np.arange(6))
    np.testing.assert_array_equal(table.seed, [4, 4, 4, 7, 7, 7])
    np.testing.assert_array_equal(table.env_step, [10, 20, 30] * 2)
    swept = tables.to_dataframe(dataset(hp_gamma=[0.9, 0.99]))
    assert list(swept.columns[:3]) == ["hp.gamma", "seed", "env_step"]
    assert (
        swept[(swept["hp.gamma"] == 0.99) & (swept.seed == 7) & (swept.env_step == 20)].evaluation_return.item() == 10
    )


def test_csv_and_parquet_read_back(tmp_path):
    want = tables.to_dataframe(dataset(hp_gamma=[0.9, 0.99]))
    pd.testing.assert_frame_equal(pd.read_csv(tables.to_csv(dataset(hp_gamma=[0.9, 0.99]), tmp_path / "x.csv")), want)
    with pytest.raises(InputError, match="nothing is overwritten"):
        tables.to_csv(dataset(), tmp_path / "x.csv")
    tables.to_csv(dataset(), tmp_path / "x.csv", overwrite=True)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "x.csv"), tables.to_dataframe(dataset()))
    with pytest.raises(InputError, match="cannot write"):
        tables.to_csv(dataset(), tmp_path / "nowhere" / "x.csv")
    pytest.importorskip("pyarrow")
    pd.testing.assert_frame_equal(
        pd.read_parquet(tables.to_parquet(dataset(hp_gamma=[0.9, 0.99]), tmp_path / "x.parquet")), want
    )


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    for module, write in (
        ("pyarrow", lambda: tables.to_parquet(dataset(), tmp_path / "x.parquet")),
        ("tensorboardX", lambda: tables.to_tensorboard(dataset(), tmp_path / "events")),
        ("wandb", lambda: tables.to_wandb(dataset(), "project", tmp_path, {})),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(InputError, match=rf"{module} is not installed: pip install 'jaxrl\["):
            write()


def test_marl_evals_schema(tmp_path):
    path = tables.to_marl_eval({"dqn": dataset()}, tmp_path / "x.json", "classic", "CartPole-v1")
    runs = json.loads(path.read_text())["classic"]["CartPole-v1"]["dqn"]
    assert list(runs) == ["seed_4", "seed_7"]
    assert runs["seed_7"]["step_1"] == {"step_count": 20, "return": [4.0]}
    assert runs["seed_7"]["absolute_metrics"] == {"return": [5.0]}
    with pytest.raises(InputError, match="know no sweeps"):
        tables.to_marl_eval({"dqn": dataset(hp_gamma=[0.9, 0.99])}, tmp_path / "y.json", "classic", "CartPole-v1")


def test_tensorboard_reads_the_events(tmp_path):
    pytest.importorskip("tensorboardX")
    tables.to_tensorboard(dataset(hp_gamma=[0.9, 0.99]), tmp_path / "events")
    names = sorted(path.name for path in (tmp_path / "events").iterdir())
    assert names == [f"hp.gamma={gamma}-seed_{seed}" for gamma in (0.9, 0.99) for seed in (4, 7)]
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(tmp_path / "events" / names[0])).Reload()
    assert [(e.step, e.value) for e in events.Scalars("evaluation_return")] == [(10, 0.0), (20, 1.0), (30, 2.0)]
    assert [e.step for e in events.Scalars("learner_loss")] == [20, 30]  # what is not finite is left out


def test_a_run_of_wandb_for_every_seed(monkeypatch, tmp_path):
    """What is asked of the library; the offline mode of the real one was tried by hand."""
    started = []

    class Run:
        def __init__(self, **settings):
            self.settings, self.rows, self.finished = settings, [], False
            started.append(self)

        def log(self, row, step):
            self.rows.append((step, row))

        def finish(self):
            self.finished = True

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=Run))
    tables.to_wandb(dataset(), "project", tmp_path / "w", {"agent": "dqn", "env": "CartPole-v1"})
    assert [run.settings["name"] for run in started] == ["seed_4", "seed_7"]
    assert started[1].settings["config"] == {"agent": "dqn", "env": "CartPole-v1", "seed": 7}
    assert {run.settings["group"] for run in started} == {"dqn CartPole-v1"}
    assert started[1].rows[0][0] == 10
    assert started[1].rows[0][1]["evaluation_return"] == 3.0
    assert all(run.finished for run in started)
