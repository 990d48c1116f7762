import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.errors import InputError
from jaxrl import checkpoint

IDENTITY = {"agent": "dqn", "env": "CartPole-v1", "config": {"num_envs": 4, "layers": (64, 64)}, "seeds": [0, 1, 2]}


class Learner(NamedTuple):
    params: dict
    opt_state: tuple


class State(NamedTuple):
    learner: Learner
    keys: jax.Array
    replay: dict
    steps: jax.Array
    hp: dict


def make_state(seed=0):
    """A batch of 3 runs with every kind of leaf."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((3, 4, 5), np.float32)
    normal.view(np.uint32)[0, 0, :3] = (0x7FC12345, 0x80000000, 0x00000001)  # a NaN with a payload, -0.0, a subnormal
    return State(
        learner=Learner({"Dense_0/a.b": {"kernel": jnp.asarray(normal)}}, ({}, jnp.zeros((3, 0)), None)),
        keys=jax.random.wrap_key_data(jnp.asarray(rng.integers(2**32, size=(3, 2), dtype=np.uint32))),
        replay={
            "obs": jnp.asarray(rng.integers(256, size=(3, 50, 4, 4), dtype=np.uint8)),
            "terminated": jnp.asarray(rng.random((3, 50)) < 0.5),
            "half": jnp.asarray(rng.standard_normal((3, 2)), jnp.bfloat16),
        },
        steps=jnp.asarray([1, -2, 2**31 - 1], jnp.int32),
        hp={"learning_rate": jnp.float32(0.1), "seed": jnp.asarray([2**32 - 1], jnp.uint32)},
    )


def bits(tree):
    def leaf_bits(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return (str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes())

    return jax.tree.structure(tree), [leaf_bits(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two checkpoints of one run; tests that damage them work on a copy."""
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    checkpoint.save(directory, make_state(1), 100, IDENTITY)
    checkpoint.save(directory, make_state(2), 200, IDENTITY)
    return directory


def test_every_bit_comes_back(saved):
    template = jax.eval_shape(make_state)
    state, step = checkpoint.restore(saved, template, IDENTITY)
    assert step == 200
    assert bits(state) == bits(make_state(2))
    assert all(isinstance(leaf, jax.Array) and not leaf.committed for leaf in jax.tree.leaves(state))
    jax.random.normal(state.keys[0], ())  # the keys are keys
    older, step = checkpoint.restore(saved, make_state(5), IDENTITY, step=100)
    assert step == 100
    assert bits(older) == bits(make_state(1))


def test_the_newest_are_kept(tmp_path):
    state = {"x": jnp.arange(3.0)}
    assert checkpoint.steps(tmp_path / "none") == []
    for step in (10, 20, 100, 30):
        path = checkpoint.save(tmp_path, state, step, IDENTITY)
        assert path.is_dir()
    assert checkpoint.steps(tmp_path) == [30, 100]  # 100 is the newest by step, and 30 was the one just saved
    checkpoint.save(tmp_path, state, 200, IDENTITY, keep=1)
    assert checkpoint.steps(tmp_path) == [200]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_step_saved_again_is_replaced(tmp_path):
    for value in range(3):
        checkpoint.save(tmp_path, {"x": jnp.full(2, value)}, 7, IDENTITY)
    state, step = checkpoint.restore(tmp_path, {"x": jnp.zeros(2, int)}, IDENTITY)
    assert (step, state["x"].tolist()) == (7, [2, 2])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_state_without_entries(tmp_path):
    for state in ({}, {"x": jnp.zeros((0, 3))}):
        checkpoint.save(tmp_path, state, 0, {})
        restored, _ = checkpoint.restore(tmp_path, state, {})
        assert bits(restored) == bits(state)


def test_another_run_is_refused_with_all_that_differs(saved):
    ours = {**IDENTITY, "agent": "ppo", "config": {"num_envs": 8, "layers": [64, 64], "clip": 0.2}}
    with pytest.raises(InputError) as caught:
        checkpoint.restore(saved, jax.eval_shape(make_state), ours)
    message = str(caught.value)
    assert "belongs to another run" in message
    assert 'agent: ours "ppo", the checkpoint\'s "dqn"' in message
    assert "config.num_envs: ours 8, the checkpoint's 4" in message
    assert "config.clip: ours 0.2, the checkpoint's absent" in message
    assert "layers" not in message
    assert "env:" not in message
    # identity comes first: that the state differs too is a consequence
    with pytest.raises(InputError, match="another run"):
        checkpoint.restore(saved, {}, ours)


