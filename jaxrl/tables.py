"""Results for other tools: tidy tables (pandas, CSV, Parquet), TensorBoard, Weights & Biases, marl-eval's JSON.

All start from the labelled results of a run or sweep; every seed of a vmapped batch becomes a run of its own there.
"""

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.errors import InputError
from jaxrl import outputs, results

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def to_dataframe(dataset: "xr.Dataset") -> "pd.DataFrame":
    """Returns a tidy table: a row for each configuration, seed and evaluation, a column for each variable.

    Args:
        dataset: what `results.curves` or `results.load` returned.
    """
    dataset = dataset.drop_dims("episode", errors="ignore")  # single episodes would repeat every other column
    table = dataset.to_dataframe().reset_index()
    first = [name for name in (*dataset.sizes, *dataset.coords) if name in table]
    return table[[*dict.fromkeys(first), *dataset.data_vars]]  # pyright: ignore[reportReturnType]


def to_csv(dataset: "xr.Dataset", path: str | Path, overwrite: bool = False) -> Path:
    """Writes the tidy table as comma-separated values, in place of a file that is there only with `overwrite`.

    Raises:
        InputError: the file exists or cannot be written.
    """
    return outputs.write(path, lambda new: to_dataframe(dataset).to_csv(new, index=False), overwrite)


def to_parquet(dataset: "xr.Dataset", path: str | Path, overwrite: bool = False) -> Path:
    """Writes the tidy table as Parquet, as `to_csv` does; needs the extra "parquet".

    Raises:
        InputError: pyarrow is not installed, or the file exists or cannot be written.
    """
    _require("pyarrow", "parquet")
    table = to_dataframe(dataset)
    return outputs.write(path, lambda new: table.to_parquet(new, index=False, engine="pyarrow"), overwrite)


def to_marl_eval(
    datasets: "Mapping[str, xr.Dataset]",
    path: str | Path,
    suite: str,
    task: str,
    variable: str = "evaluation_return",
    overwrite: bool = False,
) -> Path:
    """Writes the JSON of marl-eval: {suite: {task: {algorithm: {seed: {step: {step_count, return: [values]}}}}}}.

    That is the schema of Gorsane et al. 2022 (arXiv:2209.10485). Each step holds one value, the mean over the
    evaluation's episodes of the greedy policy. Their "absolute_metrics" are of the best policy evaluated anew; here
    they are the best evaluation of the run, which chance favours a little.

    Args:
        datasets: {algorithm: results without a sweep}.
        path: the file to write.
        suite: name of the environments.
        task: name of the environment.
        variable: what is written.
        overwrite: whether a file that is there may be replaced.

    Raises:
        InputError: a sweep, or a file that exists or cannot be written.
    """
    algorithms = {}
    for label, dataset in datasets.items():
        runs = {}
        for name, swept, curve in _runs(results.of_evaluation(dataset)):
            if swept:
                raise InputError(f"marl-eval's files know no sweeps; {label} has {', '.join(swept)}.")
            values = [float(value) for value in curve[variable].values]
            steps: dict[str, Any] = {
                f"step_{i}": {"step_count": int(step), "return": [value]}
                for i, (step, value) in enumerate(zip(curve["env_step"].values, values, strict=True))
            }
            runs[name] = steps | {"absolute_metrics": {"return": [max(values)]}}
        algorithms[label] = runs
    text = json.dumps({suite: {task: algorithms}}, indent=1)
    return outputs.write(path, lambda new: new.write_text(text + "\n", encoding="utf-8"), overwrite)


def to_tensorboard(dataset: "xr.Dataset", directory: str | Path) -> Path:
    """Writes TensorBoard's event files, one directory for each run; needs the extra "tensorboard".

    Args:
        dataset: what `results.curves` or `results.load` returned.
        directory: must not hold anything yet.

    Raises:
        InputError: tensorboardX is not installed, or the directory is in use.
    """
    tensorboard = _require("tensorboardX", "tensorboard")
    directory = results.create_run_directory(directory)
    for name, _, curve in _runs(dataset):
        with tensorboard.SummaryWriter(str(directory / name)) as writer:
            for step, values in _points(curve):
                for variable, value in values.items():
                    writer.add_scalar(variable, value, step)
    return directory


def to_wandb(dataset: "xr.Dataset", project: str, directory: str | Path, config: Mapping[str, Any]) -> None:
    """Logs every run to Weights & Biases, the runs of a batch in one group; needs the extra "wandb".

    WANDB_MODE=offline keeps everything in `directory`.

    Args:
        dataset: what `results.curves` or `results.load` returned.
        project: of Weights & Biases.
        directory: for its local files.
        config: settings to record with every run, such as a run's config.json.

    Raises:
        InputError: wandb is not installed.
    """
    wandb = _require("wandb", "wandb")
    Path(directory).mkdir(parents=True, exist_ok=True)
    group = f"{config.get('agent')} {config.get('env')}"
    for name, swept, curve in _runs(dataset):
        settings = {**config, **swept, "seed": int(curve["seed"])}
        run = wandb.init(project=project, dir=str(directory), group=group, name=name, config=settings)
        for step, values in _points(curve):
            run.log({"env_step": step, **values}, step=step)
        run.finish()


def _runs(dataset: "xr.Dataset") -> "Iterator[tuple[str, dict[str, Any], xr.Dataset]]":
    """(name, swept values, curves over env_step) of every run."""
    for swept, curve in results.configurations(dataset):
        settings = "-".join(
            f"{axis}={value:g}" if isinstance(value, float) else f"{axis}={value}" for axis, value in swept.items()
        )
        for index, seed in enumerate(curve["seed"].values):
            name = re.sub(r"[^\w.=-]", "_", "-".join(filter(None, (settings, f"seed_{seed}"))))
            yield name, swept, curve.isel(seed=index)


def _points(curve: "xr.Dataset") -> Iterator[tuple[int, dict[str, float]]]:
    """(step, finite values by name) of one run."""
    for index, step in enumerate(curve["env_step"].values):
        values = {str(name): float(curve[name].values[index]) for name in curve.data_vars}
        yield int(step), {name: value for name, value in values.items() if np.isfinite(value)}


def _require(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{module} is not installed: pip install 'jaxrl[{extra}]'.") from error
