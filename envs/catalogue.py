"""The names of the environments that come with the package. A module is imported when its first name is made."""

from envs.registry import register

register("CartPole-v0", "envs.classic_control.cartpole:CartPole", max_steps=200)
register("CartPole-v1", "envs.classic_control.cartpole:CartPole")
register("Acrobot-v1", "envs.classic_control.acrobot:Acrobot")
register("MountainCar-v0", "envs.classic_control.mountain_car:MountainCar")
register("MountainCarContinuous-v0", "envs.classic_control.mountain_car_continuous:MountainCarContinuous")
register("Pendulum-v1", "envs.classic_control.pendulum:Pendulum")
register("Pendulum-Lab-v0", "envs.classic_control.pendulum:PendulumLab")
register("GridWorld-4x4", "envs.gridworld.grid_world:GridWorld")
register(
    "GridWorld-5x5",
    "envs.gridworld.grid_world:GridWorld",
    rows=5,
    cols=5,
    random_start=True,
    rewards=(-1.0, 10.0),
)
register("LunarLander-v3", "envs.box2d.lunar_lander:LunarLander")
register("LunarLanderContinuous-v3", "envs.box2d.lunar_lander:LunarLander", continuous=True)
register("Asterix-MinAtar", "envs.minatar.asterix:Asterix")
register("Breakout-MinAtar", "envs.minatar.breakout:Breakout")
register("Freeway-MinAtar", "envs.minatar.freeway:Freeway")
register("Seaquest-MinAtar", "envs.minatar.seaquest:Seaquest")
register("SpaceInvaders-MinAtar", "envs.minatar.space_invaders:SpaceInvaders")
