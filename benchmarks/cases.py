"""What the training benchmarks train: settings of ours and of each peer that mean the same."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One comparison."""

    title: str
    """What a reader sees."""
    agent: str
    """Of this framework."""
    env: str
    num_seeds: int
    """Trained side by side in a turn."""
    env_steps: int
    """Of each seed in a turn."""
    config: dict[str, Any]
    """Fields of the agent's Config that are not its defaults."""
    hp: dict[str, Any]
    """Fields of the agent's Hyperparams that are not its defaults."""
    rejax: dict[str, Any] | None = None
    """Arguments of rejax's `create`; None: not measured."""
    sb3: dict[str, Any] | None = None
    """Arguments of Stable-Baselines3's and sbx's class, and "num_envs"; None: not measured."""
    sb3_steps: int = 0
    """Environment steps of its turn, fewer because it is slow; one seed."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """Options of ours."""
    eval_episodes: int = 32
    """Episodes of the greedy policy in the end, outside the clock for ours."""
    notes: list[str] = field(default_factory=list)
    """Where the settings cannot be the same."""


_SB3_DQN: dict[str, Any] = {
    "algorithm": "DQN",
    "buffer_size": 10_000,
    "learning_starts": 1_000,
    "batch_size": 128,
    "train_freq": 10,
    "learning_rate": 2.5e-4,
}


def _seeds(number: int) -> str:
    return f"{number:,} seed{'s' if number > 1 else ''}"


def _alone(num_seeds: int, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Stable-Baselines3 trains one seed after the other: the case of one seed says it all."""
    return settings if num_seeds == 1 else None


