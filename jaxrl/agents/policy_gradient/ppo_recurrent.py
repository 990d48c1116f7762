"""PPO with a recurrent memory, for tasks whose observation is not the state: GRU or LSTM.

    (π(·|o_≤t), V_t, m_t) = net_θ(o_t, m_{t−1}),   L(θ) as in PPO (Schulman et al. 2017, arXiv:1707.06347)

The loss and how a memory changes it are in `memory_ppo`. Here the network replays a rollout from the memory m that it
had when the rollout began, by backpropagation through all its steps (Mnih et al. 2016, arXiv:1602.01783, section 4).

The units begin with times of forgetting from 1 to `time_scale` steps (chrono initialisation, Tallec & Ollivier 2018,
arXiv:1804.11188, over the logarithms): with gates half open, as they begin elsewhere, a cue has faded after a few
steps, and so has the gradient that should teach the network to keep it.

Deviations from CleanRL's ppo_atari_lstm.py, beside those of `ppo`: a GRU as well, chrono initialisation, scaled
rewards, no clipping of the value.
"""

from dataclasses import dataclass

from envs.base import Env
from envs.spaces import Space
from jaxrl import networks, policies
from jaxrl.agents.policy_gradient import memory_ppo
from jaxrl.agents.policy_gradient.memory_ppo import Hyperparams, Learner, init_learner, update
from jaxrl.types import Agent, Algorithm

__all__ = ["Config", "Hyperparams", "Learner", "algorithm", "build", "init_learner", "make", "update"]


@dataclass(frozen=True)
class Config(memory_ppo.Config):
    """What is static: a new value means a new compilation."""

    rollout_length: int = 128
    """Steps in each environment between updates; gradients reach back at most so far."""
    hidden: tuple[int, ...] = (32,)
    cell: networks.Cell = "gru"
    """The recurrent cell."""
    memory_size: int = 32
    """Units of the memory."""
    time_scale: int = 100
    """The units begin with times of forgetting from 1 to about so many steps."""


def build(config: Config, observation_space: Space, action_space: Space) -> policies.MemoryNetworks:
    """Builds policy and value for a pair of spaces; see `policies.with_memory` for what they may be."""
    shape = (config.torso, config.hidden, config.activation, config.memory_size, config.cell, config.time_scale)

    def make_net(space: Space, heads: tuple[tuple[str, int, float], ...]) -> networks.SequenceNetwork:
        return networks.as_sequence_network(networks.recurrent(space, heads, *shape))

    return policies.with_memory("ppo_recurrent", observation_space, action_space, make_net)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """Recurrent PPO for a pair of spaces.

    Raises:
        InputError: spaces that PPO cannot handle.
    """
    return memory_ppo.algorithm(config, build(config, observation_space, action_space))


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds recurrent PPO to an environment.

    Raises:
        InputError: environments that do not split into minibatches, or spaces that PPO cannot handle or normalise.
    """
    return memory_ppo.make("ppo_recurrent", env, config, algorithm(config, env.observation_space, env.action_space))
