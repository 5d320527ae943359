"""Settings of the training stages: the `teacher`, `student` and `baselines` sections of an experiment file."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dataset_tools.config import CropConfig
from fasterseg.base.experiment import Experiment, Section
from fasterseg.engine.config import Count, OhemConfig, Positive, TrainingConfig
from fasterseg.networks.channels import StemKind

BaselineName = Literal["pspnet50", "icnet"]
BASELINES: tuple[BaselineName, ...] = ("pspnet50", "icnet")
StageName = Literal["teacher", "student", "pspnet50", "icnet"]
# a smaller crop leaves a map of one pixel at the coarsest stride, which batch norm cannot normalise
SMALLEST_BASELINE_CROP_PX = 64


class TrainConfig(CropConfig, TrainingConfig):
    """Settings of all training stages of networks; the defaults are FasterSeg's schedule for Cityscapes.

    Attributes:
        split: `train`, or `train_val` to train on the validation images too; the last epoch then counts as the best.
        optimizer: `sgd` as published, or `adamw`, which needs fewer steps and about a tenth of the learning rate.
        schedule: `exponential` (times `lr_decay` per epoch) or `poly` (to 0 over the whole training, every step).
        poly_power: Exponent of the poly schedule.
        warm_up_steps: Steps over which the learning rate rises linearly to `lr`.
        auxiliary_weight: Weight of each auxiliary head's loss.
        shrink_labels: Whether labels are resized to each head's logits (nearest label) instead of the logits to the
            labels.
        accumulation: Number of parts of a batch, computed one after another to save memory (gradient accumulation). It
            must divide `batch_size`. Batch norm sees one part at a time.
        memory_saving: Whether the backward pass recomputes activations instead of keeping them (gradient
            checkpointing); ICNet and PSPNet50 only.
        batch_norm: Images whose statistics batch norm uses: `local` for those of each process, `synchronized` for those
            of all processes (CUDA only), `auto` for synchronized on CUDA and local elsewhere. `frozen` keeps the
            running statistics of the initial weights. If processes differ, checkpoints hold the first one's running
            statistics.
        validate_every: Epochs between validations; the last epoch is always validated.
        predict_test_every: Epochs between predictions of the test split, written to `test_predictions/`; 0 for never.
        example_count: Validation images shown with their predictions in TensorBoard.
    """

    epochs: Count = 600
    iterations_per_epoch: Count = 1000
    batch_size: Count = 12
    crop_size_px: tuple[int, int] = (512, 1024)
    split: Literal["train", "train_val"] = "train"
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.01
    schedule: Literal["exponential", "poly"] = "exponential"
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.992
    poly_power: Positive = 0.9
    warm_up_steps: Annotated[int, Field(ge=0)] = 0
    auxiliary_weight: Annotated[float, Field(ge=0)] = 0.2
    shrink_labels: bool = False
    accumulation: Count = 1
    memory_saving: bool = False
    batch_norm: Literal["auto", "local", "synchronized", "frozen"] = "auto"
    validate_every: Count = 1
    predict_test_every: Annotated[int, Field(ge=0)] = 0
    example_count: Annotated[int, Field(ge=0)] = 4

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"accumulation is {self.accumulation}, which does not divide batch_size {self.batch_size}; the batch "
                "is computed in that many equal parts"
            )
        return self


class TeacherConfig(TrainConfig):
    """The `teacher` section."""


class StudentConfig(TrainConfig):
    """The `student` section.

    Attributes:
        distillation_weight: Weight of KL(teacher ‖ student); 0 trains without a teacher.
        teacher: The stage that trains the teacher: the searched one, or a baseline.
        cache_teacher_logits: Whether to cache the teacher's logits in the run folder, in half precision. Crops must
            repeat: one scale, and images of the crop's size.
    """

    distillation_weight: Annotated[float, Field(ge=0)] = 1.0
    teacher: Literal["teacher", "pspnet50", "icnet"] = "teacher"
    cache_teacher_logits: bool = False


class BaselineConfig(TrainConfig):
    """Settings that the baselines' recipes have in common.

    Attributes:
        stem: `deep` (three 3×3 convolutions) or `plain` (one of 7×7, which takes torchvision's weights one to one).
        width_factor: Multiplier of all channel counts.
        imagenet_weights: State dict of a ResNet50 trained on ImageNet, for the backbone; null to start from scratch.
        start_from: A network checkpoint to start from instead: of the same baseline, of a pruned one, or, for ICNet, of
            a PSPNet50, whose backbone it takes.
        new_layer_lr_factor: Multiplier of the learning rate of all layers outside the backbone.
    """

    stem: StemKind = "deep"
    width_factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    imagenet_weights: Path | None = None
    start_from: Path | None = None
    new_layer_lr_factor: Positive = 10.0
    lr: Positive = 0.01
    schedule: Literal["exponential", "poly"] = "poly"
    scales: tuple[Positive, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    auxiliary_weight: Annotated[float, Field(ge=0)] = 0.4
    # every labelled pixel counts: plain cross entropy
    ohem: OhemConfig = OhemConfig(threshold=1.0, min_kept_fraction=0.0)
    shrink_labels: bool = True

    @model_validator(mode="after")
    def _large_enough(self) -> Self:
        if min(self.crop_size_px) < SMALLEST_BASELINE_CROP_PX:
            height, width = self.crop_size_px
            raise ValueError(
                f"crop_size_px {height}x{width} is below the smallest that the baselines train at; use "
                f"{SMALLEST_BASELINE_CROP_PX} or more for both sides"
            )
        return self

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.imagenet_weights is not None and self.start_from is not None:
            raise ValueError(
                f"imagenet_weights {self.imagenet_weights} and start_from {self.start_from} are both set; keep one"
            )
        return self


class PSPNetConfig(BaselineConfig):
    """The `baselines.pspnet50` section; the defaults are the published recipe: 120K steps of 16 images of 768²."""

    epochs: Count = 120
    batch_size: Count = 16
    crop_size_px: tuple[int, int] = (768, 768)

    @model_validator(mode="after")
    def _pyramid_can_be_normalised(self) -> Self:
        per_part = self.batch_size // self.accumulation
        synchronized = self.batch_norm == "synchronized" or (
            self.batch_norm == "auto" and self.device.accelerator != "cpu"
        )
        alone = self.batch_norm != "frozen" and not (synchronized and self.device.devices > 1)
        if per_part < 2 and alone:
            raise ValueError(
                f"batch_size {self.batch_size} in {self.accumulation} part(s) leaves one image at a time, whose "
                "average over the whole map batch norm cannot normalise; use parts of at least 2 images, or "
                "batch_norm frozen"
            )
        return self


class ICNetConfig(BaselineConfig):
    """The `baselines.icnet` section; the defaults are the PyTorch recipe: 85K steps of 7 images of 960²."""

    epochs: Count = 200
    iterations_per_epoch: Count = 425
    batch_size: Count = 7
    crop_size_px: tuple[int, int] = (960, 960)


class BaselinesConfig(Section):
    """The `baselines` section.

    Attributes:
        pspnet50: How PSPNet50 is trained.
        icnet: How ICNet is trained.
    """

    pspnet50: PSPNetConfig = PSPNetConfig()
    icnet: ICNetConfig = ICNetConfig()


NETWORK_SECTIONS: dict[str, type[Section]] = {
    "teacher": TeacherConfig,
    "student": StudentConfig,
    "baselines": BaselinesConfig,
}


def baseline_config(experiment: Experiment, name: BaselineName) -> BaselineConfig:
    """A baseline's part of the `baselines` section."""
    baselines = experiment.section("baselines", BaselinesConfig)
    return baselines.pspnet50 if name == "pspnet50" else baselines.icnet


def stage_config(experiment: Experiment, stage: StageName) -> TrainConfig:
    """The settings of a training stage, from whichever section holds them."""
    if stage == "pspnet50" or stage == "icnet":
        return baseline_config(experiment, stage)
    return experiment.section(stage, TrainConfig)


def stage_folder(experiment: Experiment, stage: StageName) -> Path:
    """The default run folder of a training stage."""
    return experiment.stage_folder(f"baselines/{stage}" if stage in BASELINES else stage)
