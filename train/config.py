"""Settings of the training stages: the `teacher` and `student` sections of an experiment file."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dataset_tools.transforms import check_crop_size
from fasterseg.engine.config import Section
from fasterseg.engine.devices import DeviceConfig

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class OhemConfig(Section):
    """Which pixels the cross entropy counts; see `fasterseg.engine.losses.OhemCrossEntropy`.

    Attributes:
        threshold: Probability of its label up to which a pixel is hard.
        min_kept_fraction: Part of the pixels that is kept at least.
    """

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    min_kept_fraction: Annotated[float, Field(ge=0, le=1)] = 1 / 16


class TrainConfig(Section):
    """What teacher and student have in common; the defaults are the published schedule for Cityscapes.

    Attributes:
        epochs: Epochs of training.
        iterations_per_epoch: Steps of an epoch.
        batch_size: Images per step and device.
        crop_size_px: (height, width) of the training crops; both divisible by 32.
        image_scale: Factor of all images, in training and validation, before anything else.
        scales: Random factors on top of it, in training.
        split: `train`, or `train_val` to train on the validation images too; the last epoch then counts as the best.
        optimizer: `sgd` as published, or `adamw`, which needs fewer steps and about a tenth of the rate.
        lr: Learning rate at the start.
        schedule: `exponential` (times `lr_decay` per epoch) or `poly` (to 0 over the whole training, every step).
        lr_decay: Factor per epoch of the exponential schedule.
        poly_power: Exponent of the poly schedule.
        warm_up_steps: Steps over which the rate rises linearly to its start.
        momentum: Momentum of SGD.
        weight_decay: Weight decay; AdamW's is decoupled from the gradient.
        grad_clip: Largest norm of the gradient; null for any.
        auxiliary_weight: Weight of each auxiliary head's loss.
        ohem: Hard example mining.
        label_stride: Stride at which labels and logits meet in the loss; 1 is full resolution, larger is cheaper.
        validate_every: Epochs between validations; the last epoch is always validated.
        predict_test_every: Epochs between predictions of the test split, written to `test_predictions/`; 0 for never.
        log_every: Steps whose mean loss is one record of `metrics.jsonl`.
        example_count: Validation images shown with their predictions in TensorBoard.
        device: What the stage runs on.
    """

    epochs: Count = 600
    iterations_per_epoch: Count = 1000
    batch_size: Count = 12
    crop_size_px: tuple[int, int] = (512, 1024)
    image_scale: Positive = 1.0
    scales: tuple[Positive, ...] = (0.75, 1.0, 1.25)
    split: Literal["train", "train_val"] = "train"
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.01
    schedule: Literal["exponential", "poly"] = "exponential"
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.992
    poly_power: Positive = 0.9
    warm_up_steps: Annotated[int, Field(ge=0)] = 0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    grad_clip: Positive | None = None
    auxiliary_weight: Annotated[float, Field(ge=0)] = 0.2
    ohem: OhemConfig = OhemConfig()
    label_stride: Count = 1
    validate_every: Count = 1
    predict_test_every: Annotated[int, Field(ge=0)] = 0
    log_every: Count = 20
    example_count: Annotated[int, Field(ge=0)] = 4
    device: DeviceConfig = DeviceConfig()

    @model_validator(mode="after")
    def _crop_fits_the_strides(self) -> Self:
        check_crop_size(self.crop_size_px)
        return self


class TeacherConfig(TrainConfig):
    """The `teacher` section."""


class StudentConfig(TrainConfig):
    """The `student` section.

    Attributes:
        distillation_weight: Weight of KL(teacher ‖ student); 0 trains without a teacher.
    """

    distillation_weight: Annotated[float, Field(ge=0)] = 1.0
