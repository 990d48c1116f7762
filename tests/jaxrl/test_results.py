import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from envs.errors import InputError
from jaxrl import results

SEEDS, EVALS, EPISODES = 12, 5, 3
STEPS = np.arange(EVALS) * 1_000_000_000  # beyond 32 bits


def arrays(*swept, seed=0):
    rng = np.random.default_rng(seed)
    shape = (*swept, SEEDS, EVALS)
    returns = rng.normal(100, 10, (*shape, EPISODES)).astype(np.float32)
    lengths = rng.integers(1, 500, (*shape, EPISODES)).astype(np.int32)
    count = rng.integers(0, 3, shape).astype(np.int32)
    train = (count * 7.0, count * 3, count)
    scalars = {"loss/value": rng.normal(size=shape).astype(np.float32), "updates": count.astype(np.uint32)}
    return returns, lengths, train, scalars


def make(**changes):
    returns, lengths, train, scalars = arrays()
    given = {"env_steps": STEPS, "seeds": range(SEEDS), "returns": returns, "lengths": lengths}
    return results.curves(**{**given, "train": train, "scalars": scalars, **changes})


def test_curves_are_labelled():
    returns, lengths, (_, _, count), scalars = arrays()
    dataset = make(attrs={"agent": "ppo", "config": {"layers": (64, 64)}, "double": True})
    assert dict(dataset.sizes) == {"seed": SEEDS, "env_step": EVALS}
    assert dataset["env_step"].values.tolist() == STEPS.tolist()
    np.testing.assert_allclose(dataset["evaluation_return"], returns.mean(-1), rtol=1e-6)
    np.testing.assert_allclose(dataset["evaluation_length"], lengths.mean(-1))
    np.testing.assert_array_equal(dataset["training_return"], np.where(count > 0, 7.0, np.nan))
    np.testing.assert_array_equal(dataset["training_length"], np.where(count > 0, 3.0, np.nan))
    np.testing.assert_array_equal(dataset["training_episodes"], count)
    np.testing.assert_array_equal(dataset["learner_loss_value"], scalars["loss/value"])
    assert all({"units", "description"} <= set(dataset[name].attrs) for name in dataset.data_vars)
    assert dataset["env_step"].attrs["units"] == "steps"
    assert dataset.attrs["agent"] == "ppo"
    assert json.loads(dataset.attrs["config"]) == {"layers": [64, 64]}
    value = dataset["evaluation_return"].sel(seed=3).isel(env_step=-1)
    np.testing.assert_allclose(value, returns[3, -1].mean(), rtol=1e-6)


def swept_dataset():
    returns, lengths, train, scalars = arrays(2, 3)
    dims = {"hp.learning_rate": [1e-4, 1e-3], "config.layers": [(64,), (64, 64), None]}
    return results.curves(STEPS, range(SEEDS), returns, lengths, train, scalars, dims=dims), returns


def test_a_sweep_has_named_axes():
    dataset, returns = swept_dataset()
    assert list(dataset["evaluation_return"].dims) == ["hp.learning_rate", "config.layers", "seed", "env_step"]
    one = dataset["evaluation_return"].sel({"hp.learning_rate": 1e-3, "config.layers": "(64, 64)", "seed": 4})
    np.testing.assert_allclose(one, returns[1, 1, 4].mean(-1), rtol=1e-6)
    parts = results.configurations(dataset)
    assert len(parts) == 6
    assert parts[0][0] == {"hp.learning_rate": 1e-4, "config.layers": "(64,)"}
    assert parts[0][1]["evaluation_return"].dims == ("seed", "env_step")


