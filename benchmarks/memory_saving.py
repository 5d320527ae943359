"""Peak memory and time of a PSPNet50 training step with and without `memory_saving`, each in a process of its own.

Also checks on the way that both give the same loss and the same gradients up to rounding.

    python -m benchmarks.memory_saving --csv benchmarks/memory_saving_pspnet50_768x768_batch2_linux_x86_64.csv

A CPU with 16 GiB of memory, a few minutes; one thread. Result: see the CSV beside this file.
"""

import json
import platform
import subprocess
import sys
import time

import torch
from torch import nn

from benchmarks.options import benchmark_parser, write_rows
from fasterseg.base.machine import processor_name
from fasterseg.engine.devices import use_channels_last
from fasterseg.engine.losses import segmentation_losses
from fasterseg.engine.memory import peak_memory_bytes
from fasterseg.networks.baseline import enable_memory_saving
from fasterseg.networks.pspnet import PSPNetArchitecture

_NUM_CLASSES, _AUXILIARY_WEIGHT = 19, 0.4


def measure_step(*, crop_px: int, batch_size: int, saving: bool) -> dict[str, float]:
    """One training step without its optimizer, in this process.

    Args:
        crop_px: Height and width of the images.
        batch_size: Images.
        saving: Whether memory saving is on.

    Returns:
        Loss, the gradients' norm, time in seconds and peak memory of the process in GiB.
    """
    torch.manual_seed(0)
    network = PSPNetArchitecture().build(_NUM_CLASSES).train()
    use_channels_last(network)
    if saving:
        enable_memory_saving(network)
    image = torch.randn(batch_size, 3, crop_px, crop_px).contiguous(memory_format=torch.channels_last)
    label = torch.randint(_NUM_CLASSES, (batch_size, crop_px, crop_px))
    started_s = time.perf_counter()
    loss, _ = segmentation_losses(
        nn.CrossEntropyLoss(), network(image), label, auxiliary_weight=_AUXILIARY_WEIGHT, shrink_labels=True
    )
    loss.backward()  # type: ignore[no-untyped-call]
    duration_s = time.perf_counter() - started_s
    squares = [
        parameter.grad.double().square().sum() for parameter in network.parameters() if parameter.grad is not None
    ]
    peak = peak_memory_bytes(torch.device("cpu"))
    assert peak is not None, "this system does not tell a process's peak memory"
    return {
        "loss": loss.item(),
        "gradient_norm": torch.stack(squares).sum().sqrt().item(),
        "step_s": duration_s,
        "peak_gib": peak / 2**30,
    }


def main() -> None:
    """Reads the command line, measures both ways and writes the CSV."""
    parser = benchmark_parser(__doc__, batch=2)
    parser.add_argument("--crop", type=int, default=768, help="height and width of the images in pixels")
    parser.add_argument("--only", choices=("plain", "saving"), help="measure one way and print JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.only is not None:
        figures = measure_step(crop_px=arguments.crop, batch_size=arguments.batch, saving=arguments.only == "saving")
        print(json.dumps(figures))
        return
    rows: list[dict[str, object]] = []
    for way in ("plain", "saving"):
        command = [sys.executable, "-m", "benchmarks.memory_saving", "--only", way]
        command += ["--crop", str(arguments.crop), "--batch", str(arguments.batch)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        conditions = {"network": "pspnet50", "crop_px": arguments.crop, "batch_size": arguments.batch, "threads": 1}
        machine = {"cpu": processor_name(), "torch": str(torch.__version__), "system": platform.system()}
        rows.append({"memory_saving": way, **json.loads(output), **conditions, **machine})
        print(rows[-1])
    write_rows(arguments.csv, rows)


if __name__ == "__main__":
    main()
