"""Games of several players (`envs.base.Game`). Built directly, not through the registry."""

from envs.games.matrix import MatrixGame
from envs.games.nim import Nim

__all__ = ["MatrixGame", "Nim"]
