"""The loop of agents that learn from a replay: n-step targets, priorities, hindsight, sequences, warm-up, once for all.

Policies think in the unit box where actions are a Box, and see what the signals make of observations. The replay holds
actions of the unit box and observations as they were; signals work on them when they are drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from envs import episode
from envs.base import Env, Game
from envs.episode import EpisodeStats
from envs.errors import InputError
from envs.spaces import Box
from envs.values import Checked, Count, Fraction, NonNegative, Positive
from jaxrl import actions, exploration, hindsight, masks, n_step, replay
from jaxrl import signals as signal
from jaxrl.loops import clock, entry, keys
from jaxrl.replay import sequences
from jaxrl.rollout import example, initial_memory, rollout
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Metrics, Policy, Signal, Transition


@dataclass(frozen=True)
class Config(Checked):
    """What is static: a new value means a new compilation."""

    num_envs: int = 4
    """Environments that one run steps in parallel."""
    rollout_length: int = 1
    """Steps in each environment between updates."""
    num_updates: int = 4
    """Gradient steps per iteration, that is, per num_envs · rollout_length environment steps."""
    batch_size: int = 256
    """Transitions per gradient step."""
    replay_capacity: int = 100_000
    """Transitions that the replay holds."""
    warmup_steps: Count = 1_000
    """Environment steps with random actions before the first update; they count as steps of the run."""
    n_step: int = 1
    """Steps of reward in a target (`jaxrl.n_step`)."""
    prioritized: bool = False
    """Draw transitions by how surprising they were (Schaul et al. 2016, arXiv:1511.05952)."""
    hindsight: int = 0
    """Goals met later in the episode under which every step is stored as well; for environments with goals, one-step
    targets, and rollouts about as long as an episode (`jaxrl.hindsight`)."""
    normalize_obs: bool = False
    """Give observations mean 0 and standard deviation 1, by running statistics of the run."""


@struct.dataclass
class Hyperparams:
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    gamma: Fraction = 0.99
    """Discount."""
    priority_alpha: NonNegative = 0.6
    """How much priorities count in prioritised replay: 0 not at all, 1 in proportion."""
    priority_beta: Fraction = 0.4
    """How much of the bias of prioritised replay is taken back at the start; all of it (1) at hp.total_steps."""
    total_steps: Positive | None = None
    """Environment steps that the schedules run over; the length of the run unless given."""


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Any
    env_params: Any
    learner: Any
    episode: episode.EpisodeState  # [num_envs, ...]
    memory: Any  # [num_envs, ...] of the exploring policy; () where it has none
    window: Any  # [.., num_envs, ...] steps whose transitions or sequences are not complete; () where there are none
    replay: Any
    signals: tuple[Any, ...]  # the state of each
    iteration: jax.Array  # i32[]


def make(
    name: str,
    env: Env,
    algorithm: Algorithm,
    config: Any,
    *,
    steps_per_update: int = 1,
    burn_in: int | None = None,
    warmup: Callable[[Any, Context, Any], Policy] | None = None,
    extras: Any = (),
    signals: tuple[Signal, ...] | None = None,
    together: bool = True,
) -> Agent:
    """Binds an algorithm to an environment.

    Args:
        name: of the agent.
        env: the environment; actions Discrete or a Box.
        algorithm: its update gets [steps_per_update · batch_size, ...] transitions, or sequences.
        config: a `Config`, with the algorithm's own fields.
        steps_per_update: batches that one update takes; divides num_updates.
        burn_in: store sequences of burn_in + rollout_length + n_step − 1 steps, with the memory of the policy (its
            extras) before the first of them, instead of transitions.
        warmup: (hp, context, L) -> the policy of the warm-up; uniformly random actions unless given.
        extras: shapes of what the policy attaches to a step of one environment.
        signals: what happens to experience; by default the normalisation that `config` asks for.
        together: draw the batches of an iteration in one call (those of a prioritised replay never are), and the keys
            in the order that goes with it.

    Raises:
        InputError: sizes or variants that cannot work together, or spaces that cannot be handled.
    """
    num_envs, length = config.num_envs, config.rollout_length
    if isinstance(env, Game):
        raise InputError(f"{name} plays alone: {type(env).__name__} has {env.num_players} players.")
    space = actions.require_simple(name, env.action_space)
    masks.require_fit(name, env.observation_space, space)
    goals = hindsight.require_goals(name, env, config.n_step) if config.hindsight else None
    if signals is None:
        signals = signal.normalisations(env, config, num_envs, replayed=True)
    overlap = 0 if burn_in is None else burn_in + config.n_step - 1
    one = example(env)._replace(extras=extras)
    if isinstance(space, Box):
        one = one._replace(action=jax.ShapeDtypeStruct(space.shape, jnp.float32))  # of the unit box, whatever theirs
    if burn_in is None:
        fewest = config.batch_size if not together or config.prioritized else 1
        rounds = replay.warmup_rounds(config.warmup_steps, num_envs, fewest, config.replay_capacity)
        # The last n − 1 steps of the warm-up complete no transition yet.
        warmup_length = rounds + config.n_step - 1
        stored = n_step.stored(one, config.n_step)
    else:
        rounds = sequences.warmup_rounds(
            config.warmup_steps, num_envs, length, config.batch_size, config.replay_capacity
        )
        warmup_length = overlap + rounds * length
        stored = sequences.stored(one, overlap + length)
    draws = config.num_updates // steps_per_update
    batch_size = steps_per_update * config.batch_size
    at_once = together and not config.prioritized
    make_replay = replay.prioritized.make if config.prioritized else replay.make
    buffer: Any = make_replay(config.replay_capacity, batch_size * (draws if at_once else 1), stored)
    warmup_steps, steps_per_iteration = warmup_length * num_envs, num_envs * length

    def progress(state: State) -> jax.Array | None:
        return clock.progress(state.hp, state.iteration, steps_per_iteration, warmup_steps)

    def context(state: State, shared: Any) -> Context:
        return Context(shared, state.env_params, progress(state))

    def in_env(state: State, policy: Policy) -> Policy:
        return signal.seeing(signals, state.hp, state.signals, actions.in_env(space, policy))

    def explore(state: State, shared: Any = ()) -> Policy:
        return in_env(state, algorithm.explore(state.hp, context(state, shared), state.learner))

    def policy(state: State, shared: Any = ()) -> Policy:
        return in_env(state, algorithm.greedy(state.hp, context(state, shared), state.learner))

    def random_policy(memory: Any) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            num = jax.tree.leaves(obs)[0].shape[0]
            if isinstance(space, Box):
                return jax.random.uniform(key, (num, *space.shape), jnp.float32, -1.0, 1.0), memory, ()
            return exploration.uniform(key, (num,), space.n, masks.allowed(obs)), memory, ()

        return Policy(act, memory)

    def collect(
        state: State, policy: Policy, key: jax.Array, key_signals: jax.Array, length: int
    ) -> tuple[State, EpisodeStats, dict[str, jax.Array]]:
        key, key_goals = keys.split(key, True, True) if goals else (key, key)
        out = rollout(env, state.env_params, policy, state.episode, state.memory, key, length)
        action, attached = out.transitions.extras
        steps = out.transitions._replace(action=action, extras=attached)
        moved, steps, scalars = signal.gathered(signals, state.hp, state.signals, steps, key_signals)
        if burn_in is not None:
            window, rows = sequences.extend(state.window, steps, overlap + config.rollout_length, overlap)
        else:
            window, complete = n_step.extend(state.window, steps, state.hp.gamma, config.n_step)
            rows = jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2), complete)
            if goals:
                again = hindsight.relabel(goals, state.env_params, complete, key_goals, config.hindsight)
                more = jax.tree.map(lambda x: jax.lax.collapse(x, 0, 3), again)
                rows = jax.tree.map(lambda *parts: jnp.concatenate(parts), rows, more)
        following = state._replace(
            episode=out.episode,
            memory=out.memory,
            window=window,
            replay=buffer.add(state.replay, rows),
            signals=moved,
        )
        return following, out.stats, scalars

    def init(key: jax.Array, hp: Any, env_params: Any, shared: Any = ()) -> State:
        drawn = signal.draw(signals)
        if together:
            key, key_learner, key_experience = jax.random.split(key, 3)
            key_episode, key_warmup, key_signals, key_signals_warmup = keys.split(
                key_experience, True, True, drawn, drawn
            )
        else:
            key, key_learner, key_episode, key_warmup, key_signals, key_signals_warmup = keys.split(
                key, True, True, True, True, drawn, drawn
            )
        start = State(
            key=key,
            hp=hp,
            env_params=env_params,
            learner=algorithm.init(key_learner, hp),
            episode=episode.reset(env, env_params, key_episode, num_envs),
            memory=(),
            window=(),
            replay=buffer.init(),
            signals=signal.init(signals, key_signals, hp),
            iteration=jnp.int32(0),
        )
        memory = algorithm.explore(hp, context(start, shared), start.learner).memory
        first = warmup(hp, context(start, shared), start.learner) if warmup else random_policy(memory)
        start = start._replace(memory=initial_memory(first, num_envs))
        return collect(start, in_env(start, first), key_warmup, key_signals_warmup, warmup_length)[0]

    def step(state: State, shared: Any = ()) -> tuple[State, Metrics]:
        key, key_rollout, key_sample, key_updates, key_signals, key_drawn = keys.spawn(
            state.key, True, True, together, True, signal.draw(signals), signal.draw(signals)
        )
        hp, now = state.hp, context(state, shared)
        acting = explore(state, shared)
        state, stats, scalars = collect(state, acting, key_rollout, key_signals, length)
        update_keys = jax.random.split(key_updates, draws)

        def from_replay(batch: Transition) -> Transition:
            return signal.drawn(signals, hp, state.signals, batch, key_drawn)

        def learn_from(learner: Any, xs: tuple[Transition, jax.Array]) -> tuple[Any, Diagnostics]:
            learner, diagnostics = algorithm.update(hp, now, learner, *xs)
            return learner, diagnostics._replace(priority=())

        def draw_and_learn(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], Diagnostics]:
            learner, memory = carry
            key_draw, key_update = jax.random.split(key)
            drawn = buffer.sample(memory, key_draw)
            if not config.prioritized:
                learner, diagnostics = algorithm.update(hp, now, learner, from_replay(drawn), key_update)
                return (learner, memory), diagnostics._replace(priority=())
            beta = exploration.anneal(hp.priority_beta, 1.0, progress(state._replace(iteration=following)))
            weight = replay.prioritized.importance_weights(drawn.probability, beta)
            batch = from_replay(drawn.transitions)._replace(weight=weight)
            learner, diagnostics = algorithm.update(hp, now, learner, batch, key_update)
            memory = buffer.update_priorities(memory, drawn.index, diagnostics.priority, hp.priority_alpha)
            return (learner, memory), diagnostics._replace(priority=())

        following = clock.advance(state.iteration)
        if at_once:
            rows = buffer.sample(state.replay, key_sample)
            rows = jax.tree.map(lambda x: x.reshape(draws, batch_size, *x.shape[1:]), rows)
            learner, diagnostics = jax.lax.scan(learn_from, state.learner, (from_replay(rows), update_keys))
            memory = state.replay
        else:
            carry = (state.learner, state.replay)
            (learner, memory), diagnostics = jax.lax.scan(draw_and_learn, carry, update_keys)
        state = state._replace(key=key, learner=learner, replay=memory, iteration=following)
        return state, Metrics(stats, {**jax.tree.map(jnp.mean, diagnostics.scalars), **scalars})

    return entry.agent(Agent(init, step, policy, steps_per_iteration, warmup_steps, name, env, config, explore))
