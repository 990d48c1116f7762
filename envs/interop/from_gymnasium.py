"""Any Gymnasium environment inside the compiled loop: it runs on the host, called back from the program.

    from envs.interop.from_gymnasium import from_gymnasium

    env, params = from_gymnasium("CartPole-v1")                      # or from_gymnasium(lambda: MyEnv(), max_steps=500)
    agent = jaxrl.agents.get("ppo").make(env)                        # trains like any environment, only slower

How a thing that cannot be copied becomes a pure function: a state is the seed of its episode, the number of steps
taken and a ticket. Under the ticket the host keeps the running Gymnasium environment and the actions so far. Stepping
the newest state of an episode is a step of that environment. Stepping an older one, or one that was copied to several
lanes, replays the actions in another environment first: slower, but the result is the same. So vmap, scan, runs
side by side on several devices, evaluation during training and copies of states need no care, and a program may call
in any order: one call for each batched step, however many environments, runs and devices.

Kept: termination, truncation by any clock, the observation in which an episode ended, seeds (each episode's is drawn
from the key of its reset), pictures (`render` replays the episode). The time limit of the registered id is ours to
change, `max_steps=...`. Gymnasium's own restarts are never used.

Lost:
- `info`.
- float64: observations, actions and rewards are float32.
- Resuming in another process bit for bit: a checkpoint cannot hold what only the host has. Each episode that was
  running is cut once, as `truncated` with reward 0, with a warning; training goes on with fresh episodes.
- Environments that their seed and actions do not determine. The first observation is checked, and so is every replay.
- Environments that compute with JAX: XLA's threads can wait for one another for ever inside a callback.

Speed is the host environment's, one after the other under one lock, and some tens of microseconds for each call.
"""

import collections
import copy
import functools
import itertools
import random
import threading
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.errors import InputError
from envs.interop.foreign import load
from envs.interop.gymnasium_spaces import from_gymnasium_element, from_gymnasium_space, to_gymnasium_element
from envs.spaces import Space

# Bytes. XLA's CPU client copies larger arguments of a callback (from 100 KiB) on threads that may all be waiting for
# the callback: two devices stop for ever.
LARGEST_ARGUMENT = 100_000
# Episodes that keep their environment at first. One more whenever one finds that it was taken away too early.
MOST_LIVE = 64
MOST_LOGGED = 500_000  # actions, of all episodes together, that are kept for replays


class HostError(RuntimeError):
    """A host environment failed, or does not do the same again; the message says where."""


class State(NamedTuple):
    """Which moment of which episode."""

    seed: jax.Array  # u32[] that the episode was reset with
    t: jax.Array  # i32[] steps taken in it
    ticket: jax.Array  # i32[] under which the host keeps it; nothing before the first step
    mark: jax.Array  # u32[] checksum of the observation
    obs: Any  # the observation, in `observation_space`


class Params(NamedTuple):
    """None: the physics are the host's."""


@dataclass(frozen=True)
class HostEnv(Env[State, Params]):
    """A Gymnasium environment as ours; see `from_gymnasium`."""

    hosts: "Hosts"

    @property
    def random_step(self) -> bool:
        """False: the host draws, from the seed of the episode."""
        return False

    @property
    def costly_reset(self) -> bool:
        """True: it is a call to the host."""
        return True

    @property
    def observation_space(self) -> Space:
        """Gymnasium's, in ours."""
        return self.hosts.observation_space

    @property
    def action_space(self) -> Space:
        """Gymnasium's, in ours."""
        return self.hosts.action_space

    def default_params(self) -> Params:
        """None."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[Any, State]:
        """Draws a seed and asks the host for the first observation of its episode."""
        del params
        seed = jax.random.bits(key)
        obs, mark = _call(_Callback(self.hosts.first), (_like(self.observation_space), _U32), seed)
        return obs, State(seed, jnp.int32(0), jnp.int32(0), mark, obs)

    def step(self, key: jax.Array, state: State, action: Any, params: Params) -> Step:
        """Lets the host step the episode of `state`."""
        del key, params
        result = (_like(self.observation_space), _U32, _I32, _F32, _BOOL, _BOOL, _BOOL)
        callback = _Callback(self.hosts.step, (self.max_steps,))
        obs, mark, ticket, reward, terminated, truncated, lost = _call(callback, result, state[:4], action)
        obs = jax.tree.map(lambda old, new: jnp.where(lost, old, new), state.obs, obs)
        mark = jnp.where(lost, state.mark, mark)
        following = State(state.seed, state.t + 1, ticket, mark, obs)
        return Step(obs, following, reward, terminated, {}, truncated | lost)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The picture that Gymnasium draws of `state`, after replaying the episode up to it.

        Raises:
            InputError: the environment cannot be made with render_mode="rgb_array", or the host no longer has the
                episode.
        """
        del params
        return self.hosts.picture(*(int(x) for x in state[:4]))

    def close(self) -> None:
        """Closes the host's environments. States that exist can still be stepped: the host replays them."""
        self.hosts.close()


