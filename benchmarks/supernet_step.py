"""A step of the search and of pretraining against the plain formulation of the same step, in one run.

Both sides start from the same weights, see the same images, draw the same widths and take turns. Before that their
losses and gradients are compared; peak memory is measured in a process for each side. See `search.reference` for what
plain means, and `benchmarks.supernet_sides` for what exactly runs.

    python -m benchmarks.supernet_step --rounds 5 --csv benchmarks/supernet_step_128x256_batch2_cpu2.csv
    python -m benchmarks.supernet_step --device cuda --precision bf16 --crop 224 448 --batch 8 --csv ...
    python -m benchmarks.supernet_step --short

Published space (16 layers, 12 base channels, 252 million weights); two CPU cores and 12 GiB of memory, some minutes.
Result: see benchmarks/README.md.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from benchmarks.convolutions import best_convolution_flops_per_s
from benchmarks.options import benchmark_parser, write_rows
from benchmarks.supernet_figures import (
    convolution_time_share,
    count_convolutions,
    peak_beyond_state_mib,
    relative_differences,
)
from benchmarks.supernet_sides import (
    PRETRAIN_PASSES,
    FastSide,
    ReferenceSide,
    Side,
    Workload,
    made_up_ms,
    make_batch,
    make_problem,
)
from benchmarks.turns import Turn, duration_ms, machine, median_ratio, medians, take_turns
from fasterseg.base.devices import DeviceConfig
from fasterseg.engine.devices import build_fabric, seed_everything
from fasterseg.networks.space import BRANCH_PAIRS, SpaceConfig
from search.config import SearchConfig
from search.expected_latency import ExpectedLatency, latency_regularizer
from search.parameters import ArchitectureParameters
from search.steps import SEARCH_PASSES
from search.supernet import Pass

SEARCH_PARTS = ("architecture", "weights")
Row = dict[str, object]


def row(figure: str, unit: str, *, reference: float | None = None, fast: float | None = None, **more: object) -> Row:
    """A line of the result.

    Args:
        figure: What was measured.
        unit: Of both sides.
        reference: The plain formulation's.
        fast: The search's own.
        more: `ratio` and `target` where there are any.
    """
    columns: Row = {"figure": figure, "unit": unit, "reference": reference, "fast": fast, "ratio": None, "target": None}
    return columns | more


def build_work(arguments: argparse.Namespace) -> Workload:
    """What the command line asks for."""
    short = arguments.short
    space = SpaceConfig(layers=6, base_channels=4, widths=(0.5, 1.0), student_width=0.5) if short else SpaceConfig()
    crop = (64, 128) if short else (arguments.crop[0], arguments.crop[1])
    fabric = build_fabric(DeviceConfig(accelerator=arguments.device, precision=arguments.precision))
    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.allow_tf32 = False
    seed_everything(0)
    config = SearchConfig(crop_size_px=crop, batch_size=arguments.batch)
    return Workload(space, config, make_batch(crop, arguments.batch), fabric)


def waiting(work: Workload) -> Callable[[], None]:
    """Waits until the device has finished its work."""
    return torch.cuda.synchronize if work.fabric.device.type == "cuda" else lambda: None


def side_turn(name: str, side: Side, work: Workload, *, pretraining: bool = True) -> Turn:
    """The parts of a step, optimizers included, with widths of their own in every round.

    The step before the timed one is the same side's, as in training: after another side's the first one mostly pays
    for memory that the process has given back.
    """
    wait, seeds = waiting(work), itertools.count(1)

    def architecture() -> None:
        side.architecture_gradients()
        side.move_architecture()
        wait()

    def weights(passes: Sequence[Pass]) -> None:
        side.weights_gradients(passes)
        side.move_weights()
        wait()

    def turn() -> Mapping[str, float]:
        torch.manual_seed(next(seeds))
        architecture()
        weights(SEARCH_PASSES)
        times = {
            f"{name} architecture": duration_ms(architecture),
            f"{name} weights": duration_ms(lambda: weights(SEARCH_PASSES)),
        }
        if pretraining:
            times[f"{name} pretraining"] = duration_ms(lambda: weights(PRETRAIN_PASSES))
        return times

    return turn


def memory_in_process(name: str, arguments: argparse.Namespace) -> float:
    """`peak_beyond_state_mib` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.supernet_step", "--memory-of", name]
    command += ["--crop", *map(str, arguments.crop), "--batch", str(arguments.batch)]
    command += ["--device", arguments.device, "--precision", arguments.precision, "--threads", str(arguments.threads)]
    output = subprocess.run([*command, *["--short"] * arguments.short], capture_output=True, text=True, check=True)
    return float(json.loads(output.stdout.splitlines()[-1]))


