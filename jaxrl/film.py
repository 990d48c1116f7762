"""Films of trained policies: the states of an episode from first to last, each with its step and the return so far."""

import functools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import episode as clock
from envs.base import Env
from envs.errors import InputError
from jaxrl import outputs
from jaxrl.rollout import initial_memory
from jaxrl.types import Agent

MOST_FRAMES = 300  # of a longer episode every second, fourth … state is shown, and always the last
MOST_STEPS = 1_000  # of an environment without a time limit
CHUNK = 128  # steps played in one compiled call
SMALL = 160  # pictures with fewer pixels on their longer side are magnified
CAPTION = 24  # height in pixels of the line below the picture
SUFFIXES = (".gif", ".mp4")


class Episode(NamedTuple):
    """One filmed episode."""

    frames: list[np.ndarray]  # uint8[H, W, 3] each
    returns: np.ndarray  # f64[], or f64[N] in a game of N players
    steps: int
    ending: str  # "terminated", "time limit" or "not over"


def episode(agent: Agent, state: Any, lane: int, seed: int) -> Episode:
    """Plays one episode of a lane's greedy policy, without a time limit at most MOST_STEPS of it.

    Args:
        agent: whose environment and policy.
        state: batched state, [runs, ...].
        lane: which run's policy.
        seed: of the initial state.

    Raises:
        InputError: the environment has no picture.
    """
    env = agent.env
    limit = env.max_steps or MOST_STEPS
    lane_of = functools.partial(jax.tree.map, lambda x: x[lane])

    @jax.jit
    def start(state: Any, key: jax.Array) -> Any:
        one = lane_of(state)
        return (clock.reset(env, one.env_params, key, 1), initial_memory(agent.policy(one), 1)), one.env_params

    @jax.jit
    def play(state: Any, carry: Any, key: jax.Array) -> Any:
        one = lane_of(state)
        policy = agent.policy(one)

        def step(carry: Any, key: jax.Array) -> Any:
            running, memory = carry
            key_act, key_env = jax.random.split(key)
            action, memory, _ = policy.act(key_act, running.obs, memory)
            following, ts = clock.advance(env, one.env_params, key_env, running, action)
            total = running.episode_return + ts.reward
            running = running._replace(obs=ts.next_obs, state=following, t=running.t + 1, episode_return=total)
            return (running, memory), (following, total, ts.terminated, ts.truncated)

        return jax.lax.scan(step, carry, jax.random.split(key, CHUNK))

    key_reset, key_play = jax.random.split(jax.random.key(seed))
    carry, params = start(state, key_reset)
    params = _to_host(params)
    shown = [(0, _to_host(carry[0].state), np.asarray(carry[0].episode_return))]
    _picture(env, shown[0][1], params)  # says what cannot be drawn before anything is played
    steps, every, ending = 0, 1, "not over"
    while steps < limit and ending == "not over":
        carry, played = play(state, carry, jax.random.fold_in(key_play, steps))
        states, totals, terminated, truncated = _to_host(played)
        ended = (terminated | truncated)[:, 0]
        length = min(int(np.argmax(ended)) + 1 if ended.any() else CHUNK, limit - steps)
        if ended[:length].any():
            ending = "terminated" if terminated[length - 1, 0] else "time limit"
        over = ending != "not over" or steps + length == limit
        shown += [
            (steps + t + 1, jax.tree.map(lambda x, t=t: x[t], states), totals[t])
            for t in range(length)
            if (steps + t + 1) % every == 0 or (over and t == length - 1)
        ]
        steps += length
        while len(shown) > MOST_FRAMES:
            every *= 2
            shown = [moment for moment in shown if moment[0] % every == 0 or moment[0] == steps]
    frames = [
        _captioned(_picture(env, at, params), step, total[0], ending * (step == steps)) for step, at, total in shown
    ]
    return Episode(frames, np.asarray(shown[-1][2][0], np.float64), steps, ending)


def _to_host(tree: Any) -> Any:
    """Arrays as NumPy's, which are sliced without compiling anything; keys as they are."""
    return jax.tree.map(lambda x: x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x), tree)