@pytest.mark.parametrize("swept", [False, True])
def test_netcdf_round_trip(tmp_path, swept):
    dataset = swept_dataset()[0] if swept else make(attrs={"agent": "ppo", "flag": True})
    path = results.save(dataset, tmp_path / "results.nc")
    again = results.load(path)
    assert again.identical(dataset)
    assert {name: again[name].dtype.kind for name in again.variables} == {
        name: dataset[name].dtype.kind for name in dataset.variables
    }
    assert again["env_step"].dtype == np.int64
    results.save(again, path)  # what was read can be written over what it was read from
    assert results.load(path).identical(dataset)
    assert [file.name for file in tmp_path.iterdir()] == ["results.nc"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = results.save(make(), tmp_path / "results.nc")
    before = path.read_bytes()

    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.files.os, "fsync", fail)
    with pytest.raises(InputError, match=r"cannot write .*results.nc: No space left on device\.$"):
        results.save(make(scalars={}), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.nc"]


def test_every_flipped_bit_is_noticed(tmp_path):
    path = results.save(make(), tmp_path / "results.nc")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(8 * len(whole), size=200):
        content = bytearray(whole)
        content[place // 8] ^= 1 << (place % 8)
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"results.nc is damaged or holds no results of a run"):
            results.load(path)


def test_results_of_the_version_before_are_read(tmp_path):
    """They had no hash, and another name for the types of their variables."""
    dataset = make()
    wide = {name: str(dataset[name].dtype) for name in ("seed", "env_step")}
    stored = dataset.drop_vars("learner_updates").assign_attrs(integer_variables=json.dumps(wide))
    for name in wide:
        stored = stored.assign({name: dataset[name].variable.astype("float64")})
    stored.to_netcdf(tmp_path / "results.nc", engine="scipy", format="NETCDF3_64BIT")
    assert results.load(tmp_path / "results.nc").identical(dataset.drop_vars("learner_updates"))


def test_results_know_their_run(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        results.write_config(tmp_path / name, {"agent": "ppo"})
    path = results.save(make(), tmp_path / "one" / "results.nc")
    assert results.load(path).attrs["run"] == results.read_config(tmp_path / "one")["run"]
    foreign = tmp_path / "other" / "results.nc"
    foreign.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"other/results.nc belongs to another run than the config.json beside it"):
        results.load(foreign)
    alone = tmp_path / "elsewhere.nc"
    alone.write_bytes(path.read_bytes())
    assert results.load(alone).identical(results.load(path))


def test_bad_results_files(tmp_path):
    with pytest.raises(InputError, match="there are no results at"):
        results.load(tmp_path / "none.nc")
    with pytest.raises(InputError, match="cannot write"):
        results.save(make(), tmp_path / "missing" / "r.nc")
    path = results.save(make(), tmp_path / "r.nc")
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:40], b"\x89HDF" + whole[4:]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged or holds no results"):
            results.load(path)
    import xarray as xr

    xr.Dataset({"x": 1.0}).to_netcdf(path, engine="scipy")
    with pytest.raises(InputError, match="holds no results"):
        results.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": range(3)}, r"evaluation_return has shape \(12, 5\); {'seed': 3, 'env_step': 5} is needed"),
        ({"env_steps": [1]}, "evaluation_return has shape"),
        ({"lengths": np.ones((SEEDS, EVALS, 2))}, "same episodes"),
        ({"returns": np.ones((SEEDS, EVALS, 0)), "lengths": np.ones((SEEDS, EVALS, 0))}, "at least one"),
        ({"train": (np.ones(3),) * 3}, "training_return has shape"),
        ({"scalars": {"loss": np.ones((EVALS, SEEDS))}}, "learner_loss has shape"),
        ({"dims": {"hp.rate": [1, 2]}}, "evaluation_return has shape"),
    ],
)
def test_shapes_that_do_not_fit(changes, message):
    with pytest.raises(InputError, match=message):
        make(**changes)


def test_summary():
    dataset = make()
    (row,) = results.summary(dataset)
    final = dataset["evaluation_return"].values[:, -1]
    assert (row.swept, row.env_step, row.seeds) == ({}, STEPS[-1], SEEDS)
    np.testing.assert_allclose(row.mean, final.mean())
    np.testing.assert_allclose(row.std, final.std(ddof=1))
    np.testing.assert_allclose(row.iqm, np.sort(final)[3:9].mean())
    assert row.min == final.min() <= row.low <= row.iqm <= row.high <= row.max == final.max()
    rows = results.summary(swept_dataset()[0])
    assert [row.swept["config.layers"] for row in rows] == ["(64,)", "(64, 64)", "None"] * 2


