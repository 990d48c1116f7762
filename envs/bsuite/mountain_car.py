"""MountainCar of the Behaviour Suite: the classic car, with a visible clock that ends the episode.

Observation: f32[3] position, velocity, share of the 1000 steps that has passed.
Ends: position ≥ 0.5, or after 1000 steps.
Everything else: see `envs.classic_control.mountain_car`. So it is that environment with a limit of 1000 steps, the time
added to the observation, and the limit a termination.

Source and common deviations: see `envs.bsuite`. Experiment "mountain_car": as it is.
Deviations: float32 arithmetic instead of float64. `max_steps` is the limit that the observation shows and that ends the
episode, so here it must be there. At the limit the flag `truncated` of `envs.episode` is set as well; `terminated`
decides.
"""

from envs.base import Env
from envs.wrappers import FlattenObservation, NoisyReward, ScaleReward, TimeObservation


def with_clock(env: Env) -> FlattenObservation:
    """Adds the time to the observation and makes the limit a termination."""
    return FlattenObservation(TimeObservation(env, terminates=True))


def with_clock_and_noise(env: Env) -> NoisyReward:
    """The same with noise on the rewards."""
    return NoisyReward(with_clock(env))


def with_clock_and_scale(env: Env) -> ScaleReward:
    """The same with scaled rewards."""
    return ScaleReward(with_clock(env))
