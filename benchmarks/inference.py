"""Inference of the released student: ONNX Runtime and OpenVINO against PyTorch, all taking turns in one run.

Beside the milliseconds stands the arithmetic that they amount to (two operations for each multiply-accumulate of the
convolutions) and its share of the fastest large convolution that any of the runtimes reaches in the same run. Of the
two that read files it is also told what the network takes without its last resize, with that resize as a node instead
of matrix products (see `fasterseg.runtime.enlarging`), and as the file that `fasterseg export` writes.

    python -m benchmarks.inference --csv benchmarks/inference_student_512x1024_1thread.csv --threads 1

Result: see benchmarks/README.md.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.options import benchmark_parser, write_rows
from benchmarks.turns import machine
from fasterseg.networks import DeployedNetwork, count_macs
from fasterseg.networks.presets import load_preset
from fasterseg.networks.resizing import Size
from fasterseg.runtime.enlarging import enlarge_by_products
from fasterseg.runtime.export import onnx_bytes
from latency.config import LatencyConfig, TargetConfig
from latency.deployment import deployed_network
from latency.runners.base import Runner, Session
from latency.runners.selection import build_runner
from latency.timing import LatencyMeasurement, measure_sessions

NUM_CLASSES = 19
# channels, and the part of the image's height and width that the map has
CONVOLUTIONS = ((64, 4), (128, 8), (256, 8), (512, 16))
RUNNERS = (("pytorch", "eager"), ("pytorch", "channels_last"), ("onnxruntime", "auto"), ("openvino", "auto"))
NETWORK = "network"


class Subject(NamedTuple):
    """What is timed: a module or file on a runner, and the multiply-accumulates of its convolutions."""

    runner: Runner
    name: str
    macs: int
    session: Session


class _Body(nn.Module):
    """A network up to its logits at their own stride."""

    def __init__(self, deployed: DeployedNetwork) -> None:
        super().__init__()
        self.network = deployed.network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(image).main
        return logits


def subjects(size: Size, *, threads: int, preset: str, folder: Path) -> Iterator[Subject]:
    """Everything that takes turns.

    Args:
        size: (height, width) of the image.
        threads: CPU threads.
        preset: The network.
        folder: For the exported file.
    """
    shape = (1, 3, *size)
    network = deployed_network(load_preset(preset), NUM_CLASSES)
    macs = count_macs(network, size)
    exported = folder / "network.onnx"
    exported.write_bytes(onnx_bytes(enlarge_by_products(network, shape), shape))
    for name, mode in RUNNERS:
        target = TargetConfig.model_validate(
            {"runner": name, "mode": mode, "device": "cpu", "threads": threads, "input_size": size}
        )
        runner = build_runner(target).runner
        yield Subject(runner, NETWORK, macs, runner.prepare(network, shape))
        if name != "pytorch":
            yield Subject(runner, "exported file", macs, runner.from_onnx_path(exported))
            # behind another module it is no deployed network to the runner, which leaves it alone
            yield Subject(runner, "last resize as a node", macs, runner.prepare(nn.Sequential(network), shape))
            yield Subject(runner, "no last resize", macs, runner.prepare(_Body(network).eval(), shape))
        for channels, stride in CONVOLUTIONS:
            height, width = size[0] // stride, size[1] // stride
            convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False).eval()
            session = runner.prepare(convolution, (1, channels, height, width))
            yield Subject(runner, f"conv 3x3 {channels} {height}x{width}", 9 * channels**2 * height * width, session)


def as_rows(measured: list[tuple[Subject, LatencyMeasurement]], *, size: Size, preset: str) -> list[dict[str, object]]:
    """One row for each subject, with its arithmetic as a share of the best convolution's."""
    paces = {id(subject): 2 * subject.macs / measurement.median_ms / 1e6 for subject, measurement in measured}
    best = max(paces[id(subject)] for subject, _ in measured if subject.name.startswith("conv "))
    eager_ms = next(
        found.median_ms for subject, found in measured if subject.name == NETWORK and subject.runner.mode == "eager"
    )
    return [
        {
            "runner": f"{subject.runner.name}:{subject.runner.mode}",
            "subject": subject.name,
            "median_ms": found.median_ms,
            "p95_ms": found.p95_ms,
            "spread": found.spread,
            "stable": found.stable,
            "gmacs": subject.macs / 1e9,
            "gflops": paces[id(subject)],
            "share_of_best_convolution": paces[id(subject)] / best,
            "times_faster_than_eager": None if subject.name.startswith("conv ") else eager_ms / found.median_ms,
            "network": preset,
            "size": f"{size[0]}x{size[1]}",
            "precision": found.conditions.precision,
            "rounds": found.rounds,
            **machine(),
            "versions": ", ".join(f"{name} {version}" for name, version in found.conditions.versions.items()),
        }
        for subject, found in measured
    ]


def main() -> None:
    """Reads the command line, measures and writes the CSV."""
    parser = benchmark_parser(__doc__, size=("--size", (512, 1024)), rounds=15, threads=2)
    parser.add_argument("--preset", default="fasterseg-student", help="the network")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    size = (arguments.size[0], arguments.size[1])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        timed = list(subjects(size, threads=arguments.threads, preset=arguments.preset, folder=Path(folder)))
        for subject in timed:
            stack.enter_context(subject.session)
        measurements = measure_sessions(
            [subject.session for subject in timed],
            [subject.runner.conditions() for subject in timed],
            protocol=LatencyConfig(rounds=arguments.rounds, repeats=0),
        )
    rows = as_rows(list(zip(timed, measurements, strict=True)), size=size, preset=arguments.preset)
    for row in rows:
        print(
            f"{row['runner']:24} {row['subject']:24} {row['median_ms']:8.2f} ms  {row['gflops']:6.1f} GFLOP/s  "
            f"{row['share_of_best_convolution']:.0%} of the best convolution"
        )
    write_rows(arguments.csv, rows)


if __name__ == "__main__":
    main()
