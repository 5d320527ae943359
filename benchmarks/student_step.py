"""A student's training step against the sum of its parts, each measured by itself in the same interleaved run.

The step is `train.trainer.NetworkStage.step` as the loop calls it, with the released student and the released teacher:
its parts are the student's forward, the losses (OHEM of three heads, KL to the teacher; with their gradients in the
logits), the student's backward and the teacher's forward; the optimizer is measured, too. Loading images is no part.

    python -m benchmarks.student_step --csv benchmarks/student_step_256x512_batch2_cpu2.csv

Result: see benchmarks/README.md.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.options import benchmark_parser, write_rows
from benchmarks.turns import Turn, duration_ms, machine, median_ratio, medians, take_turns
from dataset_tools.config import DatasetConfig, SynthesizeConfig
from dataset_tools.dataset import LabeledImage
from dataset_tools.description import load_description
from dataset_tools.experiment_data import ExperimentData
from dataset_tools.synthesis.writer import synthesize
from fasterseg.base.devices import DeviceConfig
from fasterseg.engine.checkpoint import DatasetFacts, NetworkCheckpoint
from fasterseg.engine.devices import build_fabric, seed_everything
from fasterseg.engine.loop import Position
from fasterseg.engine.losses import distillation_kl, segmentation_losses
from fasterseg.engine.run_folder import open_run_folder
from fasterseg.networks import build_network
from fasterseg.networks.network import SegmentationLogits
from fasterseg.networks.presets import load_preset
from train.config import StudentConfig
from train.data import build_stage_data
from train.distillation import Distillation
from train.trainer import NetworkStage

NUM_CLASSES = 19
PARTS = ("forward", "losses", "backward", "teacher")
_FIRST = Position(epoch=0, step=0, epochs=1, steps_per_epoch=1)


def build_stage(folder: Path, *, crop_size_px: tuple[int, int], batch_size: int) -> NetworkStage:
    """A student stage as `train.stages` builds it, of the released networks with fresh weights.

    Args:
        folder: For a dataset of a few synthetic images, which is not trained on, and the run folder.
        crop_size_px: (height, width).
        batch_size: Images per step.
    """
    config = StudentConfig(
        crop_size_px=crop_size_px, batch_size=batch_size, device=DeviceConfig(accelerator="cpu"), iterations_per_epoch=1
    )
    synthesize(folder / "data", SynthesizeConfig(train_images=1, val_images=1), workers=1)
    fabric = build_fabric(config.device)
    data_config = DatasetConfig(root=folder / "data", num_workers=0)
    data = ExperimentData(data_config, load_description(folder / "data"))
    stage_data = build_stage_data(data, config=config, fabric=fabric, seed=0)
    names = tuple(f"class {index}" for index in range(NUM_CLASSES))
    facts = DatasetFacts(names, ((0, 0, 0),) * NUM_CLASSES, 255, stage_data.facts.mean, stage_data.facts.std)
    student, teacher = (load_preset(f"fasterseg-{role}") for role in ("student", "teacher"))
    stage = NetworkStage(
        build_network(student, NUM_CLASSES),
        config=config,
        data=replace(stage_data, facts=facts),
        template=NetworkCheckpoint(student, facts, crop_size_px, weights={}),
        fabric=fabric,
        run_folder=open_run_folder(folder / "run", stage="student", settings={}, fabric=fabric),
        distillation=Distillation(build_network(teacher, NUM_CLASSES), config.distillation_weight),
    )
    stage.start_epoch(_FIRST)
    return stage


def random_batch(crop_size_px: tuple[int, int], batch_size: int) -> LabeledImage:
    """Noise with labels in blocks, some of them ignored."""
    height, width = crop_size_px
    label = torch.randint(NUM_CLASSES, (batch_size, height // 8, width // 8))
    label = label.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    label[:, : height // 16] = 255
    return LabeledImage(torch.randn(batch_size, 3, height, width), label, [""] * batch_size)


def turns(stage: NetworkStage, batch: LabeledImage) -> list[Turn]:
    """The step as a whole, and its parts."""
    assert stage.distillation is not None
    network, teacher, config = stage.network, stage.distillation.teacher, stage.config
    weight = stage.distillation.weight
    image = batch.image.contiguous(memory_format=torch.channels_last)
    optimizer = stage.optimizer

    def step() -> dict[str, float]:
        return {"step": duration_ms(lambda: stage.step(batch, _FIRST))}

    def parts() -> dict[str, float]:
        optimizer.zero_grad(set_to_none=True)
        seen: dict[str, SegmentationLogits] = {}
        forward_ms = duration_ms(lambda: seen.update(student=network(image)))
        with torch.no_grad():
            teacher_ms = duration_ms(lambda: seen.update(teacher=teacher(image)))
        heads = (seen["student"].main, *seen["student"].auxiliary)
        leaves = [head.detach().requires_grad_() for head in heads]

        def losses() -> None:
            logits = SegmentationLogits(leaves[0], tuple(leaves[1:]))
            loss, _ = segmentation_losses(
                stage.criterion, logits, batch.label, auxiliary_weight=config.auxiliary_weight
            )
            loss = loss + weight * distillation_kl(leaves[0], seen["teacher"].main)
            loss.backward()  # type: ignore[no-untyped-call]

        losses_ms = duration_ms(losses)
        backward_ms = duration_ms(lambda: torch.autograd.backward(heads, [leaf.grad for leaf in leaves]))
        times = {"forward": forward_ms, "losses": losses_ms, "backward": backward_ms, "teacher": teacher_ms}
        return {**times, "optimizer": duration_ms(optimizer.step)}

    return [step, parts]


def as_rows(times: Mapping[str, list[float]], conditions: Mapping[str, object]) -> list[dict[str, object]]:
    """A row for the step, for each part, and for both ratios."""
    rows: list[dict[str, object]] = [
        {"figure": name, "value": value, "unit": "ms", **conditions} for name, value in medians(times).items()
    ]
    ratios = {
        "step / parts": median_ratio(times, ["step"], PARTS),
        "step / (parts + optimizer)": median_ratio(times, ["step"], [*PARTS, "optimizer"]),
    }
    return rows + [{"figure": name, "value": value, "unit": "", **conditions} for name, value in ratios.items()]


def main() -> None:
    """Reads the command line, measures and writes the CSV."""
    parser = benchmark_parser(__doc__, size=("--crop", (256, 512)), batch=2, rounds=15, threads=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    seed_everything(0)
    crop = (arguments.crop[0], arguments.crop[1])
    with tempfile.TemporaryDirectory() as folder:
        stage = build_stage(Path(folder), crop_size_px=crop, batch_size=arguments.batch)
        batch = random_batch(crop, arguments.batch)
        times = take_turns(turns(stage, batch), rounds=arguments.rounds, warm_up=2)
        stage.run_folder.close()
    conditions = {
        "student": "fasterseg-student",
        "teacher": "fasterseg-teacher",
        "crop": "x".join(map(str, crop)),
        "batch": arguments.batch,
        "classes": NUM_CLASSES,
        "rounds": arguments.rounds,
        **machine(),
    }
    rows = as_rows(times, conditions)
    for row in rows:
        print(f"{row['figure']}: {row['value']:.4g} {row['unit']}")
    write_rows(arguments.csv, rows)


if __name__ == "__main__":
    main()
