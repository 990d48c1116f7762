"""The names of the environments that come with the package. A module is imported when its first name is made."""

from envs.registry import register

register("CartPole-v0", "envs.classic_control.cartpole:CartPole", max_steps=200)
register("CartPole-v1", "envs.classic_control.cartpole:CartPole")
register("Acrobot-v1", "envs.classic_control.acrobot:Acrobot")
register("MountainCar-v0", "envs.classic_control.mountain_car:MountainCar")
register("MountainCarContinuous-v0", "envs.classic_control.mountain_car_continuous:MountainCarContinuous")
register("Pendulum-v1", "envs.classic_control.pendulum:Pendulum")
register("Pendulum-Lab-v0", "envs.classic_control.pendulum:PendulumLab")
# Without velocities, for agents with memory.
register("CartPole-Hidden-v0", "envs.classic_control.cartpole:CartPole", wrap="envs.wrappers:keep_0_2")
register("Pendulum-Hidden-v0", "envs.classic_control.pendulum:Pendulum", wrap="envs.wrappers:keep_0_1")
register("GridWorld-4x4", "envs.gridworld.grid_world:GridWorld")
register(
    "GridWorld-5x5",
    "envs.gridworld.grid_world:GridWorld",
    rows=5,
    cols=5,
    random_start=True,
    rewards=(-1.0, 10.0),
)
register("FourRooms-v0", "envs.gridworld.four_rooms:FourRooms")
register("FourRooms-RandomGoal-v0", "envs.gridworld.four_rooms:FourRooms", random_goal=True)
register("GridWorld-3x3", "envs.gridworld.grid_world:GridWorld", rows=3, cols=3, rewards=(-1.0, 10.0))
register("FrozenLake-v1", "envs.toy_text.frozen_lake:FrozenLake")
register("FrozenLake8x8-v1", "envs.toy_text.frozen_lake:FrozenLake8x8")
register("CliffWalking-v1", "envs.toy_text.cliff_walking:CliffWalking")
register("CliffWalkingSlippery-v1", "envs.toy_text.cliff_walking:CliffWalking", is_slippery=True)
register("Taxi-v4", "envs.toy_text.taxi:Taxi")
register("Blackjack-v1", "envs.toy_text.blackjack:Blackjack")
register("Blackjack-Table-v0", "envs.toy_text.blackjack:Blackjack", discrete=True)  # numbered, for agents with tables
register("WindyGridworld-v0", "envs.toy_text.windy_gridworld:WindyGridworld")
register("WindyGridworldKings-v0", "envs.toy_text.windy_gridworld:WindyGridworld", moves=8)
register("WindyGridworldStochastic-v0", "envs.toy_text.windy_gridworld:WindyGridworld", moves=8, stochastic=True)
register("RandomWalk-5", "envs.toy_text.random_walk:RandomWalk")
register("RandomWalk-19", "envs.toy_text.random_walk:RandomWalk", n=19, rewards=(-1.0, 1.0))
register("DynaMaze-v0", "envs.toy_text.maze:Maze")
register("BlockingMaze-v0", "envs.toy_text.maze:BlockingMaze")
register("ShortcutMaze-v0", "envs.toy_text.maze:ShortcutMaze")
register("MaximizationBias-v0", "envs.toy_text.maximization_bias:MaximizationBias")
register("ShortCorridor-v0", "envs.toy_text.short_corridor:ShortCorridor")
register("ThreeState-v0", "envs.toy_text.three_state:ThreeState")
register("BitFlipping-v0", "envs.goals.bit_flipping:BitFlipping")
register("Bandit-10", "envs.toy_text.bandit:Bandit")
register("ContextualBandit-v0", "envs.toy_text.bandit:Bandit", contexts=5)
for n in (5, 6, 8, 16):
    register(f"MiniGrid-Empty-{n}x{n}-v0", "envs.gridworld.minigrid.empty:Empty", size=n, max_steps=4 * n * n)
    register(f"MiniGrid-DoorKey-{n}x{n}-v0", "envs.gridworld.minigrid.door_key:DoorKey", size=n, max_steps=10 * n * n)
for n in (5, 6):
    register(
        f"MiniGrid-Empty-Random-{n}x{n}-v0",
        "envs.gridworld.minigrid.empty:Empty",
        size=n,
        random_start=True,
        max_steps=4 * n * n,
    )
register("TMaze-v0", "envs.gridworld.t_maze:TMaze")
register("MiniGrid-FourRooms-v0", "envs.gridworld.minigrid.four_rooms:FourRooms")
for name, rooms, n in (("N2-S4-v0", 2, 4), ("N4-S5-v1", 4, 5), ("N6-v0", 6, 10)):
    register(
        f"MiniGrid-MultiRoom-{name}",
        "envs.gridworld.minigrid.multi_room:MultiRoom",
        rooms=rooms,
        max_room_size=n,
        max_steps=20 * rooms,
    )
