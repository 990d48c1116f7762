"""Blackjack against a dealer with a fixed strategy (Sutton & Barto 2018, example 5.1), as Gymnasium's Blackjack-v1.

Observation: (i32[] the player's sum, 0 … 31; i32[] the dealer's card, 1 ace … 10; i32[] 1 if the player has a usable
    ace, one that counts 11). With `discrete`: i32[] one number, (sum × 11 + card) × 2 + ace, for tables.
Action: 0 stick, 1 hit.
Rules: all cards are drawn with replacement; 2 to 9 count their number, ten, jack, queen and king 10, an ace 11 where
    that does not bust the hand, else 1. After a stick the dealer draws until 17 or more. The higher sum wins; a hand
    above 21 loses at once.
Reward: 1 for a win, 0 for a draw, −1 for a loss, all of it at the last step. A natural is an ace and a ten as the first
    two cards.
    `sab` (default, the book's rules): a natural of the player beats all but a natural of the dealer, which is a draw.
    `sab=False`: a natural is an ordinary 21; with `natural` a win with it pays `natural_reward` (1.5).
Ends: the player sticks or is above 21. Time limit: none; no hand can go on for ever.
Start: two cards for the player, one for the dealer.
Deviations from Gymnasium: the dealer's other cards are not drawn one by one: a stick draws the result of the game from
    its exact distribution (`results`). The picture shows no suits. After the end of a hand, what a further step does is
    undefined.
Optimal mean return: −0.0431 with sab, −0.0466 without (both without the extra pay of a natural).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.drawing import Canvas
from envs.spaces import Discrete, Space
from envs.tabular import Finite, Outcome, State

STICK, HIT = 0, 1
SUMS, CARDS, ACES = 32, 11, 2  # how many values each part of an observation can have
CODES = SUMS * CARDS * ACES
CARD = np.array([0] + [1 / 13] * 9 + [4 / 13])  # f64[11] probability of each card by its value, 1 ace … 10


class Params(NamedTuple):
    """What a natural pays."""

    natural_reward: float = 1.5  # with `natural` and without `sab`


@dataclass(frozen=True)
class Blackjack(Finite[Params]):
    """One hand of blackjack.

    The state's index is the number that `discrete` observes, or, while the hand is a natural, 704 + card − 1.
    """

    sab: bool = True
    natural: bool = False  # only without sab
    discrete: bool = False

    @property
    def num_states(self) -> int:
        """All codes, and a natural against each of ten cards."""
        return CODES + 10

    @property
    def num_outcomes(self) -> int:
        """One for each value of a card; a stick has three: lost, drawn, won."""
        return 10

    @property
    def observation_space(self) -> Space:
        """The player's sum, the dealer's card, whether there is a usable ace; or the three as one number."""
        return Discrete(CODES) if self.discrete else (Discrete(SUMS), Discrete(CARDS), Discrete(ACES))

    @property
    def action_space(self) -> Discrete:
        """0: stick, 1: hit."""
        return Discrete(2)

    def default_params(self) -> Params:
        """Gymnasium's."""
        return Params()

    def start(self, params: Params) -> jax.Array:
        """Adds up all first hands."""
        del params
        start = np.zeros(self.num_states)
        for first in range(1, 11):
            for second in range(1, 11):
                for card in range(1, 11):
                    start[_deal(first, second, card)] += CARD[first] * CARD[second] * CARD[card]
        return jnp.asarray(start, jnp.float32)

    def reset(self, key: jax.Array, params: Params) -> tuple[Any, State]:
        """Deals three cards."""
        del params
        first, second, card = jnp.minimum((jax.random.uniform(key, (3,)) * 13).astype(jnp.int32) + 1, 10)
        index = _deal(first, second, card).astype(jnp.int32)
        return self.observe(index), State(index)

    def probability(self, index: jax.Array, action: jax.Array, params: Params) -> jax.Array:
        """Of the next card, or of (lost, drawn, won)."""
        del params
        stick = jnp.asarray(_stick_table(self.sab), jnp.float32)[index]
        return jnp.where(action == HIT, jnp.asarray(CARD[1:], jnp.float32), stick)

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Params) -> Outcome:
        """Adds card k + 1 to the hand, or ends the game with result k − 1."""
        total, card, ace, natural = _decode(index)
        drawn = k + 1
        hard = total - 10 * ace + drawn  # with every ace as 1
        usable = ((ace == 1) | (drawn == 1)) & (hard + 10 <= 21)
        sum_after = jnp.minimum(hard + 10 * usable, SUMS - 1)
        bust = sum_after > 21

        result = (k - 1).astype(jnp.float32)
        if self.natural and not self.sab:
            result = jnp.where(natural & (result == 1), params.natural_reward, result)
        hit = action == HIT
        next_state = jnp.where(hit, _code(sum_after, card, usable), index)
        return Outcome(next_state, jnp.where(hit, jnp.where(bust, -1.0, 0.0), result), ~hit | bust)

    def observe(self, index: jax.Array) -> Any:
        """What the player sees of a state."""
        total, card, ace, _ = _decode(index)
        return _code(total, card, ace) if self.discrete else (total, card, ace)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The dealer's card above, the player's sum below; a yellow disc is a usable ace."""
        del params
        total, card, ace, _ = (int(part) for part in _decode(np.asarray(state.index)))
        canvas = Canvas(height=300, width=220, background=(60, 120, 80))
        canvas.rectangle((30, 20), (105, 130), "white")
        canvas.rectangle((115, 20), (190, 130), "slate")
        _number(canvas, card, right=88 if card < 10 else 97, top=50)
        canvas.rectangle((55, 165), (165, 275), "light")
        _number(canvas, total, right=140, top=195)
        if ace:
            canvas.circle((165, 165), 14, "yellow")
        return canvas.pixels


@cache
def results(card: int) -> tuple[np.ndarray, float]:
    """Returns how a dealer who shows `card` ends.

    Returns:
        (final, natural): f64[22] the probability of each final sum, 0 for a bust, and that of a natural among the 21s.
    """
    final = np.zeros(22)

    def play(hard: int, ace: bool, probability: float) -> None:
        total = hard + 10 if ace and hard + 10 <= 21 else hard
        if total >= 17:
            final[total if total <= 21 else 0] += probability
            return
        for drawn in range(1, 11):
            play(hard + drawn, ace or drawn == 1, probability * CARD[drawn])

    for second in range(1, 11):
        play(card + second, 1 in (card, second), CARD[second])
    return final, {1: CARD[10], 10: CARD[1]}.get(card, 0.0)


@cache
def _stick_table(sab: bool) -> np.ndarray:
    """The probabilities (lost, drawn, won, 0, 0, …) of a stick in every state, f64[S, 10]."""
    table = np.zeros((CODES + 10, 10))
    table[:, 0] = 1.0  # codes that stand for nothing
    for index in range(CODES + 10):
        total, card, _, natural = (int(part) for part in _decode(np.asarray(index)))
        if card == 0:
            continue
        final, dealer_natural = results(card)
        if natural and sab:
            lost, drawn = 0.0, dealer_natural
        else:
            total = total if total <= 21 else 0
            lost, drawn = final[total + 1 :].sum(), final[total]
        table[index, :3] = lost, drawn, 1 - lost - drawn
    return np.maximum(table, 0.0)


def _code(total: Any, card: Any, ace: Any) -> Any:
    return (total * CARDS + card) * ACES + ace


def _decode(index: Any) -> tuple[Any, Any, Any, Any]:
    """Returns (sum, dealer's card, usable ace, natural)."""
    natural = index >= CODES
    code = natural * _code(21, index - CODES + 1, 1) + ~natural * index
    return code // (CARDS * ACES), code // ACES % CARDS, code % ACES, natural


def _deal(first: Any, second: Any, card: Any) -> Any:
    """The state after two cards for the player and one for the dealer."""
    ace = (first == 1) | (second == 1)
    total = first + second + 10 * ace
    natural = total == 21
    return natural * (CODES + card - 1) + (1 - natural) * _code(total, card, ace)


_SEGMENTS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")
_ENDS = {
    "a": ((0, 0), (1, 0)),
    "b": ((1, 0), (1, 1)),
    "c": ((1, 1), (1, 2)),
    "d": ((0, 2), (1, 2)),
    "e": ((0, 1), (0, 2)),
    "f": ((0, 0), (0, 1)),
    "g": ((0, 1), (1, 1)),
}


def _number(canvas: Canvas, value: int, right: float, top: float) -> None:
    """Writes a number in seven segments, 25 pixels each, that ends at x = `right`."""
    for place, digit in enumerate(reversed(str(value))):
        left = right - 25 - place * 37
        for segment in _SEGMENTS[int(digit)]:
            (x0, y0), (x1, y1) = _ENDS[segment]
            canvas.line((left + 25 * x0, top + 25 * y0), (left + 25 * x1, top + 25 * y1), 5, "black")