def _picture(env: Env, state: Any, params: Any) -> np.ndarray:
    picture = env.render(jax.tree.map(lambda x: x[0], state), params)
    times = -(-SMALL // max(picture.shape[:2]))
    return picture.repeat(times, 0).repeat(times, 1) if times > 1 else picture


def _captioned(picture: np.ndarray, step: int, total: np.ndarray, ending: str) -> np.ndarray:
    """Puts the step, the return so far and, on the last frame, how the episode ended on a line below a picture."""
    from PIL import Image, ImageDraw

    text = f"step {step}   return {format_return(total)}" + (f"   {ending}" if ending else "")
    height, width, _ = picture.shape
    frame = Image.new("RGB", (width, height + CAPTION), "white")
    frame.paste(Image.fromarray(picture))
    draw, size = ImageDraw.Draw(frame), 14
    while size > 7 and draw.textlength(text, _font(size)) > width - 8:
        size -= 1
    draw.text((4, height + CAPTION // 2), text, "black", _font(size), anchor="lm")
    return np.asarray(frame)


@functools.cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def format_return(total: np.ndarray) -> str:
    """Writes a return, or those of the players of a game."""
    return " / ".join(f"{value:g}" for value in np.round(np.atleast_1d(total), 3))


def speed(frames: int) -> int:
    """Returns frames per second at which a person can follow: the film takes about eight seconds, at 2 to 30."""
    return int(np.clip(round(frames / 8), 2, 30))


def write(
    frames: Sequence[np.ndarray], path: Path | str, fps: int = 30, hold: float = 0.0, overwrite: bool = False
) -> Path:
    """Writes a .gif, or a .mp4 through the ffmpeg program.

    Args:
        frames: uint8[H, W, 3] each, all of one size.
        path: the film; its suffix is the format.
        fps: frames a second; a .gif counts in hundredths of a second and has 50 at most.
        hold: for how many seconds the last frame stays.
        overwrite: whether a film that is there may be replaced.

    Raises:
        InputError: another ending, no ffmpeg, an impossible `fps`, or a file that exists or cannot be written.
    """
    path = check(path, fps, overwrite)
    if path.suffix == ".gif":
        return outputs.write(path, lambda new: _write_gif(frames, new, fps, hold), overwrite)
    return outputs.write(path, lambda new: _write_mp4(frames, new, fps, hold), overwrite)


def check(path: Path | str, fps: int, overwrite: bool = False) -> Path:
    """Returns the path if a film of `fps` may be written there; see `write`, whose errors this raises beforehand."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: a film is a .gif or a .mp4 file.")
    most = 50 if path.suffix == ".gif" else 240
    if not 1 <= fps <= most:
        raise InputError(f"--fps {fps} must be from 1 to {most} for a {path.suffix} file.")
    if path.suffix == ".mp4":
        _ffmpeg(path)
    return outputs.check(path, overwrite)


def _write_gif(frames: Sequence[np.ndarray], path: Path, fps: int, hold: float) -> None:
    from PIL import Image

    # One palette for the whole film, from some of its frames: finding one for each frame takes ten times as long.
    some = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, 12).astype(int))]
    palette = Image.fromarray(np.concatenate(some)).quantize(128, Image.Quantize.FASTOCTREE)
    first, *others = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    duration = [round(100 / fps) * 10] * len(frames)  # GIF counts in 10 ms
    duration[-1] += round(1000 * hold)
    first.save(path, save_all=True, append_images=others, duration=duration, loop=0, optimize=True)


def _ffmpeg(path: Path) -> str:
    program = shutil.which("ffmpeg")
    if program is None:
        raise InputError(f"{path} needs the program ffmpeg, which is not installed; a .gif needs nothing.")
    return program


def _write_mp4(frames: Sequence[np.ndarray], path: Path, fps: int, hold: float) -> None:
    program = _ffmpeg(path)
    height, width, _ = frames[0].shape
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    target = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", str(path)]
    shown = [*frames, *[frames[-1]] * round(hold * fps)]
    done = subprocess.run(
        [program, "-loglevel", "error", *source, *target],
        input=b"".join(frame.tobytes() for frame in shown),
        capture_output=True,
    )
    if done.returncode:
        raise OSError(f"ffmpeg: {done.stderr.decode(errors='replace').strip()}")
