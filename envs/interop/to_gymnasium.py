"""Our environments for Gymnasium's users: one environment, or a batch of them stepped by one compiled call.

    import envs
    from envs.interop.to_gymnasium import to_gymnasium, to_gymnasium_vector

    env = to_gymnasium(*envs.make("CartPole-v1", length=0.7), render_mode="rgb_array")   # a gymnasium.Env
    many = to_gymnasium_vector(*envs.make("CartPole-v1"), num_envs=256)                  # a gymnasium.vector.VectorEnv

Importing this module also registers every name with Gymnasium, in the namespace "jaxrl"; options are those of
`envs.make`:

    gymnasium.make("jaxrl/CartPole-v1", length=0.7)
    gymnasium.make_vec("jaxrl/CartPole-v1", num_envs=256)
    gymnasium.make("envs.interop.to_gymnasium:jaxrl/CartPole-v1")  # imports the module by itself

Kept: dynamics, spaces, diagnostics in `info`, pictures; the time limit is `truncated`, never `terminated`. The same
seed gives the same episodes, and environment i of a batch reset with seed s starts as a single one with seed s + i.
Lost: a compiled training loop: every step crosses from Python to XLA and back. And forks: the threads of JAX do not
follow into a forked process, so `AsyncVectorEnv` needs context="spawn"; `gymnasium.make_vec` is faster than either.
"""

import functools
import os
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from envs import episode, registry
from envs.base import Env
from envs.errors import InputError
from envs.interop.foreign import load
from envs.interop.gymnasium_spaces import from_gymnasium_element, to_gymnasium_element, to_gymnasium_space

gymnasium: Any = load("gymnasium", "interop")
_vector: Any = load("gymnasium.vector", "interop")

NAMESPACE = "jaxrl"
_PICTURES = {"render_modes": ["rgb_array"], "render_fps": 30}
_PROCESS = os.getpid()  # that imported this module: JAX works in none that is forked off it


class SingleEnv(gymnasium.Env):
    """One environment with Gymnasium's interface; see `to_gymnasium`."""

    metadata: ClassVar = dict(_PICTURES)

    def __init__(self, env: Env, params: Any, render_mode: str | None = None) -> None:
        _refuse_fork()
        self.env, self.params = env, params
        self.render_mode = _checked(render_mode)
        self.observation_space = to_gymnasium_space(env.observation_space)
        self.action_space = to_gymnasium_space(env.action_space)
        self._key: jax.Array | None = None
        self._state: Any = None
        self._t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; a seed also restarts the stream of random numbers. There are no options."""
        _refuse_fork()
        super().reset(seed=seed)
        if seed is not None or self._key is None:
            self._key = _key(self.np_random_seed)
        self._key, obs, self._state = _reset(self.env, self._key, self.params)
        self._t = 0
        return to_gymnasium_element(self.observation_space, jax.device_get(obs)), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes one step; returns (obs, reward, terminated, truncated, info)."""
        _refuse_fork()
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset before step.")
        action = from_gymnasium_element(self.action_space, action)
        self._key, self._state, out = _step(self.env, self._key, self._state, action, self.params)
        self._t += 1
        obs, reward, terminated, truncated, info = jax.device_get(out)
        over_time = self.env.max_steps is not None and self._t >= self.env.max_steps
        obs = to_gymnasium_element(self.observation_space, obs)
        info = jax.tree.map(np.array, info)
        return obs, float(reward), bool(terminated), bool(truncated) or over_time, info

    def render(self) -> np.ndarray | None:
        """The picture of the present state, uint8[H, W, 3]; None unless `render_mode` is "rgb_array"."""
        if self.render_mode is None:
            return None
        return self.env.render(jax.device_get(self._state), self.params)