def from_gymnasium(
    make: str | Callable[..., Any], *, max_steps: int | None = None, **options: Any
) -> tuple[HostEnv, Params]:
    """Makes a Gymnasium environment usable in every compiled loop.

    Args:
        make: a registered id, or a function that returns a new environment. It is called with `options` each time one
            more is needed, from any thread, and with render_mode="rgb_array" in addition for pictures.
        max_steps: the time limit; by default the one that the environment is registered with. Without any limit,
            evaluation must be told how long to wait.
        options: keyword arguments of `gymnasium.make` or of the function.

    Returns:
        (env, params), as `envs.make` does.

    Raises:
        InputError: Gymnasium cannot make the environment, a space has no counterpart here, or it is one of ours.
    """
    hosts = Hosts(make, options)
    return HostEnv(hosts, max_steps=hosts.max_steps if max_steps is None else max_steps), Params()


@dataclass(eq=False)
class _Episode:
    """An episode on the host."""

    seed: int
    env: Any = None  # standing after all of `actions`; None: somebody else has it
    actions: list[Any] = field(default_factory=list)  # taken so far, as Gymnasium takes them
    evicted: bool = False  # its environment was taken away before it ended


class Hosts:
    """The host's side of one `HostEnv`: its environments and the episodes that they play.

    All of it is a cache: an environment may be taken from the episode that was idle for longest, and then a replay
    replaces it. Calls may come from several threads.
    """

    def __init__(self, make: str | Callable[..., Any], options: dict[str, Any]) -> None:
        self._make, self._options = make, options
        self._lock = threading.Lock()
        self._free: list[Any] = []
        # By ticket, the longest unused first. Those of another process should not be taken for ours.
        self._episodes: collections.OrderedDict[int, _Episode] = collections.OrderedDict()
        self._live: collections.OrderedDict[int, _Episode] = collections.OrderedDict()  # those with an environment
        self._tickets = itertools.count(random.SystemRandom().randrange(2**30))
        self._most_live = MOST_LIVE
        self._logged = 0
        self._warned = False
        self._painter: _Episode | None = None
        env = self._new()
        self._free.append(env)
        self._spaces = env.observation_space, env.action_space
        self._utils = load("gymnasium.vector.utils", "interop")
        self._action_spaces = functools.cache(functools.partial(self._utils.batch_space, env.action_space))
        zeros = self._utils.create_empty_array(env.observation_space, 1)
        (self._zero,) = self._utils.iterate(self._utils.batch_space(env.observation_space, 1), zeros)
        self.observation_space = from_gymnasium_space(env.observation_space)
        self.action_space = from_gymnasium_space(env.action_space)
        self.name = type(env.unwrapped).__name__ if env.spec is None else env.spec.id
        spec = load("gymnasium", "interop").spec(self.name) if isinstance(make, str) else env.spec
        self.max_steps: int | None = None if spec is None else spec.max_episode_steps

    def first(self, seeds: np.ndarray) -> tuple[Any, np.ndarray]:
        """The first observations of the episodes with these seeds, and their checksums; each [N, ...]."""
        with self._lock:
            env = self._free.pop() if self._free else self._new()
            firsts = [copy.deepcopy(self._reset(env, seed)) for seed in seeds.tolist()]
            self._free.append(env)
        return self._ours(firsts), np.array([_mark(obs) for obs in firsts], np.uint32)

    def step(self, limit: int | None, moment: tuple[np.ndarray, ...], actions: Any) -> tuple[Any, ...]:
        """Steps N episodes.

        Args:
            limit: the clock's, at which an episode ends.
            moment: (seed, t, ticket, mark), each [N].
            actions: [N, ...].

        Returns:
            (obs, mark, ticket, reward, terminated, truncated, lost), each [N, ...]; where `lost`, the host knows no
            such episode.
        """
        rows = []
        actions = to_gymnasium_element(self._spaces[1], actions)
        theirs = self._utils.iterate(self._action_spaces(len(moment[0])), actions)
        with self._lock:
            for seed, t, ticket, mark, action in zip(*(column.tolist() for column in moment), theirs, strict=True):
                found = self._at(seed, t, ticket, mark)
                if found is None:
                    rows.append((self._zero, 0, 0, 0.0, False, False, True))
                    continue
                ticket, playing = found
                obs, reward, terminated, truncated = self._advance(playing, action)
                self._logged += 1
                if terminated or truncated or (limit is not None and t + 1 >= limit):
                    self._release(ticket)
                # Copied: an environment may write its next observation into the same array.
                rows.append((copy.deepcopy(obs), _mark(obs), ticket, reward, terminated, truncated, False))
            self._forget()
        obs, *columns = zip(*rows, strict=True)
        dtypes = (np.uint32, np.int32, np.float32, np.bool_, np.bool_, np.bool_)
        return self._ours(obs), *(np.array(column, dtype) for column, dtype in zip(columns, dtypes, strict=True))

    def picture(self, seed: int, t: int, ticket: int, mark: int) -> np.ndarray:
        """The picture at a moment, from an environment that does nothing else."""
        with self._lock:
            past = self._past(seed, t, ticket)
            if past is None:
                raise InputError(f"{self.name}: the host no longer has this episode, so it cannot draw it.")
            painter = self._painter or _Episode(seed, self._new(render_mode="rgb_array"), [None])
            # A film asks for one moment after the other: go on from the last one if it leads to this one.
            leads_here = len(painter.actions) <= t and all(a is b for a, b in zip(painter.actions, past, strict=False))
            if painter.seed != seed or not leads_here:
                painter = self._painter = _Episode(seed, painter.env)
                self._replay(painter, past, mark)
            elif len(painter.actions) < t:
                self._replay(painter, past, mark)
            return np.asarray(painter.env.render(), np.uint8)

    def close(self) -> None:
        """Closes every environment."""
        with self._lock:
            for ticket in list(self._live):
                self._release(ticket)
            painters = [self._painter.env] if self._painter else []
            for env in [*self._free, *painters]:
                env.close()
            self._free, self._painter = [], None

    def _at(self, seed: int, t: int, ticket: int, mark: int) -> tuple[int, _Episode] | None:
        """Returns (ticket, the episode with an environment that stands at this moment); None: there is none."""
        past = self._past(seed, t, ticket)
        if past is None:
            if not self._warned:
                self._warned = True
                text = f"{self.name}: episodes from another process go on nowhere; they are cut as truncated."
                warnings.warn(text, stacklevel=2)
            return None
        playing = self._episodes.get(ticket) if t else None
        if playing is None or len(playing.actions) > t:
            # A new episode, or a second future of one that has gone on.
            ticket = next(self._tickets) % 2**31
            playing = self._episodes[ticket] = _Episode(seed)
            self._logged += t
        elif playing.evicted:
            self._most_live += 1
        if playing.env is None:
            playing.env, playing.evicted, playing.actions = self._vacant(), False, []
            self._live[ticket] = playing
            self._replay(playing, past, mark)
        self._live.move_to_end(ticket)
        self._episodes.move_to_end(ticket)
        return ticket, playing

    def _past(self, seed: int, t: int, ticket: int) -> list[Any] | None:
        """Returns the actions that lead to a moment; None: the host does not know them."""
        if t == 0:
            return []
        known = self._episodes.get(ticket)
        if known is None or known.seed != seed or len(known.actions) < t:
            return None
        return known.actions[:t]

    def _replay(self, playing: _Episode, past: list[Any], mark: int) -> None:
        """Brings an episode to the moment after `past`, and checks that the observation is the one it was."""
        obs = None
        if not playing.actions:
            obs = self._reset(playing.env, playing.seed)
        for action in past[len(playing.actions) :]:
            obs, *_ = self._advance(playing, action)
        if _mark(obs) != mark:
            what = f"after reset(seed={playing.seed}) and {len(past)} actions"
            raise HostError(f"{self.name} does not do the same again {what}: its seed does not determine it.")

    def _advance(self, playing: _Episode, action: Any) -> tuple[Any, float, bool, bool]:
        try:
            obs, reward, terminated, truncated, _ = playing.env.step(action)
        except Exception as error:
            playing.env = None  # nobody should play in what is left of it
            where = f"in step {len(playing.actions) + 1} after reset(seed={playing.seed}), action {action!r}"
            raise HostError(f"{self.name} failed {where}: {type(error).__name__}: {error}") from error
        playing.actions.append(action)
        return obs, float(reward), bool(terminated), bool(truncated)

    def _reset(self, env: Any, seed: int) -> Any:
        try:
            return env.reset(seed=seed)[0]
        except Exception as error:
            raise HostError(f"{self.name} failed in reset(seed={seed}): {type(error).__name__}: {error}") from error

    def _ours(self, observations: Sequence[Any]) -> Any:
        """Gymnasium's observations as a batch of ours."""
        out = self._utils.create_empty_array(self._spaces[0], len(observations))
        return from_gymnasium_element(self._spaces[0], self._utils.concatenate(self._spaces[0], observations, out))

    def _vacant(self) -> Any:
        if not self._free and len(self._live) >= self._most_live:
            ticket, idle = next(iter(self._live.items()))
            idle.evicted = True
            self._release(ticket)
        return self._free.pop() if self._free else self._new()

    def _release(self, ticket: int) -> None:
        playing = self._live.pop(ticket)
        if playing.env is not None:
            self._free.append(playing.env)
            playing.env = None

    def _forget(self) -> None:
        """Drops the longest unused episodes when too many actions are kept."""
        while self._logged > MOST_LOGGED and len(self._episodes) > 1:
            ticket = next(iter(self._episodes))
            if ticket in self._live:
                self._release(ticket)
            self._logged -= len(self._episodes.pop(ticket).actions)

    def _new(self, **options: Any) -> Any:
        gymnasium = load("gymnasium", "interop")
        options = self._options | options
        if not isinstance(self._make, str):
            env = self._make(**options)
        else:
            try:
                # Our clock applies the time limit, so that it can be changed.
                env = gymnasium.make(self._make, max_episode_steps=-1, disable_env_checker=True, **options)
            except gymnasium.error.Error as error:
                raise InputError(f"Gymnasium cannot make {self._make!r}: {error}") from None
        if type(env.unwrapped).__module__.startswith("envs."):
            raise InputError(f"{self._make!r} is one of ours already: use envs.make. JAX cannot call itself back.")
        return env