def latency_ms(work: Workload, side: ReferenceSide) -> dict[str, float]:
    """The median time of the three terms of the expected latency with their gradients on the CPU, both ways."""
    parameters = ArchitectureParameters(work.space, "student")
    expected = ExpectedLatency(make_problem(work.space), entry_ms=made_up_ms, pairs=BRANCH_PAIRS)
    ways: dict[str, tuple[int, Callable[[], torch.Tensor]]] = {
        "fast": (50, lambda: latency_regularizer(expected, parameters.probabilities(), "decoupled")),
        "reference": (3, lambda: side.latency.decoupled(parameters.probabilities())),
    }
    return {
        name: statistics.median(duration_ms(lambda: torch.autograd.backward(term())) for _ in range(repeats))  # noqa: B023
        for name, (repeats, term) in ways.items()
    }


def floor_rows(work: Workload, fast: Side, *, counts: Mapping[str, int], step_s: float) -> list[Row]:
    """The search step's time against the floor set by its convolutions, and where the rest goes."""
    dtype = torch.bfloat16 if work.fabric.device.type == "cuda" and "bf16" in _precision(work) else torch.float32
    best = best_convolution_flops_per_s(work.fabric.device, dtype, synchronize=waiting(work))
    flops = sum(counts[f"{part} flops"] for part in SEARCH_PARTS)
    rows = [
        row("best large convolution", "GFLOP/s", fast=best / 1e9),
        row("floor of the search step", "s", fast=flops / best),
        row("share of the floor reached", "", fast=flops / best / step_s),
    ]
    if work.fabric.device.type == "cpu":
        threads = torch.get_num_threads()
        inside_s, all_s = convolution_time_share(fast)
        torch.set_num_threads(1)
        best_alone = best_convolution_flops_per_s(work.fabric.device, dtype, synchronize=waiting(work))
        torch.set_num_threads(threads)
        rows += [
            row("one thread: part of the time outside convolutions", "", fast=1 - inside_s / all_s),
            row("one thread: convolutions' speed by the best one's", "", fast=flops / inside_s / best_alone),
        ]
    return rows


def _precision(work: Workload) -> str:
    return str(work.fabric.strategy.precision.precision)


def time_rows(times: Mapping[str, list[float]]) -> list[Row]:
    """The steps' times and ratios."""
    middle = medians(times)
    parts = {"search step": SEARCH_PARTS, "pretraining step": ("pretraining",)}
    parts |= {f"search step, {part}": (part,) for part in SEARCH_PARTS}
    targets = {"search step": ">= 2.2", "pretraining step": ">= 1.7"}
    rows = []
    for figure, names in parts.items():
        both = [[f"{side} {name}" for name in names] for side in ("reference", "fast")]
        seconds = [sum(middle[name] for name in names) / 1e3 for names in both]
        rows.append(
            row(figure, "s", reference=seconds[0], fast=seconds[1], ratio=median_ratio(times, *both),
                target=targets.get(figure))
        )  # fmt: skip
    for draws in ("one operator", "two operators"):
        own, plain = ([f"{side} {part}" for part in SEARCH_PARTS] for side in (draws, "reference"))
        rows.append(
            row(f"sampled search step, {draws}", "s", reference=rows[0]["reference"],  # type: ignore[arg-type]
                fast=sum(middle[name] for name in own) / 1e3, ratio=median_ratio(times, plain, own),
                target=">= 6" if draws == "one operator" else None)
        )  # fmt: skip
    return rows