for n in (7, 9, 11, 13):
    register(f"MiniGrid-MemoryS{n}-v0", "envs.gridworld.minigrid.memory:Memory", size=n, max_steps=5 * n * n)
for n in (13, 17):
    register(
        f"MiniGrid-MemoryS{n}Random-v0",
        "envs.gridworld.minigrid.memory:Memory",
        size=n,
        random_length=True,
        max_steps=5 * n * n,
    )
register("MiniGrid-Unlock-v0", "envs.gridworld.minigrid.unlock:Unlock")
register("MiniGrid-UnlockPickup-v0", "envs.gridworld.minigrid.unlock:UnlockPickup")
for n, rooms in ((3, 1), (3, 2), (3, 3), (4, 3), (5, 3), (6, 3)):
    register(
        f"MiniGrid-KeyCorridorS{n}R{rooms}-v0",
        "envs.gridworld.minigrid.key_corridor:KeyCorridor",
        room_size=n,
        rooms=rooms,
        max_steps=30 * n * n,
    )
register("Maze-Procgen-v0", "envs.procgen.maze:Maze")
register("Platformer-Procgen-v0", "envs.procgen.platformer:Platformer")
register("LunarLander-v3", "envs.box2d.lunar_lander:LunarLander")
register("LunarLanderContinuous-v3", "envs.box2d.lunar_lander:LunarLander", continuous=True)
register("Catch-bsuite", "envs.bsuite.catch:Catch")
register("DeepSea-bsuite", "envs.bsuite.deep_sea:DeepSea")
register("DeepSeaStochastic-bsuite", "envs.bsuite.deep_sea:DeepSea", deterministic=False)
register("MemoryChain-bsuite", "envs.bsuite.memory_chain:MemoryChain")
register("UmbrellaChain-bsuite", "envs.bsuite.umbrella_chain:UmbrellaChain")
register("DiscountingChain-bsuite", "envs.bsuite.discounting_chain:DiscountingChain")
register("SimpleBandit-bsuite", "envs.bsuite.bandit:SimpleBandit")
register("CartPole-bsuite", "envs.bsuite.cartpole:CartPole")
register("CartPoleSwingUp-bsuite", "envs.bsuite.cartpole_swingup:CartPoleSwingUp")
register(
    "MountainCar-bsuite",
    "envs.classic_control.mountain_car:MountainCar",
    wrap="envs.bsuite.mountain_car:with_clock",
    max_steps=1000,
)
register("CatchNoise-bsuite", "envs.bsuite.catch:Catch", wrap="envs.wrappers:NoisyReward")
register("CatchScale-bsuite", "envs.bsuite.catch:Catch", wrap="envs.wrappers:ScaleReward")
register("SimpleBanditNoise-bsuite", "envs.bsuite.bandit:SimpleBandit", wrap="envs.wrappers:NoisyReward")
register("SimpleBanditScale-bsuite", "envs.bsuite.bandit:SimpleBandit", wrap="envs.wrappers:ScaleReward")
register("CartPoleNoise-bsuite", "envs.bsuite.cartpole:CartPole", wrap="envs.wrappers:NoisyReward")
register("CartPoleScale-bsuite", "envs.bsuite.cartpole:CartPole", wrap="envs.wrappers:ScaleReward")
register(
    "MountainCarNoise-bsuite",
    "envs.classic_control.mountain_car:MountainCar",
    wrap="envs.bsuite.mountain_car:with_clock_and_noise",
    max_steps=1000,
)
register(
    "MountainCarScale-bsuite",
    "envs.classic_control.mountain_car:MountainCar",
    wrap="envs.bsuite.mountain_car:with_clock_and_scale",
    max_steps=1000,
)
register("Asterix-MinAtar", "envs.minatar.asterix:Asterix")
register("Breakout-MinAtar", "envs.minatar.breakout:Breakout")
register("Freeway-MinAtar", "envs.minatar.freeway:Freeway")
register("Seaquest-MinAtar", "envs.minatar.seaquest:Seaquest")
register("SpaceInvaders-MinAtar", "envs.minatar.space_invaders:SpaceInvaders")
register("Pong-Pixels-v0", "envs.pixels.pong:Pong", wrap="envs.wrappers:frame_stack_4")
register("Pong-Vector-v0", "envs.pixels.pong:Pong", pixels=False)
register("Breakout-Pixels-v0", "envs.pixels.breakout:Breakout", wrap="envs.wrappers:frame_stack_4")
register("Breakout-Vector-v0", "envs.pixels.breakout:Breakout", pixels=False)