class VectorEnv(_vector.VectorEnv):
    """A batch of environments with Gymnasium's vector interface; see `to_gymnasium_vector`."""

    metadata: ClassVar = _PICTURES | {"autoreset_mode": _vector.AutoresetMode.SAME_STEP}

    def __init__(self, env: Env, params: Any, num_envs: int, render_mode: str | None = None) -> None:
        if num_envs < 1:
            raise InputError(f"num_envs={num_envs} must be at least 1.")
        self.env, self.params, self.num_envs = env, params, num_envs
        self.render_mode = _checked(render_mode)
        batch = load("gymnasium.vector.utils", "interop").batch_space
        self.single_observation_space = to_gymnasium_space(env.observation_space)
        self.single_action_space = to_gymnasium_space(env.action_space)
        self.observation_space = batch(self.single_observation_space, num_envs)
        self.action_space = batch(self.single_action_space, num_envs)
        self._key: jax.Array | None = None
        self._episode: Any = None

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in every environment.

        Args:
            seed: of the first environment, the others count up from it; or one for each; None: goes on.
            options: none are known; in particular single environments cannot be reset, they restart by themselves.
        """
        if options and "reset_mask" in options:
            raise InputError("options['reset_mask'] is for autoreset mode DISABLED; this batch has SAME_STEP.")
        if seed is None:
            seeds: list[int | None] = [None] * self.num_envs
        else:
            seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else list(seed)
        if len(seeds) != self.num_envs:
            raise InputError(f"{len(seeds)} seeds were given for {self.num_envs} environments.")
        if seeds[0] is not None or self._key is None:
            super().reset(seed=seeds[0])
            self._key = jax.random.fold_in(_key(self.np_random_seed), self.num_envs)
        self._key, key = jax.random.split(self._key)
        keys = jax.random.split(key, self.num_envs)
        if given := [(i, number) for i, number in enumerate(seeds) if number is not None]:
            places, numbers = zip(*given, strict=True)
            keys = keys.at[jnp.asarray(places)].set(jnp.stack([_key(number) for number in numbers]))
        self._episode = _reset_all(self.env, keys, self.params)
        return to_gymnasium_element(self.single_observation_space, jax.device_get(self._episode.obs)), {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes one step in every environment; those whose episode ends start a new one at once.

        Returns:
            (obs, reward, terminated, truncated, infos), each with a leading axis of environments. obs already belongs
            to the new episode where one ended; the successor that the action led to is infos["final_obs"][i], and
            infos["final_info"] holds what else belongs to the old episode: the environment's diagnostics and
            "episode", its return "r" and length "l". Masks of who has an entry are named with a leading "_".
        """
        if self._episode is None:
            raise gymnasium.error.ResetNeeded("call reset before step.")
        actions = from_gymnasium_element(self.single_action_space, actions)
        self._key, self._episode, ts = _step_all(self.env, self._key, self._episode, actions, self.params)
        obs, ts = jax.device_get((self._episode.obs, ts))
        ended = ts.terminated | ts.truncated
        infos = {}
        for name, value in ts.info.items():
            infos |= {name: np.array(value), f"_{name}": ~ended}
        if ended.any():
            infos |= self._final(ts, ended)
        obs = to_gymnasium_element(self.single_observation_space, obs)
        return obs, np.array(ts.reward), np.array(ts.terminated), np.array(ts.truncated), infos

    def _final(self, ts: episode.TimeStep, ended: np.ndarray) -> dict[str, Any]:
        final_obs = np.full(self.num_envs, None, object)
        for i in np.nonzero(ended)[0]:
            one = jax.tree.map(lambda leaf, i=i: leaf[i], ts.next_obs)
            final_obs[i] = to_gymnasium_element(self.single_observation_space, one)
        stats = {"r": np.array(ts.stats.return_sum), "l": np.array(ts.stats.length_sum)}
        final_info: dict[str, Any] = {
            "episode": stats | {"_r": ended.copy(), "_l": ended.copy()},
            "_episode": ended.copy(),
        }
        for name, value in ts.info.items():
            final_info |= {name: np.array(value), f"_{name}": ended.copy()}
        return {
            "final_obs": final_obs,
            "_final_obs": ended.copy(),
            "final_info": final_info,
            "_final_info": ended.copy(),
        }

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture of each environment, uint8[H, W, 3]; None unless `render_mode` is "rgb_array"."""
        if self.render_mode is None:
            return None
        state = jax.device_get(self._episode.state)
        return tuple(
            self.env.render(jax.tree.map(lambda leaf, i=i: leaf[i], state), self.params) for i in range(self.num_envs)
        )


def to_gymnasium(env: Env, params: Any, *, render_mode: str | None = None) -> SingleEnv:
    """Gives an environment Gymnasium's interface.

    Args:
        env: any environment, also one from another library.
        params: its parameters.
        render_mode: "rgb_array" for `render` to return pictures, or None.

    Raises:
        InputError: another render mode, or Gymnasium is not installed.
    """
    return SingleEnv(env, params, render_mode)


def to_gymnasium_vector(env: Env, params: Any, num_envs: int, *, render_mode: str | None = None) -> VectorEnv:
    """Gives a batch of environments, stepped by one compiled call, Gymnasium's vector interface.

    Args:
        env: any environment.
        params: its parameters, shared by the batch.
        num_envs: how many.
        render_mode: "rgb_array" for `render` to return pictures, or None.

    Raises:
        InputError: no environments, another render mode, or Gymnasium is not installed.
    """
    return VectorEnv(env, params, num_envs, render_mode)


def make_single(name: str, render_mode: str | None = None, **overrides: Any) -> SingleEnv:
    """Makes a registered environment for Gymnasium: the entry point of "jaxrl/<name>"."""
    _refuse_fork()
    return to_gymnasium(*registry.make(name, **overrides), render_mode=render_mode)


def make_vector(name: str, num_envs: int = 1, render_mode: str | None = None, **overrides: Any) -> VectorEnv:
    """Makes a batch of a registered environment for Gymnasium: the vector entry point of "jaxrl/<name>"."""
    return to_gymnasium_vector(*registry.make(name, **overrides), num_envs, render_mode=render_mode)


make_single.metadata = SingleEnv.metadata  # pyright: ignore[reportFunctionMemberAccess]  (Gymnasium looks for it there)


def register_all() -> None:
    """Registers every environment that has a name by now with Gymnasium, as "jaxrl/<name>"."""
    for name in registry.names():
        full = f"{NAMESPACE}/{name}"
        if full not in gymnasium.registry:
            gymnasium.register(
                full,
                entry_point=f"{__name__}:make_single",
                vector_entry_point=f"{__name__}:make_vector",
                kwargs={"name": name},
            )


def _refuse_fork() -> None:
    if os.getpid() != _PROCESS:
        raise InputError(
            "JAX hangs in a process that was forked, as AsyncVectorEnv does by default. gymnasium.make_vec(NAME, "
            'num_envs=N) steps a batch in one compiled call; or give AsyncVectorEnv context="spawn".'
        )


def _checked(render_mode: str | None) -> str | None:
    if render_mode not in (None, *_PICTURES["render_modes"]):
        raise InputError(f'render_mode={render_mode!r} is not known; "rgb_array" and None are.')
    return render_mode


def _key(seed: int) -> jax.Array:
    """The key of a seed of any size: Gymnasium's seeds have up to 128 bits."""
    return jax.random.key(np.random.SeedSequence(seed).generate_state(1)[0])