def _ppo_cartpole(num_seeds: int, env_steps: int) -> Case:
    return Case(
        title=f"PPO, CartPole-v1, {_seeds(num_seeds)}",
        agent="ppo",
        env="CartPole-v1",
        num_seeds=num_seeds,
        env_steps=env_steps,
        config={},  # the defaults are CleanRL's and purejaxrl's settings
        hp={},
        rejax={
            "algorithm": "ppo",
            "num_envs": 4,
            "num_steps": 128,
            "num_epochs": 4,
            "num_minibatches": 4,
            "learning_rate": 2.5e-4,
            "max_grad_norm": 0.5,
            "ent_coef": 0.01,
            "agent_kwargs": {"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        },
        sb3=_alone(
            num_seeds,
            {"algorithm": "PPO", "num_envs": 4, "n_steps": 128, "batch_size": 128, "n_epochs": 4, "ent_coef": 0.01},
        ),
        sb3_steps=20_480,
        notes=["rejax does not anneal the learning rate"],
    )


def _dqn_cartpole(num_seeds: int, env_steps: int) -> Case:
    return Case(
        title=f"DQN, CartPole-v1, {_seeds(num_seeds)}",
        agent="dqn",
        env="CartPole-v1",
        num_seeds=num_seeds,
        env_steps=env_steps,
        # purejaxrl's: 10 environments, an update of 128 for every 10 steps, replay of 10,000 …: our defaults but three.
        config={"warmup_steps": 10_000, "weights": "lecun"},
        hp={"learning_rate": 2.5e-4},
        sb3=_alone(num_seeds, {**_SB3_DQN, "policy_kwargs": {"net_arch": [120, 84]}}),
        sb3_steps=20_000,
    )


def _double_dqn_cartpole(num_seeds: int, env_steps: int) -> Case:
    return Case(
        title=f"Double DQN, CartPole-v1, {_seeds(num_seeds)}",
        agent="dqn",
        env="CartPole-v1",
        num_seeds=num_seeds,
        env_steps=env_steps,
        # rejax has these alone.
        config={"warmup_steps": 10_000, "hidden": (64, 64), "double": True, "weights": "lecun"},
        hp={"learning_rate": 2.5e-4},
        rejax={
            "algorithm": "dqn",
            "num_envs": 10,
            "buffer_size": 10_000,
            "fill_buffer": 10_000,
            "batch_size": 128,
            "learning_rate": 2.5e-4,
            "target_update_freq": 500,
            "polyak": 0.0,
            "exploration_fraction": 0.5,
            "agent_kwargs": {"activation": "relu"},
        },
    )


def _continuous(agent: str, num_seeds: int, batch: int, hidden: int) -> Case:
    updates = {"num_updates": 1} if agent == "sac" else {"num_updates": 2}
    rejax_networks: dict[str, Any] = {"agent_kwargs": {"activation": "relu", "hidden_layer_sizes": (hidden, hidden)}}
    if agent == "td3":  # always two layers of 64
        rejax_networks = {"actor_kwargs": {"activation": "relu"}, "critic_kwargs": {"activation": "relu"}}
    return Case(
        title=f"{agent.upper()}, Pendulum-v1, {_seeds(num_seeds)}",
        agent=agent,
        env="Pendulum-v1",
        num_seeds=num_seeds,
        env_steps=10_000,
        config={
            "num_envs": 1,
            "rollout_length": updates["num_updates"],
            **updates,
            "batch_size": batch,
            "hidden": (hidden, hidden),
            "replay_capacity": 10_000,
        },
        hp={"critic_learning_rate": 1e-3, "policy_learning_rate": 1e-3} if agent == "sac" else {"learning_rate": 1e-3},
        rejax={
            "algorithm": agent,
            "num_envs": 1,
            "buffer_size": 10_000,
            "fill_buffer": 1_000,
            "batch_size": batch,
            "learning_rate": 1e-3,
            "polyak": 0.995,
            **rejax_networks,
        },
        sb3=_alone(
            num_seeds,
            {"algorithm": agent.upper(), "learning_starts": 1_000, "batch_size": batch, "learning_rate": 1e-3},
        ),
        sb3_steps=2_000,
    )


def _ppo_breakout(num_seeds: int, env_steps: int) -> Case:
    return Case(
        title=f"PPO, Breakout-MinAtar, {_seeds(num_seeds)}",
        agent="ppo",
        env="Breakout-MinAtar",
        num_seeds=num_seeds,
        env_steps=env_steps,
        config={
            "num_envs": 64,
            "num_minibatches": 8,
            "activation": "relu",
        },  # purejaxrl's: dense layers, no convolution
        hp={"learning_rate": 5e-3},
        # As gymnax, which purejaxrl steps, has the game.
        env_options={"max_steps": 1_000, "sticky_prob": 0.0, "minimal_actions": True},
        notes=["three actions, none of them sticky, and 1,000 frames at most, as gymnax has the game"],
    )


def _dqn_breakout(num_seeds: int, env_steps: int) -> Case:
    return Case(
        title=f"DQN, Breakout-MinAtar, {_seeds(num_seeds)}",
        agent="dqn",
        env="Breakout-MinAtar",
        num_seeds=num_seeds,
        env_steps=env_steps,
        config={
            "torso": "minatar_cnn",
            "hidden": (128,),
            "num_envs": 4,
            "batch_size": 32,
            "replay_capacity": 100_000,
            "warmup_steps": 5_000,
        },
        hp={"learning_rate": 2.5e-4, "target_period": 1_000},
        env_options={"max_steps": 1_000},
        notes=["an update of 32 for every four frames, 100,000 transitions for every seed"],
    )


# Made for two cores.
CPU = {
    "ppo-cartpole-1": _ppo_cartpole(1, 500_000),
    "ppo-cartpole-64": _ppo_cartpole(64, 51_200),
    "dqn-cartpole-1": _dqn_cartpole(1, 500_000),
    "dqn-cartpole-16": _dqn_cartpole(16, 200_000),
    "double-dqn-cartpole-1": _double_dqn_cartpole(1, 200_000),
    "sac-pendulum-1": _continuous("sac", 1, 256, 64),
    "sac-pendulum-8": _continuous("sac", 8, 256, 64),
    "td3-pendulum-1": _continuous("td3", 1, 100, 64),
    "td3-pendulum-8": _continuous("td3", 8, 100, 64),
    "ppo-breakout-1": _ppo_breakout(1, 1_000_000),
    "dqn-breakout-1": _dqn_breakout(1, 15_000),
    "dqn-breakout-50": _dqn_breakout(50, 15_000),
}
# Made for one.
GPU = {
    "ppo-cartpole-2048": _ppo_cartpole(2_048, 500_000),
    "ppo-cartpole-4096": _ppo_cartpole(4_096, 500_000),
    "ppo-breakout-64": _ppo_breakout(64, 1_000_000),
    "ppo-breakout-512": _ppo_breakout(512, 1_000_000),
    "dqn-breakout-64": _dqn_breakout(64, 15_000),
    "dqn-breakout-512": _dqn_breakout(512, 15_000),
}
CASES = CPU | GPU