def test_summary_of_one_seed_and_of_none():
    returns, lengths, _, _ = arrays()
    (row,) = results.summary(results.curves(STEPS, [5], returns[:1], lengths[:1]))
    assert row.iqm == row.mean
    assert np.isnan([row.std, row.low, row.high]).all()
    empty = np.ones((SEEDS, 0, EPISODES))
    with pytest.raises(InputError, match="no evaluation"):
        results.summary(results.curves(np.ones(0), range(SEEDS), empty, empty))


def test_run_directory(tmp_path):
    directory = results.create_run_directory(tmp_path / "runs" / "a")
    assert directory.is_dir()
    assert results.create_run_directory(directory) == directory  # still empty
    (directory / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"is not empty; nothing is overwritten.*jaxrl resume"):
        results.create_run_directory(str(directory))
    with pytest.raises(InputError, match="a file of that name exists"):
        results.create_run_directory(directory / "config.json")
    with pytest.raises(InputError, match="Not a directory"):
        results.create_run_directory(directory / "config.json" / "b")


def test_directories_of_one_second_have_different_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results.time, "strftime", lambda *args: "20300101-120000")
    names = [results.create_run_directory(name="ppo My/Env-v1").name for _ in range(3)]
    assert names == [f"ppo_My_Env-v1-20300101-120000{end}" for end in ("", "-2", "-3")]


def test_what_a_killed_process_leaves_does_not_make_a_directory_occupied(tmp_path):
    for name in ("lock", ".config.json.123.tmp"):
        (tmp_path / name).write_text("")
    assert results.create_run_directory(tmp_path) == tmp_path
    with pytest.raises(InputError, match=r"has no config.json; a run was about to begin there: start it again"):
        results.check_layout(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        results.create_run_directory(tmp_path)


@pytest.mark.parametrize("name", ["checkpoints", "policies", "results.nc", "cost.json", "curve.png"])
def test_a_file_in_the_place_of_a_directory_is_refused_at_once(tmp_path, name):
    results.write_config(tmp_path, {})
    results.check_layout(tmp_path)
    (tmp_path / name).mkdir() if "." in name else (tmp_path / name).write_text("")
    kinds = ("a directory", "a file") if "." in name else ("a file", "a directory")
    with pytest.raises(InputError, match=f"{name} is {kinds[0]}, but must be {kinds[1]}: move it away"):
        results.check_layout(tmp_path)


def test_an_unwritable_place(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    # the tests may run as root, whom no directory refuses
    monkeypatch.setattr(results.tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match="is not writable: Permission denied"):
        results.create_run_directory(tmp_path)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="cannot be made: Permission denied"):
        results.create_run_directory(tmp_path / "b")


@dataclass(frozen=True)
class Config:
    num_envs: int = 4
    layers: tuple = (64, 64)
    dtype: type = np.float32


class Hyperparams(NamedTuple):
    learning_rate: object
    gamma: float


def test_config(tmp_path):
    hp = Hyperparams(jnp.float32(3e-4), np.float64(0.99))
    given = {"agent": "ppo", "config": Config(), "hp": hp, "seeds": np.arange(3), "swept": jnp.asarray([0.1, 0.2])}
    path = results.write_config(tmp_path, {**given, "out": tmp_path, "command": ["jaxrl", "train"], "limit": np.inf})
    config = results.read_config(tmp_path)
    seal = json.loads(path.read_text()).pop("sha256")
    assert json.loads(path.read_text()) == config | {"sha256": seal}
    assert config["format"] == results.FORMAT
    assert results.belonging(tmp_path) == {"run": config["run"]}
    assert config["config"] == {"num_envs": 4, "layers": [64, 64], "dtype": "float32"}
    assert config["hp"] == {"learning_rate": 0.0003, "gamma": 0.99}  # as one wrote it, not 0.0003000000142492354
    assert config["seeds"] == [0, 1, 2]
    assert config["swept"] == [0.1, 0.2]
    assert config["limit"] == np.inf
    provenance = config["provenance"]
    assert set(results.RECORDED_PACKAGES) | {"python"} == set(provenance["versions"])
    assert provenance["backend"] in ("cpu", "gpu", "tpu")
    assert provenance["git"] is None or len(provenance["git"]["commit"]) == 40


def test_config_missing_or_damaged(tmp_path):
    with pytest.raises(InputError, match=r"is not a run directory: it has no config.json"):
        results.read_config(tmp_path)
    for content in (b"", b'{"agent": "pp', b"\xff\xfe", b"[1, 2]"):
        (tmp_path / "config.json").write_bytes(content)
        with pytest.raises(InputError, match=r"config.json is damaged"):
            results.read_config(tmp_path)
    path = results.write_config(tmp_path, {"agent": "ppo", "steps": 1000})
    whole = path.read_text()
    for old, new in (("1000", "1001"), ('"sha256"', '"sha257"'), ('"run"', '"fun"'), ("ppo", "ppp")):
        path.write_text(whole.replace(old, new))
        with pytest.raises(InputError, match=r"config.json is damaged: it (is not as it was written|has no checksum)"):
            results.read_config(tmp_path)
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"config.json is damaged: it is nested too deep"):
        results.read_config(tmp_path)
    path.write_text('{"agent": "ppo", "format": 2}')  # of the version before seals
    assert results.read_config(tmp_path)["agent"] == "ppo"
    with pytest.raises(InputError, match="cannot write"):
        results.write_config(tmp_path / "none", {})


