"""Generates the picture of the layers and the page of reproductions. docs/environments.py makes the environments'."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from jaxrl import reproduce

DOCS = Path(__file__).parent

# (title, what is in it), from the top down; each layer imports only from those below it.
LAYERS = [
    ("command line", "jaxrl.cli  ·  film  ·  gymnasium_check  ·  reproduce (experiments/*.py)", "#dbe7f5"),
    ("runs by name", "jaxrl.runs: config.json and everything built from it; knows the registry", "#dbe7f5"),
    (
        "host drivers",
        "jaxrl.driver (fit)  ·  jaxrl.sweep  ·  checkpoint  ·  results  ·  plotting  ·  export",
        "#dcefdc",
    ),
    ("pure training", "jaxrl.train (run, make_train)  ·  jaxrl.evaluate  ·  jaxrl.placement", "#fdf0d0"),
    (
        "agents, planners",
        "jaxrl.agents.FAMILY.*: one algorithm each, none imports another  ·  jaxrl.planners.*",
        "#fdf0d0",
    ),
    (
        "loops",
        "jaxrl.loops: on_policy  ·  off_policy  ·  offline    |    jaxrl.signals: normalisation, multipliers",
        "#fdf0d0",
    ),
    (
        "shared rooms",
        "types  ·  rollout  ·  returns  ·  losses  ·  distributions  ·  exploration  ·  normalize  ·  replay\n"
        "networks (and xla_cpu, what they are on a CPU)  ·  policies  ·  players  ·  actions",
        "#fdf0d0",
    ),
    (
        "environments",
        "envs.classic_control  ·  toy_text  ·  gridworld  ·  procgen  ·  bsuite  ·  minatar  ·  box2d  ·  pixels\n"
        "games  ·  wrappers  ·  tabular  ·  probes  ·  registry  ·  interop",
        "#f6dfd8",
    ),
    (
        "seams of envs",
        "envs.base (the MDP, the game)  ·  envs.episode (the only clock)  ·  players  ·  spaces  ·  errors",
        "#f6dfd8",
    ),
]


def draw_layers(path: Path) -> None:
    """Draws the layers as a stack of boxes."""
    figure = Figure(figsize=(10, 7.2), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 10)
    axes.set_ylim(0, len(LAYERS))
    axes.axis("off")
    for row, (title, text, colour) in enumerate(LAYERS):
        y = len(LAYERS) - 1 - row
        box = FancyBboxPatch(
            (0.2, y + 0.1), 9.3, 0.78, boxstyle="round,pad=0.02", facecolor=colour, edgecolor="#555555"
        )
        axes.add_patch(box)
        axes.text(0.4, y + 0.49, title, fontsize=12, weight="bold", va="center")
        axes.text(2.4, y + 0.49, text, fontsize=10, va="center")
    axes.annotate(
        "imports",
        (9.75, 0.3),
        (9.75, len(LAYERS) - 0.3),
        ha="center",
        rotation=90,
        va="top",
        arrowprops={"arrowstyle": "->"},
    )
    figure.savefig(path)


if __name__ == "__main__":
    draw_layers(DOCS / "layers.png")
    experiments = reproduce.experiments()
    reproduce.judge_again(experiments)
    (DOCS / "reproductions.md").write_text(reproduce.page(experiments))
