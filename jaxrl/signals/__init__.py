"""What is done to experience between environment and learner, and how a tuple of signals composes."""

from typing import Any

import jax

from jaxrl.signals.multipliers import lagrangian
from jaxrl.signals.normalization import normalisations, observations, rewards
from jaxrl.types import Policy, Signal, Transition

__all__ = ["draw", "drawn", "gathered", "init", "lagrangian", "normalisations", "observations", "rewards", "seeing"]


def draw(signals: tuple[Signal, ...]) -> bool:
    """Whether any of them uses keys."""
    return any(signal.draws for signal in signals)


def _keys(signals: tuple[Signal, ...], key: jax.Array) -> list[jax.Array]:
    """A key for each; where none uses it, all get `key` as it is, and nothing is computed."""
    return list(jax.random.split(key, len(signals))) if draw(signals) else [key] * len(signals)


def init(signals: tuple[Signal, ...], key: jax.Array, hp: Any) -> tuple[Any, ...]:
    """The state of each signal."""
    return tuple(signal.init(own, hp) for signal, own in zip(signals, _keys(signals, key), strict=True))


def gathered(
    signals: tuple[Signal, ...], hp: Any, states: tuple[Any, ...], batch: Transition, key: jax.Array
) -> tuple[tuple[Any, ...], Transition, dict[str, jax.Array]]:
    """Passes a rollout through all of them; returns (states, batch, the scalars of all)."""
    moved, reported = [], {}
    for signal, state, own in zip(signals, states, _keys(signals, key), strict=True):
        state, batch, scalars = signal.gathered(hp, state, batch, own)
        moved.append(state)
        reported |= scalars
    return tuple(moved), batch, reported


def drawn(
    signals: tuple[Signal, ...], hp: Any, states: tuple[Any, ...], batch: Transition, key: jax.Array
) -> Transition:
    """Passes a batch that comes out of a replay or a dataset through all of them."""
    for signal, state, own in zip(signals, states, _keys(signals, key), strict=True):
        batch = signal.drawn(hp, state, batch, own)
    return batch


def seeing(signals: tuple[Signal, ...], hp: Any, states: tuple[Any, ...], policy: Policy) -> Policy:
    """The policy behind what the signals make of its observations."""
    if not signals:
        return policy

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        for signal, state in zip(signals, states, strict=True):
            obs = signal.seen(hp, state, obs)
        return policy.act(key, obs, memory)

    return Policy(act, policy.memory)
