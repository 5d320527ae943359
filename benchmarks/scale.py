"""Time and memory of a search step against layers, base channels, crop area and batch, one varied at a time.

A step is the search's own (`search.steps`): one on the architecture and one on the weights, four passes each. Every
point runs in a process of its own, on one thread. Its time is processor time, to which neighbours on the machine do not
add; its memory is the process's peak beyond what it took before the supernet was built, and beyond weights, gradients
and momentum. The figures are the exponent of a power law fitted to the points (1 is in proportion), beside that of
the arithmetic of the convolutions, and how well a straight line, which may start above zero, explains them.

    python -m benchmarks.scale --csv benchmarks/scale_search_step_1thread.csv

Writes the CSV and a plot of the same name. Result: see benchmarks/README.md.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.convolutions import ConvolutionCount
from benchmarks.options import benchmark_parser, write_rows
from benchmarks.supernet_sides import FastSide, Workload, make_batch
from benchmarks.turns import machine
from fasterseg.base.devices import DeviceConfig
from fasterseg.engine.devices import build_fabric, seed_everything
from fasterseg.engine.memory import peak_memory_bytes
from fasterseg.networks.space import SpaceConfig
from latency.results import save_figure
from search.config import SearchConfig
from search.steps import SEARCH_PASSES


class Point(NamedTuple):
    """What decides the size of a step.

    Attributes:
        layers: Of the space.
        base_channels: Of the space.
        height: Of the crops, in pixels; they are twice as wide.
        batch: Images.
    """

    layers: int
    base_channels: int
    height: int
    batch: int


BASE = Point(layers=8, base_channels=8, height=96, batch=2)
LADDERS: dict[str, tuple[int, ...]] = {
    "layers": (5, 8, 12, 16),
    "base_channels": (4, 8, 12, 16),
    "height": (32, 64, 96, 128),
    "batch": (1, 2, 3, 4),
}
SHORT_BASE = Point(layers=4, base_channels=4, height=32, batch=2)
SHORT_LADDERS: dict[str, tuple[int, ...]] = {"layers": (4, 6), "batch": (2, 4)}
# what the figures of each ladder are plotted and fitted against
AXES = {"layers": "layers", "base_channels": "base channels", "height": "crop area (pixels)", "batch": "batch (images)"}
FIGURES = {
    "step_ms": "search step (ms of processor time)",
    "memory_mib": "memory (MiB)",
    "gflop": "convolutions (GFLOP)",
}


def extent(point: Point, ladder: str) -> int:
    """The number that a ladder varies; for the crop its area."""
    return 2 * point.height**2 if ladder == "height" else int(getattr(point, ladder))


def measure_point(point: Point, *, steps: int) -> dict[str, float]:
    """One point, in this process.

    Args:
        point: What to run.
        steps: How many steps are timed, after one that is not.

    Returns:
        `step_ms` (median), `memory_mib`, `gflop` of a step's convolutions, and `million_weights`.
    """
    fabric = build_fabric(DeviceConfig(accelerator="cpu"))
    crop = (point.height, 2 * point.height)
    space = SpaceConfig(layers=point.layers, base_channels=point.base_channels, widths=(0.5, 1.0), student_width=0.5)
    config = SearchConfig(crop_size_px=crop, batch_size=point.batch)
    # what libraries take at their first use is none of the step's
    torch.nn.Conv2d(3, 3, 3)(torch.randn(1, 3, 64, 64)).sum().backward()
    cpu = torch.device("cpu")
    before = peak_memory_bytes(cpu)
    side = FastSide(Workload(space, config, make_batch(crop, point.batch), fabric))

    def step() -> None:
        side.architecture_gradients()
        side.move_architecture()
        side.weights_gradients(SEARCH_PASSES)
        side.move_weights()

    with ConvolutionCount() as count:
        step()
    times = [_processor_ms(step) for _ in range(steps)]
    after = peak_memory_bytes(cpu)
    assert before is not None and after is not None, "this system does not tell a process's peak memory"
    weights = sum(weight.numel() for weight in side.supernet.weights())
    return {
        "step_ms": statistics.median(times),
        # weights, gradients and momentum in float32
        "memory_mib": (after - before - 3 * 4 * weights) / 2**20,
        "gflop": count.flops / 1e9,
        "million_weights": weights / 1e6,
    }


def _processor_ms(call: Callable[[], object]) -> float:
    """The processor time of a call, in all threads."""
    start = time.process_time()
    call()
    return (time.process_time() - start) * 1e3


def measure_apart(point: Point, arguments: argparse.Namespace) -> dict[str, float]:
    """One point, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--point", *map(str, point)]
    command += ["--steps", str(arguments.steps)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    print(*(f"{name} {value}," for name, value in point._asdict().items()), end=" ")
    print(f"{figures['step_ms']:.0f} ms, {figures['memory_mib']:.0f} MiB, {figures['gflop']:.0f} GFLOP", flush=True)
    return figures


def fitted_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent of values ∝ size ** exponent, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def linearity(sizes: Sequence[float], values: Sequence[float]) -> float:
    """How much of the values' variance a straight line explains (R²)."""
    return float(np.corrcoef(sizes, values)[0, 1] ** 2)


def as_rows(
    found: dict[Point, dict[str, float]], base: Point, ladders: dict[str, tuple[int, ...]]
) -> list[dict[str, object]]:
    """A row for each point of each ladder, with the ladder's exponents and linearity."""
    rows: list[dict[str, object]] = []
    for ladder, steps in ladders.items():
        points = [base._replace(**{ladder: step}) for step in steps]
        sizes = [extent(point, ladder) for point in points]
        fits: dict[str, object] = {}
        for name in FIGURES:
            values = [found[point][name] for point in points]
            fits[f"{name}_exponent"] = fitted_exponent(sizes, values)
            fits[f"{name}_linearity"] = linearity(sizes, values)
        for point, size in zip(points, sizes, strict=True):
            rows.append({"varied": AXES[ladder], "size": size, **point._asdict(), **found[point], **fits, **machine()})
    return rows


def plot(rows: Sequence[dict[str, object]], *, title: str) -> Figure:
    """Plots time and memory against each size, with the best straight line and its R²."""
    names = list(dict.fromkeys(str(row["varied"]) for row in rows))
    figure = Figure(figsize=(3.3 * len(names), 5.6), layout="constrained")
    panels = figure.subplots(2, len(names), sharex="col", squeeze=False)
    for column, name in enumerate(names):
        chosen = [row for row in rows if row["varied"] == name]
        sizes = np.array([float(str(row["size"])) for row in chosen])
        for axes, figure_name in zip(panels[:, column], ("step_ms", "memory_mib"), strict=True):
            values = np.array([float(str(row[figure_name])) for row in chosen])
            slope, intercept = np.polyfit(sizes, values, 1)
            ends = np.array([0.0, sizes.max()])
            axes.plot(ends, slope * ends + intercept, color="0.6", linewidth=1, label="best straight line")
            axes.plot(sizes, values, "o-", color="C0" if figure_name == "step_ms" else "C1", label="measured")
            power = float(str(chosen[0][f"{figure_name}_exponent"]))
            note = f"exponent {power:.2f}, R² of the line {float(str(chosen[0][f'{figure_name}_linearity'])):.3f}"
            if figure_name == "step_ms":
                note += f"\nexponent of the arithmetic {float(str(chosen[0]['gflop_exponent'])):.2f}"
            axes.text(0.04, 0.96, note, transform=axes.transAxes, va="top", fontsize=9)
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=min(0.0, intercept), top=1.3 * values.max())
            axes.grid(alpha=0.25)
            if column == 0:
                axes.set_ylabel(FIGURES[figure_name])
        panels[1, column].set_xlabel(name)
    panels[0, -1].legend(loc="lower right", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def main() -> None:
    """Reads the command line, measures all points and writes the CSV and the plot."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a point, after one that is not")
    parser.add_argument("--short", action="store_true", help="a few small points: seconds")
    parser.add_argument(
        "--point", type=int, nargs=4, metavar=tuple(map(str.upper, Point._fields)), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seed_everything(0)
    if arguments.point is not None:
        print(json.dumps(measure_point(Point(*arguments.point), steps=arguments.steps)))
        return
    base, ladders = (SHORT_BASE, SHORT_LADDERS) if arguments.short else (BASE, LADDERS)
    points = {base._replace(**{ladder: step}) for ladder, steps in ladders.items() for step in steps}
    found = {point: measure_apart(point, arguments) for point in sorted(points)}
    rows = as_rows(found, base, ladders)
    for name in dict.fromkeys(row["varied"] for row in rows):
        row = next(row for row in rows if row["varied"] == name)
        print(
            f"{name}:",
            ", ".join(f"{label} ~ size^{row[f'{figure}_exponent']:.2f}" for figure, label in FIGURES.items()),
        )
    write_rows(arguments.csv, rows)
    if arguments.csv is not None:
        shape = f"{base.layers} layers, {base.base_channels} base channels, {base.height}x{2 * base.height}"
        title = f"A search step around {shape}, batch {base.batch}, one CPU thread"
        save_figure(plot(rows, title=title), arguments.csv.with_suffix(".png"))


if __name__ == "__main__":
    main()