def measure(work: Workload, arguments: argparse.Namespace) -> Iterator[Row]:
    """All rows as they are found, without conditions."""
    memory = {name: memory_in_process(name, arguments) for name in ("reference", "fast")}
    figure = "peak memory beyond weights, gradients and momentum"
    yield row(figure, "MiB", **memory, ratio=memory["fast"] / memory["reference"], target="<= 0.35")
    fast = FastSide(work)
    state = {name: value.detach().clone() for name, value in fast.supernet.state_dict().items()}
    reference = ReferenceSide(work, state)
    # for gradients in float32 see `benchmarks.supernet_agreement`
    for name, value in relative_differences(fast, reference).items():
        yield row(f"relative difference, {name}", "", ratio=value, target="<= 1e-4")
    sampled = {"one operator": FastSide(work, state, draws=1), "two operators": FastSide(work, state, draws=2)}
    del state
    turns = [side_turn("reference", reference, work), side_turn("fast", fast, work)]
    turns += [side_turn(name, side, work, pretraining=False) for name, side in sampled.items()]
    times = take_turns(turns, rounds=arguments.rounds, warm_up=0)  # the comparison was one
    yield from time_rows(times)
    step_s = sum(medians(times)[f"fast {part}"] for part in SEARCH_PARTS) / 1e3
    if work.fabric.device.type == "cuda":
        yield row("search steps in an hour", "", fast=3600 / step_s)
    yield row("three terms of the expected latency with gradients", "ms", **latency_ms(work, reference), target="< 5")
    counts = {"fast": count_convolutions(fast), "reference": count_convolutions(reference)}
    for name, unit, scale in (("calls", "", 1), ("flops", "TFLOP", 1e12)):
        for part in (*SEARCH_PARTS, "pretraining"):
            both = {side: counts[side][f"{part} {name}"] / scale for side in ("reference", "fast")}
            yield row(f"convolution {name}, {part}", unit, **both)
    yield from floor_rows(work, fast, counts=counts["fast"], step_s=step_s)


def describe(result: Row) -> str:
    """A row as a line of text."""
    figures = {name: result[name] for name in ("reference", "fast", "ratio", "target") if result[name] is not None}
    texts = [
        f"{name} {value:.4g}" if isinstance(value, float | int) else f"{name} {value}"
        for name, value in figures.items()
    ]
    return f"{result['figure']} [{result['unit']}]: {', '.join(texts)}"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = benchmark_parser(__doc__, size=("--crop", (128, 256)), batch=2, rounds=3, threads=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--short", action="store_true", help="a small space and small crops: seconds")
    parser.add_argument("--memory-of", choices=("reference", "fast"), help="measure one side's memory and print it")
    return parser.parse_args()


def main() -> None:
    """Reads the command line, measures and writes the CSV."""
    arguments = parse_arguments()
    work = build_work(arguments)
    if arguments.memory_of is not None:
        print(json.dumps(peak_beyond_state_mib(arguments.memory_of, work)))
        return
    started = time.perf_counter()
    space = work.space
    conditions: Row = {
        "space": f"{space.layers} layers, {space.base_channels} base channels",
        "crop": "x".join(map(str, work.config.crop_size_px)),
        "batch": arguments.batch,
        "device": arguments.device,
        "precision": arguments.precision,
        "rounds": arguments.rounds,
        **machine(),
    }
    if arguments.device == "cuda":
        conditions["gpu"] = torch.cuda.get_device_name()
    rows = []
    for one in measure(work, arguments):
        # the targets are the published space's
        rows.append(one | ({"target": None} if arguments.short else {}) | conditions)
        print(describe(rows[-1]), flush=True)
    print(f"measured in {time.perf_counter() - started:.0f} s")
    write_rows(arguments.csv, rows)


if __name__ == "__main__":
    main()