def test_a_change_of_machine_is_noted(tmp_path, monkeypatch):
    results.write_config(tmp_path, {"agent": "ppo"})
    run = results.belonging(tmp_path)
    assert results.record_resumption(tmp_path, 1) == []
    assert "resumed" not in results.read_config(tmp_path)
    now = results.provenance()
    other = now | {"devices": ["cpu"] * 7, "versions": now["versions"] | {"jax": "0.99"}}
    monkeypatch.setattr(results, "provenance", lambda: other)
    differences = results.record_resumption(tmp_path, 3)
    assert differences == [
        f"jax 0.99 (before: {now['versions']['jax']})",
        f"devices 7 × cpu (before: {len(now['devices'])} × {now['devices'][0]})",
    ]
    assert results.record_resumption(tmp_path, 4) == []  # as it was left
    config = results.read_config(tmp_path)
    assert [entry["evaluations"] for entry in config["resumed"]] == [3]
    assert config["resumed"][0]["provenance"]["versions"]["jax"] == "0.99"
    assert config["provenance"]["versions"] == now["versions"]
    assert results.belonging(tmp_path) == run


def test_cost(tmp_path):
    results.write_cost(tmp_path, {"compile_s": 1.5, "env_steps_per_s": np.float32(2e6), "backend": "cpu"})
    assert results.read_cost(tmp_path) == {"compile_s": 1.5, "env_steps_per_s": 2e6, "backend": "cpu"}
    (tmp_path / "cost.json").write_text('{"compile_s": 1.5}')  # of the version before hashes
    assert results.read_cost(tmp_path) == {"compile_s": 1.5}


def test_cost_knows_its_run_and_its_hash(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        results.write_config(tmp_path / name, {})
        results.write_cost(tmp_path / name, {"compile_s": 1.5})
        assert results.read_cost(tmp_path / name) == {"compile_s": 1.5}
    one, other = (tmp_path / name / "cost.json" for name in ("one", "other"))
    other.write_bytes(one.read_bytes())
    with pytest.raises(InputError, match=r"other/cost.json belongs to another run than the config.json beside it"):
        results.read_cost(tmp_path / "other")
    whole = one.read_text()
    for old, new in (("1.5", "1.6"), ('"sha256"', '"sha25v"'), ('"format"', '"fprmat"')):
        one.write_text(whole.replace(old, new))
        with pytest.raises(InputError, match=r"cost.json is damaged"):
            results.read_cost(tmp_path / "one")


def test_peak_memory_grows_with_use():
    before = results.peak_memory()
    assert 50e6 < before < 100e9
    block = np.ones(80_000_000, np.uint8)
    assert results.peak_memory() >= before
    assert block.all()


def test_a_system_that_does_not_tell_its_memory(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows
    assert results.peak_memory() == 0


def test_heavy_libraries_wait_until_they_are_needed():
    program = (
        "import sys, jaxrl.results, jaxrl.checkpoint, jaxrl.plotting, jaxrl.portable\n"
        "heavy = {'xarray', 'pandas', 'matplotlib', 'orbax', 'scipy.stats'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