def test_identity_survives_json(tmp_path):
    identity = {
        "rate": np.float32(0.1),
        "count": np.int64(3),
        "nan": float("nan"),
        "inf": float("inf"),
        "path": tmp_path,
    }
    identity |= {"one": 1, "tuple": (1, None), "dtype": np.dtype(np.uint8), "empty": {}, "flag": True}
    checkpoint.save(tmp_path / "c", {"x": jnp.zeros(1)}, 0, identity)
    checkpoint.restore(tmp_path / "c", {"x": jnp.zeros(1)}, {**identity, "one": 1.0, "tuple": [1, None]})
    with pytest.raises(InputError, match="flag: ours 1, the checkpoint's true"):
        checkpoint.restore(tmp_path / "c", {"x": jnp.zeros(1)}, {**identity, "flag": 1})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda s: s._replace(steps=jnp.zeros(4, jnp.int32)),
            ".steps: ours int32[4], the checkpoint's int32[3]",
        ),
        (
            lambda s: s._replace(steps=jnp.zeros(3, jnp.float32)),
            ".steps: ours float32[3], the checkpoint's int32[3]",
        ),
        (
            lambda s: s._replace(keys=jax.random.split(jax.random.key(0, impl="rbg"), 3)),
            ".keys: ours key<rbg>[3], the checkpoint's key<fry>[3]",
        ),
        (
            lambda s: s._replace(keys=jax.random.key_data(s.keys)),
            ".keys: ours uint32[3, 2], the checkpoint's key<fry>[3]",
        ),
        (
            lambda s: s._replace(hp={"learning_rate": s.hp["learning_rate"]}),
            ".hp['seed']: ours absent, the checkpoint's uint32[1]",
        ),
        (
            lambda s: s._replace(hp={**s.hp, "clip": jnp.zeros(3)}),
            ".hp['clip']: ours float32[3], the checkpoint's absent",
        ),
    ],
)
def test_another_state_is_refused_by_leaf(saved, change, expected):
    with pytest.raises(InputError, match="does not hold this state") as caught:
        checkpoint.restore(saved, jax.eval_shape(lambda: change(make_state())), IDENTITY)
    assert expected in str(caught.value)
    assert str(caught.value).count("ours") == 1


def test_missing_checkpoints(saved, tmp_path):
    template = jax.eval_shape(make_state)
    with pytest.raises(InputError, match="does not exist"):
        checkpoint.restore(tmp_path / "none", template, IDENTITY)
    with pytest.raises(InputError, match="holds no complete checkpoint"):
        checkpoint.restore(tmp_path, template, IDENTITY)
    with pytest.raises(InputError, match=r"no checkpoint of step 150 in .*Steps there: 100, 200"):
        checkpoint.restore(saved, template, IDENTITY, step=150)


def copy(saved, tmp_path):
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    return directory


def files_of(path):
    return sorted(file for file in path.rglob("*") if file.is_file())


def test_damage_is_noticed_and_the_older_checkpoint_named(saved, tmp_path):
    template = jax.eval_shape(make_state)
    directory = copy(saved, tmp_path)
    whole = tmp_path / "whole"
    (directory / "200").rename(whole)
    for file in files_of(whole):
        relative = file.relative_to(whole)
        content = file.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        for damaged in (None, content[:middle], flipped):
            shutil.copytree(whole, directory / "200")
            if damaged is None:
                (directory / "200" / relative).unlink()
            else:
                (directory / "200" / relative).write_bytes(damaged)
            with pytest.raises(InputError) as caught:
                checkpoint.restore(directory, template, IDENTITY)
            assert f"{directory / '200'} is damaged: {relative}" in str(caught.value)
            assert "The checkpoint before it is of step 100 (--checkpoint 100)" in str(caught.value)
            shutil.rmtree(directory / "200")
    state, _ = checkpoint.restore(directory, template, IDENTITY)
    assert bits(state) == bits(make_state(1))


def test_a_manifest_edited_by_hand_is_refused(saved, tmp_path):
    directory = copy(saved, tmp_path)
    file = directory / "200" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["identity"]["agent"] = "ppo"
    file.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"manifest.json: it is not as it was written"):
        checkpoint.restore(directory, jax.eval_shape(make_state), {**IDENTITY, "agent": "ppo"})


