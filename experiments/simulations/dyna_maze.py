"""How much the steps of an episode of Dyna-Q scatter between runs: the book's algorithm again, in plain Python.

Sutton & Barto 2018, section 8.2, example 8.1: six rows, nine columns, α 0.1, γ 0.95, ε 0.1, ties broken at random.
Written from the book, with nothing of this project, so that a reference has a spread of its own: the standard deviation
of one run, from which that of the mean of the reference's 30 runs follows.

    python experiments/simulations/dyna_maze.py [RUNS]
"""

import random
import statistics
import sys

ROWS, COLUMNS, START, GOAL = 6, 9, (2, 0), (0, 8)
WALLS = {(1, 2), (2, 2), (3, 2), (4, 5), (0, 7), (1, 7), (2, 7)}
MOVES = ((-1, 0), (1, 0), (0, 1), (0, -1))
ALPHA, GAMMA, EPSILON = 0.1, 0.95, 0.1


def move(cell: tuple[int, int], action: int) -> tuple[int, int]:
    """Where a move ends: in place if a wall or the edge is in the way."""
    row, column = cell[0] + MOVES[action][0], cell[1] + MOVES[action][1]
    free = 0 <= row < ROWS and 0 <= column < COLUMNS and (row, column) not in WALLS
    return (row, column) if free else cell


def lengths(planning: int, episodes: int) -> list[int]:
    """Steps of each episode of one run."""
    q: dict[tuple[int, int], list[float]] = {(r, c): [0.0] * 4 for r in range(ROWS) for c in range(COLUMNS)}
    model: dict[tuple[int, int], dict[int, tuple[int, int]]] = {}  # where each action led that was taken in a cell
    visited: list[tuple[int, int]] = []

    def learn(cell: tuple[int, int], action: int, following: tuple[int, int]) -> None:
        target = 1.0 if following == GOAL else GAMMA * max(q[following])
        q[cell][action] += ALPHA * (target - q[cell][action])

    steps = []
    for _ in range(episodes):
        cell, count = START, 0
        while cell != GOAL:
            best = max(q[cell])
            greedy = [action for action in range(4) if q[cell][action] == best]
            action = random.randrange(4) if random.random() < EPSILON else random.choice(greedy)
            following = move(cell, action)
            learn(cell, action, following)
            if cell not in model:
                model[cell] = {}
                visited.append(cell)
            model[cell][action] = following
            for _ in range(planning):  # a cell that was visited, then an action that was taken there
                seen = random.choice(visited)
                taken = random.choice(list(model[seen]))
                learn(seen, taken, model[seen][taken])
            cell, count = following, count + 1
        steps.append(count)
    return steps


def main() -> None:
    """Prints mean and standard deviation of episodes 2 and 5, and of the mean of episodes 41 to 50."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    random.seed(0)
    for planning in (0, 5, 50):
        found = [lengths(planning, 50) for _ in range(runs)]
        columns = {"2": [r[1] for r in found], "5": [r[4] for r in found], "41-50": [sum(r[40:]) / 10 for r in found]}
        for name, values in columns.items():
            mean, spread = statistics.fmean(values), statistics.stdev(values)
            print(
                f"{planning} planning steps, episode {name}: mean {mean:.4g}, standard deviation {spread:.4g}, "
                f"two standard errors of 30 runs {2 * spread / 30**0.5:.3g}"
            )


if __name__ == "__main__":
    main()
