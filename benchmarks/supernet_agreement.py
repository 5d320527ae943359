"""Whether the search's own step gives what the plain formulation gives, on the published space.

In float32 gradients of a network this deep are not comparable to many digits: a rounding in the last place decides
here and there whether a ReLU lets a value through. So the sides are compared in float64; and in float32, where the
plain step is also compared with itself on an image whose values are the next representable ones, which is how much
such a decision is worth.

    python -m benchmarks.supernet_agreement --crop 64 128 --parts weights --csv FILE

Any CPU with 14 GiB of memory, some minutes. Result: see benchmarks/README.md.
"""

import torch

from benchmarks.options import benchmark_parser, write_rows
from benchmarks.supernet_figures import relative_differences
from benchmarks.supernet_sides import FastSide, ReferenceSide, Workload, make_batch
from benchmarks.turns import machine
from fasterseg.base.devices import DeviceConfig
from fasterseg.engine.devices import build_fabric, seed_everything
from fasterseg.networks.space import SpaceConfig
from search.config import SearchConfig

Row = dict[str, object]


def with_image(work: Workload, image: torch.Tensor) -> Workload:
    """The same work on another image."""
    return work._replace(batch=work.batch._replace(image=image))


def compare(work: Workload, parts: tuple[str, ...]) -> list[Row]:
    """The differences between the sides, and those that rounding makes."""
    fast = FastSide(work)
    reference = ReferenceSide(work, fast.supernet.state_dict())
    found = {"fast and plain": relative_differences(fast, reference, parts=parts)}
    if work.batch.image.dtype == torch.float32:
        del fast
        reference = ReferenceSide(work, reference.supernet.state_dict())
        image = torch.nextafter(work.batch.image, torch.tensor(torch.inf))
        other = ReferenceSide(with_image(work, image), reference.supernet.state_dict())
        found["plain and plain on the next image"] = relative_differences(other, reference, parts=parts)
    dtype = str(work.batch.image.dtype).removeprefix("torch.")
    return [
        {"sides": sides, "precision": dtype, "figure": figure, "relative_difference": value}
        for sides, figures in found.items()
        for figure, value in figures.items()
    ]


def main() -> None:
    """Reads the command line, compares and writes the CSV."""
    parser = benchmark_parser(__doc__, size=("--crop", (128, 256)), batch=2)
    parser.add_argument("--parts", nargs="+", default=("architecture", "weights"), help="parts of a step")
    arguments = parser.parse_args()
    fabric = build_fabric(DeviceConfig(accelerator="cpu"))
    crop = (arguments.crop[0], arguments.crop[1])
    config = SearchConfig(crop_size_px=crop, batch_size=arguments.batch)
    rows = []
    for dtype in (torch.float32, torch.float64):
        seed_everything(0)
        work = Workload(SpaceConfig(), config, make_batch(crop, arguments.batch), fabric)
        torch.set_default_dtype(dtype)
        for one in compare(with_image(work, work.batch.image.to(dtype)), tuple(arguments.parts)):
            rows.append(one | {"crop": "x".join(map(str, crop)), "batch": arguments.batch, **machine()})
            print(f"{one['precision']}, {one['sides']}, {one['figure']}: {one['relative_difference']:.3g}", flush=True)
    write_rows(arguments.csv, rows)


if __name__ == "__main__":
    main()
