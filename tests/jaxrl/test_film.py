"""Films: what each frame shows, how long they take to watch, and where they are written."""

import dataclasses
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from envs.base import Env, Step
from envs.errors import InputError
from envs.spaces import Box, Discrete
from jaxrl import film, outputs
from jaxrl.types import Agent, Policy


@dataclasses.dataclass(frozen=True)
class Counter(Env):
    """Counts its steps, each of which is worth 2, and ends at `end`; its picture is a grey of that number."""

    end: int = 5
    drawn: bool = True

    @property
    def observation_space(self):
        return Box(0, 1e9, (1,))

    @property
    def action_space(self):
        return Discrete(2)

    def default_params(self):
        return ()

    def reset(self, key, params):
        return jnp.zeros(1), jnp.int32(0)

    def step(self, key, state, action, params):
        return Step((state + 1)[None] * 1.0, state + 1, jnp.float32(2), state + 1 >= self.end, {})

    def render(self, state, params):
        if not self.drawn:
            return super().render(state, params)
        return np.full((200, 200, 3), int(state) % 251, np.uint8)


class State(NamedTuple):
    env_params: Any
    offset: jax.Array


def play(env):
    def act(key, obs, memory):
        return jnp.zeros(len(obs), jnp.int32), memory, ()

    agent = Agent(None, None, lambda state: Policy(act), 1, 0, "none", env, None)  # pyright: ignore[reportArgumentType]
    return film.episode(agent, State((), jnp.zeros(3)), 1, 0)


@pytest.mark.parametrize(
    ("env", "steps", "ending"),
    [
        (Counter(end=5), 5, "terminated"),
        (Counter(end=300, max_steps=140), 140, "time limit"),  # in the second call of the compiled program
        (Counter(end=128, max_steps=128), 128, "terminated"),
        (Counter(end=10**6), film.MOST_STEPS, "not over"),
    ],
)
def test_a_film_goes_from_the_first_state_to_the_last(env, steps, ending):
    episode = play(env)
    assert (episode.steps, episode.ending, float(episode.returns)) == (steps, ending, 2.0 * steps)
    every = 4 if steps == film.MOST_STEPS else 1
    greys = [frame[0, 0, 0] for frame in episode.frames]
    assert greys == [t % 251 for t in range(0, steps + 1, every)]
    assert len(episode.frames) <= film.MOST_FRAMES


def test_an_end_between_the_frames_of_a_long_film_is_shown():
    episode = play(Counter(end=333))
    assert [frame[0, 0, 0] for frame in episode.frames[-2:]] == [332 % 251, 333 % 251]


def test_step_and_return_stand_below_the_picture(monkeypatch):
    texts = []
    from PIL import ImageDraw

    draw = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, at, text, *a, **k: (texts.append(text), draw(self, at, text, *a, **k))
    )
    episode = play(Counter(end=2))
    assert texts == ["step 0   return 0", "step 1   return 2", "step 2   return 4   terminated"]
    assert {frame.shape for frame in episode.frames} == {(200 + film.CAPTION, 200, 3)}
    assert (episode.frames[1][200:] < 128).any()
    assert film.format_return(np.array([1.5, -0.12345])) == "1.5 / -0.123"


def test_an_environment_without_a_picture():
    with pytest.raises(InputError, match="Counter draws no picture"):
        play(Counter(drawn=False))


@pytest.mark.parametrize(("frames", "fps"), [(2, 2), (7, 2), (40, 5), (100, 12), (251, 30), (300, 30)])
def test_a_film_can_be_followed(frames, fps):
    assert film.speed(frames) == fps


def test_how_long_a_gif_takes(tmp_path):
    frames = [np.full((8, 8, 3), 40 * i, np.uint8) for i in range(4)]
    path = film.write(frames, tmp_path / "x.gif", 5, hold=1.5)
    with Image.open(path) as picture:
        durations = []
        for index in range(picture.n_frames):  # pyright: ignore[reportAttributeAccessIssue]
            picture.seek(index)
            durations.append(picture.info["duration"])
            shown = np.asarray(picture.convert("RGB"), int)
            assert np.abs(shown - 40 * index).max() <= 4
    assert durations == [200, 200, 200, 1700]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_an_mp4(tmp_path):
    frames = [np.full((33, 33, 3), 40 * i, np.uint8) for i in range(4)]
    assert film.write(frames, tmp_path / "x.mp4", 5, hold=1.0).stat().st_size > 500


@pytest.mark.parametrize(
    ("name", "fps", "message"),
    [
        ("x.gif", 0, "--fps 0 must be from 1 to 50"),
        ("x.gif", -3, "--fps -3 must be from 1 to 50"),
        ("x.gif", 60, "from 1 to 50 for a .gif"),
        ("x.avi", 10, "is a .gif or a .mp4 file"),
        ("there.gif", 10, "nothing is overwritten"),
        ("no/x.gif", 10, "there is no directory"),
    ],
)
def test_what_cannot_be_written_is_said_first(tmp_path, name, fps, message):
    (tmp_path / "there.gif").write_bytes(b"mine")
    with pytest.raises(InputError, match=message):
        film.check(tmp_path / name, fps)
    with pytest.raises(InputError, match=message):
        film.write([np.zeros((8, 8, 3), np.uint8)] * 2, tmp_path / name, fps)
    assert [path.name for path in tmp_path.iterdir()] == ["there.gif"]
    assert (tmp_path / "there.gif").read_bytes() == b"mine"


def test_mp4_without_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="ffmpeg, which is not installed"):
        film.check(tmp_path / "x.mp4", 10)


def test_files_are_whole_or_not_there(tmp_path):
    path = tmp_path / "x.txt"

    def fail(new):
        new.write_text("half")
        raise OSError("no space")

    with pytest.raises(InputError, match=r"cannot write .*x\.txt: no space"):
        outputs.write(path, fail)
    assert not list(tmp_path.iterdir())
    outputs.write(path, lambda new: new.write_text("first"))
    with pytest.raises(InputError, match="nothing is overwritten"):
        outputs.write(path, lambda new: new.write_text("second"))
    with pytest.raises(InputError, match="no space"):
        outputs.write(path, fail, overwrite=True)
    assert path.read_text() == "first"
    outputs.write(path, lambda new: new.write_text("second"), overwrite=True)
    assert path.read_text() == "second"
    with pytest.raises(InputError, match="is a directory"):
        outputs.check(tmp_path, overwrite=True)