@dataclass(frozen=True)
class _Callback:
    """A method of `Hosts` for arrays with any number of leading axes. Equal ones compare equal, for JAX's caches."""

    method: Callable[..., Any]
    static: tuple[Any, ...] = ()

    def __call__(self, *args: Any) -> Any:
        args = jax.tree.map(np.asarray, args)
        batch = jax.tree.leaves(args)[0].shape  # that of the seeds
        rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[len(batch) :]), args)
        out = self.method(*self.static, *rows)
        return jax.tree.map(lambda leaf: leaf.reshape((*batch, *leaf.shape[1:])), out)


def _call(callback: _Callback, result: Any, *args: Any) -> Any:
    """Calls the host from a compiled program: once for all lanes, however vmapped.

    Args:
        callback: what to call.
        result: shapes and dtypes of what it returns for one lane.
        args: of one lane, the first leaf a scalar.

    Raises:
        InputError: the arguments of all lanes together are too large for the CPU backend.
    """

    @jax.custom_batching.custom_vmap
    def call(*args: Any) -> Any:
        leaves = jax.tree.leaves(args)
        largest = max(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        if largest > LARGEST_ARGUMENT and jax.default_backend() == "cpu":
            raise InputError(
                f"{largest:,} bytes of actions in one call to the host can stop XLA's CPU backend for ever (at most "
                f"{LARGEST_ARGUMENT:,} are safe): step fewer environments or runs side by side."
            )
        batch = leaves[0].shape
        shapes = jax.tree.map(lambda one: jax.ShapeDtypeStruct((*batch, *one.shape), one.dtype), result)
        return jax.pure_callback(callback, shapes, *args)

    @call.def_vmap
    def call_all(axis_size: int, in_batched: Any, *args: Any) -> tuple[Any, Any]:
        args = jax.tree.map(
            lambda leaf, batched: leaf if batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape)),
            args,
            tuple(in_batched),
        )
        return call(*args), jax.tree.map(lambda _: True, result)

    return call(*args)


_U32, _I32 = jax.ShapeDtypeStruct((), jnp.uint32), jax.ShapeDtypeStruct((), jnp.int32)
_F32, _BOOL = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((), jnp.bool_)


def _like(space: Space) -> Any:
    """Shapes and dtypes of an element."""
    if isinstance(space, Mapping):
        return {name: _like(part) for name, part in space.items()}
    if isinstance(space, tuple):
        return tuple(map(_like, space))
    return jax.ShapeDtypeStruct(space.shape, space.dtype)


def _mark(obs: Any) -> int:
    """A checksum of an observation of Gymnasium's."""
    if isinstance(obs, Mapping):
        obs = tuple(obs[name] for name in sorted(obs))
    if isinstance(obs, tuple):
        return functools.reduce(lambda mark, part: zlib.crc32(_mark(part).to_bytes(4), mark), obs, 0)
    return zlib.crc32(np.asarray(obs).tobytes())
