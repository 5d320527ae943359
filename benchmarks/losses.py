"""The student's losses at full resolution against their plain form: time, values and gradients in one run.

OHEM cross entropy of three heads (output strides 8, 16, 32) and the KL to a teacher, 19 classes. The plain form is what
one writes first: logits resized to the labels, a softmax and a full sort for the hard pixels, a second log-softmax
within the cross entropy, and both softmaxes again for the KL.

    python -m benchmarks.losses --csv benchmarks/losses_512x1024_batch2_cpu2.csv

Result: see benchmarks/README.md.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from benchmarks.options import benchmark_parser, write_rows
from benchmarks.turns import duration_ms, machine, median_ratio, medians, take_turns
from fasterseg.engine.losses import OhemCrossEntropy, distillation_kl, segmentation_losses
from fasterseg.networks.network import SegmentationLogits

NUM_CLASSES, IGNORE_INDEX, AUXILIARY_WEIGHT = 19, 255, 0.2
THRESHOLD, MIN_KEPT_FRACTION = 0.7, 1 / 16
STRIDES = (8, 16, 32)


def plain_ohem(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the hard pixels by softmax, full sort and cross entropy; see `OhemCrossEntropy`."""
    size = (labels.shape[1], labels.shape[2])
    logits = functional.interpolate(logits, size, mode="bilinear", align_corners=True)
    valid = labels != IGNORE_INDEX
    probability = logits.softmax(1).gather(1, labels.where(valid, 0).unsqueeze(1)).squeeze(1)
    probability = probability.detach().masked_fill(~valid, 1)
    min_kept = int(labels.numel() * MIN_KEPT_FRACTION)
    limit = max(THRESHOLD, float(probability.flatten().sort().values[min_kept - 1]))
    kept = labels.where(valid & (probability <= limit), IGNORE_INDEX)
    return functional.cross_entropy(logits, kept, ignore_index=IGNORE_INDEX)


def plain_losses(logits: SegmentationLogits, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The student's loss, plainly."""
    loss = plain_ohem(logits.main, labels)
    for auxiliary in logits.auxiliary:
        loss = loss + AUXILIARY_WEIGHT * plain_ohem(auxiliary, labels)
    kl = functional.kl_div(logits.main.log_softmax(1), teacher.softmax(1), reduction="none").mean()
    return loss + kl


def fast_losses(logits: SegmentationLogits, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The student's loss as it is trained."""
    criterion = OhemCrossEntropy(threshold=THRESHOLD, min_kept_fraction=MIN_KEPT_FRACTION, ignore_index=IGNORE_INDEX)
    loss, _ = segmentation_losses(criterion, logits, labels, auxiliary_weight=AUXILIARY_WEIGHT)
    return loss + distillation_kl(logits.main, teacher)


def main() -> None:
    """Reads the command line, measures both forms and writes the CSV."""
    parser = benchmark_parser(__doc__, size=("--size", (512, 1024)), batch=2, rounds=9, threads=2)
    parser.add_argument("--sharpness", type=float, default=1.0, help="factor of the logits; large for few hard pixels")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    height, width = arguments.size
    shapes = [(arguments.batch, NUM_CLASSES, height // stride, width // stride) for stride in STRIDES]
    heads = [(arguments.sharpness * torch.randn(shape)).requires_grad_() for shape in shapes]
    logits = SegmentationLogits(heads[0], tuple(heads[1:]))
    teacher = arguments.sharpness * torch.randn(shapes[0])
    labels = torch.randint(NUM_CLASSES, (arguments.batch, height // 8, width // 8))
    labels = labels.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    labels[:, : height // 16] = IGNORE_INDEX
    found: dict[str, tuple[float, list[torch.Tensor]]] = {}

    def turn(
        name: str, form: Callable[[SegmentationLogits, torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> Callable[[], dict[str, float]]:
        def evaluate() -> None:
            loss = form(logits, teacher, labels)
            found[name] = (loss.item(), list(torch.autograd.grad(loss, heads)))

        return lambda: {name: duration_ms(evaluate)}

    times = take_turns([turn("plain", plain_losses), turn("fast", fast_losses)], rounds=arguments.rounds)
    plain, fast = found["plain"], found["fast"]
    differences = [
        float((ours - theirs).norm() / theirs.norm()) for ours, theirs in zip(fast[1], plain[1], strict=True)
    ]
    row: dict[str, object] = {
        **{f"{name}_ms": value for name, value in medians(times).items()},
        "fast / plain": median_ratio(times, ["fast"], ["plain"]),
        "plain_loss": plain[0],
        "fast_loss": fast[0],
        "gradient_difference": max(differences),
        "size": f"{height}x{width}",
        "batch": arguments.batch,
        "classes": NUM_CLASSES,
        "sharpness": arguments.sharpness,
        "rounds": arguments.rounds,
        **machine(),
    }
    print(*(f"{name}: {value:.7g}" if isinstance(value, float) else f"{name}: {value}" for name, value in row.items()))
    write_rows(arguments.csv, [row])


if __name__ == "__main__":
    main()