def damage(file):
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_damaged_newest_one_is_set_aside_for_the_one_before_it(saved, tmp_path):
    template = jax.eval_shape(make_state)
    directory = copy(saved, tmp_path)
    checkpoint.save(directory, make_state(3), 300, IDENTITY, keep=3)
    damage(directory / "300" / "arrays" / "_METADATA")
    (directory / "200" / "manifest.json").unlink()
    said = []
    state, step = checkpoint.restore(directory, template, IDENTITY, fall_back=said.append)
    assert step == 100
    assert bits(state) == bits(make_state(1))
    (text,) = said
    assert f"{directory / '300'} is damaged: arrays/_METADATA" in text
    assert "Going on from step 100; set-aside-200, set-aside-300" in text
    assert checkpoint.steps(directory) == [100]
    assert {path.name for path in directory.iterdir()} == {"100", "set-aside-200", "set-aside-300"}
    # One that is named is used, or nothing is; where none is good, all stay.
    damage(directory / "100" / "manifest.json")
    for given in ({"step": 100}, {"fall_back": said.append}):
        with pytest.raises(InputError, match="100 is damaged"):
            checkpoint.restore(directory, template, IDENTITY, **given)
    assert len(said) == 1
    assert checkpoint.steps(directory) == [100]


def test_a_renamed_checkpoint_is_not_taken_for_a_later_one(saved, tmp_path):
    template = jax.eval_shape(make_state)
    directory = copy(saved, tmp_path)
    (directory / "200").rename(directory / "500")
    with pytest.raises(InputError, match="it is the checkpoint of step 200, and was renamed"):
        checkpoint.restore(directory, template, IDENTITY)
    said = []
    assert checkpoint.restore(directory, template, IDENTITY, fall_back=said.append)[1] == 100
    assert checkpoint.steps(directory) == [100]


def test_what_was_saved_beside_it_is_found_and_checked(tmp_path):
    state = {"x": jnp.zeros(1)}
    checkpoint.save(tmp_path, state, 1, {}, beside={"results.nc": b"curves"})
    checkpoint.save(tmp_path, state, 1, {}, beside={"results.nc": b"curves again"})
    file = checkpoint.find(tmp_path, 1) / "results.nc"
    assert file.read_bytes() == b"curves again"
    damage(file)
    with pytest.raises(InputError, match=r"results.nc is not as it was written"):
        checkpoint.restore(tmp_path, state, {})
    with pytest.raises(InputError, match=r"no checkpoint of step 2 .*Steps there: 1"):
        checkpoint.find(tmp_path, 2)


def test_a_disk_that_takes_no_more(tmp_path, monkeypatch):
    """Whoever says it, the operating system to us or orbax in its own words: one line, and what was there stays."""
    import orbax.checkpoint as ocp

    state = {"x": jnp.arange(3.0)}
    checkpoint.save(tmp_path, state, 1, {})
    full = OSError(28, "No space left on device")

    def fail(error):
        def refuse(*args, **kwargs):
            raise error

        return refuse

    long = ValueError("INTERNAL: Error writing [source locations='x.cc:1']: No space left on device [more ='y']")
    for target, name, error in ((checkpoint.files, "sync", full), (ocp.PyTreeCheckpointer, "save", long)):
        with monkeypatch.context() as patched:
            patched.setattr(target, name, fail(error))
            with pytest.raises(checkpoint.files.WriteError) as caught:
                checkpoint.save(tmp_path, {"x": jnp.zeros(3)}, 2, {})
        assert str(caught.value) == f"cannot write a checkpoint to {tmp_path}: No space left on device."
        restored, step = checkpoint.restore(tmp_path, state, {})
        assert (step, restored["x"].tolist()) == (1, [0, 1, 2])


def test_a_checkpoint_that_may_not_be_read(saved, tmp_path, monkeypatch):
    # the tests may run as root, to whom everything may be read
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoint, "_file_crc32", refuse)
    with pytest.raises(InputError, match=r"checkpoint .*200 cannot be read: Permission denied\. The checkpoint before"):
        checkpoint.restore(saved, jax.eval_shape(make_state), IDENTITY)


