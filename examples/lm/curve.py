"""The loss curve of a run."""
import io
import math

from matplotlib.figure import Figure


def draw(losses: list[float], held_out: list[tuple[int, float]], title: str) -> bytes:
    """A PNG of the loss of each step, in nats, and of (step, bits per byte) on held-out text."""
    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes = figure.subplots()
    axes.plot(range(1, len(losses) + 1), [loss / math.log(2) for loss in losses], color='0.75', linewidth=0.8, label='each step')
    if held_out:
        axes.plot(*zip(*held_out), marker='o', color='tab:red', label='held out')
    axes.set(xlabel='step', ylabel='bits per byte', title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    png = io.BytesIO()
    figure.savefig(png, dpi=120)
    return png.getvalue()