@functools.partial(jax.jit, static_argnums=0)
def _reset(env: Env, key: jax.Array, params: Any) -> tuple[jax.Array, Any, Any]:
    key, key_start = jax.random.split(key)
    return (key, *env.reset(key_start, params))


@functools.partial(jax.jit, static_argnums=0)
def _step(env: Env, key: jax.Array, state: Any, action: Any, params: Any) -> tuple[jax.Array, Any, tuple]:
    key, key_step = jax.random.split(key) if env.random_step else (key, key)
    out = env.step(key_step, state, action, params)
    return key, out.state, (out.obs, out.reward, out.terminated, out.truncated, out.info)


@functools.partial(jax.jit, static_argnums=0)
def _reset_all(env: Env, keys: jax.Array, params: Any) -> episode.EpisodeState:
    """Starts where `_reset` starts with each of the keys."""
    _, obs, state = jax.vmap(functools.partial(_reset, env), in_axes=(0, None))(keys, params)
    return episode.begin(env, obs, state)


@functools.partial(jax.jit, static_argnums=0)
def _step_all(
    env: Env, key: jax.Array, running: episode.EpisodeState, action: Any, params: Any
) -> tuple[jax.Array, episode.EpisodeState, episode.TimeStep]:
    key, key_step = jax.random.split(key)
    return key, *episode.step(env, params, key_step, running, action)


register_all()