def test_the_only_checkpoint_damaged(saved, tmp_path):
    directory = copy(saved, tmp_path)
    shutil.rmtree(directory / "100")
    shutil.rmtree(directory / "200" / "arrays")
    with pytest.raises(InputError, match="is damaged") as caught:
        checkpoint.restore(directory, jax.eval_shape(make_state), IDENTITY)
    assert "before it" not in str(caught.value)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="step"):
        checkpoint.save(tmp_path, {}, -1, {})
    with pytest.raises(ValueError, match="keep"):
        checkpoint.save(tmp_path, {}, 0, {}, keep=0)
    with pytest.raises(TypeError, match=r"\['x'\] is float64"):
        checkpoint.save(tmp_path, {"x": np.zeros(3)}, 0, {})
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write a checkpoint"):
        checkpoint.save(tmp_path / "file" / "c", {"x": jnp.zeros(3)}, 0, {})


def test_nothing_is_logged_and_no_logger_stays_changed(tmp_path, caplog, capfd):
    logger = logging.getLogger("absl")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint.save(tmp_path, {"x": jnp.zeros(3)}, 0, {})
        checkpoint.restore(tmp_path, {"x": jnp.zeros(3)}, {})
    assert logger.level == level
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


# One process imports everything and forks a child for each kill, before JAX's backend and its threads exist.
KILLS = textwrap.dedent(
    """
    import os, random, signal, sys, time
    import jax, jax.numpy as jnp
    import numpy as np
    import orbax.checkpoint
    from jaxrl import checkpoint

    directory = sys.argv[1]
    # A save makes some 13 changes to the file system, and the deletion of an old checkpoint some 17 more.
    # Killed just before the n-th; None: at a random time.
    moments = [None, 1, 3, 4, 6, None, 10, 11, 12, 13, None, 14, 15, 17, 22, 29, None, 30, 43, 44, 45, None]
    identity = {"agent": "test"}

    def state(step):
        values = np.random.default_rng(step).standard_normal((4, 20_000), np.float32)
        return {"x": jnp.asarray(values), "key": jax.random.wrap_key_data(jnp.full((4, 2), step, jnp.uint32))}

    def verify():
        restored, step = checkpoint.restore(directory, jax.eval_shape(lambda: state(0)), identity)
        want = state(step)
        assert np.array_equal(restored["x"], want["x"]), step
        assert np.array_equal(jax.random.key_data(restored["key"]), jax.random.key_data(want["key"])), step
        for older in checkpoint.steps(directory):
            checkpoint.restore(directory, want, identity, older)
        return step

    def kill_at(count):
        # every change of the file system is announced here before it is made
        left = [count]
        def hook(event, args):
            writes = event == "open" and isinstance(args[1], str) and "r" not in args[1]
            if writes or event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove"):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)

    def child(i):
        step = verify() if i else 0
        assert step >= floor, (step, floor)
        if moments[i]:
            kill_at(moments[i])
        while True:
            # the same step again, at times: the one case in which a complete checkpoint is replaced
            step += 1 if random.random() < 0.7 else 0
            checkpoint.save(directory, state(step), step, identity)
            os.write(pipe[1], step.to_bytes(8, "little"))

    floor = 0
    for i, moment in enumerate(moments):
        random.seed(i)
        pipe = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                child(i)
            except BaseException as error:
                import traceback; traceback.print_exc()
                os._exit(1)
        os.close(pipe[1])
        if moment is None:
            assert os.read(pipe[0], 8), "the first save failed"
            time.sleep(random.uniform(0, 0.25))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
        told = b"".join(iter(lambda: os.read(pipe[0], 8), b""))
        os.close(pipe[0])
        done = [int.from_bytes(told[j : j + 8], "little") for j in range(0, len(told), 8)]
        floor = max([floor, *done])  # what save has returned from must be there
    print(verify(), floor)
    """
)


@pytest.mark.timeout(300)
def test_killed_at_any_moment(tmp_path):
    """SIGKILL while saving: at random times, and just before each of the first changes to the file system."""
    directory = tmp_path / "checkpoints"
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLS, str(directory)],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert out.returncode == 0, out.stderr[-3000:]
    step, floor = map(int, out.stdout.split())
    assert step >= floor > 0
    # what the last kill left behind goes with the next save
    template = {"x": jnp.zeros((4, 20_000)), "key": jax.random.split(jax.random.key(0), 4)}
    state, _ = checkpoint.restore(directory, template, {"agent": "test"})
    checkpoint.save(directory, state, step + 1, {"agent": "test"})
    assert len(list(directory.iterdir())) == len(checkpoint.steps(directory)) == 2
