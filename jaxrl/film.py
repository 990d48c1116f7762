"""Films of trained policies."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from envs import episode as clock
from envs.errors import InputError
from jaxrl.rollout import initial_memory
from jaxrl.types import Agent


def episode(agent: Agent, state: Any, lane: int, seed: int) -> tuple[list[np.ndarray], float]:
    """Plays one episode of a lane's greedy policy.

    Args:
        agent: whose environment and policy.
        state: batched state, [runs, ...].
        lane: which run's policy.
        seed: of the initial state.

    Returns:
        (frames uint8[H, W, 3], one more than there are steps; the return).
    """
    one = jax.tree.map(lambda x: x[lane], state)
    env, params, policy = agent.env, one.env_params, agent.policy(one)
    limit = env.max_steps or 1_000

    @jax.jit
    def play(key: jax.Array) -> tuple[Any, Any]:
        key_reset, key_loop = jax.random.split(key)
        start = clock.reset(env, params, key_reset, 1)

        def step(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], Any]:
            running, memory = carry
            key_act, key_env = jax.random.split(key)
            action, memory, _ = policy.act(key_act, running.obs, memory)
            following, ts = clock.step(env, params, key_env, running, action)
            return (following, memory), (following.state, ts.reward, ts.terminated | ts.truncated)

        carry = (start, initial_memory(policy, 1))
        _, out = jax.lax.scan(step, carry, jax.random.split(key_loop, limit))
        return start.state, out

    start, (states, rewards, ended) = jax.tree.map(np.asarray, play(jax.random.key(seed)))
    length = int(np.argmax(ended[:, 0])) + 1 if ended.any() else limit
    # The state after the last step already belongs to the next episode, so it is not shown.
    shown = [start] + [jax.tree.map(lambda x, t=t: x[t], states) for t in range(length - 1)]
    frames = [env.render(jax.tree.map(lambda x: x[0], frame), params) for frame in shown]
    return frames, float(rewards[:length].sum())


def write(frames: Sequence[np.ndarray], path: Path | str, fps: int = 30) -> Path:
    """Writes a .gif, or a .mp4 through the ffmpeg program.

    Raises:
        InputError: another ending, no ffmpeg, or a file that exists or cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".gif", ".mp4"):
        raise InputError(f"{path}: a film is a .gif or a .mp4 file.")
    if path.exists():
        raise InputError(f"{path} exists; nothing is overwritten.")
    try:
        if path.suffix == ".gif":
            _write_gif(frames, path, fps)
        else:
            _write_mp4(frames, path, fps)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error}") from error
    return path


def _write_gif(frames: Sequence[np.ndarray], path: Path, fps: int) -> None:
    from PIL import Image

    # Browsers slow down frames of less than 20 ms, and GIF counts in 10 ms.
    duration = max(round(1000 / fps / 10) * 10, 20)
    first, *others = [Image.fromarray(frame).quantize(64) for frame in frames]
    first.save(path, save_all=True, append_images=others, duration=duration, loop=0, optimize=True)


def _write_mp4(frames: Sequence[np.ndarray], path: Path, fps: int) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        raise InputError(f"{path} needs the program ffmpeg, which is not installed; a .gif needs nothing.")
    height, width, _ = frames[0].shape
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    target = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", str(path)]
    done = subprocess.run(
        [program, "-loglevel", "error", *source, *target],
        input=b"".join(f.tobytes() for f in frames),
        capture_output=True,
    )
    if done.returncode:
        raise InputError(f"ffmpeg could not write {path}: {done.stderr.decode(errors='replace').strip()}")
