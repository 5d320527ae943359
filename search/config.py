"""Settings of the supernet's stages: the `pretrain` and `search` sections of an experiment file.

The defaults are the published schedule for Cityscapes.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dataset_tools.config import check_crop_size
from fasterseg.base.devices import DeviceConfig
from fasterseg.base.experiment import Section
from fasterseg.networks.space import BRANCH_PAIRS, Branches

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
BranchChoice = Literal["mean", "32-16", "32-8"]


class SupernetTrainConfig(Section):
    """What pretraining and search have in common.

    Attributes:
        epochs: Epochs of the stage.
        iterations_per_epoch: Steps of an epoch; null for one pass over the images.
        batch_size: Images per step and process.
        crop_size_px: (height, width) of the crops, both divisible by 32.
        image_scale: Factor of all images, in training and validation, before anything else.
        scales: Random factors on top of it, in training.
        lr: Learning rate of the weights at the start.
        lr_decay: What each epoch multiplies it by.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD.
        grad_clip: Largest norm of the weights' gradient; null for any.
        ohem_threshold: Probability of its label up to which a pixel is hard.
        ohem_min_kept_fraction: Part of the pixels that is kept at least.
        label_stride: Stride at which labels and logits meet in the loss; 8 is the heads' own.
        log_every: Steps whose mean loss is one record of `metrics.jsonl`.
        save_every_minutes: Minutes between states within an epoch; one is saved after each epoch too.
        device: What the stage runs on.
    """

    epochs: Count
    iterations_per_epoch: Count | None = None
    batch_size: Count
    crop_size_px: tuple[int, int]
    image_scale: Positive = 0.5
    scales: tuple[Positive, ...] = (0.75, 1.0, 1.25)
    lr: Positive
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.978
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    grad_clip: Positive | None = 5.0
    ohem_threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    ohem_min_kept_fraction: Fraction = 1 / 16
    label_stride: Count = 8
    log_every: Count = 20
    save_every_minutes: Positive = 10.0
    device: DeviceConfig = DeviceConfig()

    @model_validator(mode="after")
    def _crop_fits_the_strides(self) -> Self:
        check_crop_size(self.crop_size_px)
        return self


class PretrainConfig(SupernetTrainConfig):
    """The `pretrain` section: the supernet's weights, with the architecture parameters left at their start."""

    epochs: Count = 20
    batch_size: Count = 3
    crop_size_px: tuple[int, int] = (256, 512)
    lr: Positive = 2e-2


class ArchitectureConfig(Section):
    """How the architecture parameters learn.

    Attributes:
        lr: Learning rate of Adam. The default is for thousands of steps; a search of a hundred needs about 0.03.
        betas: Decay of Adam's means.
        passes: What its step descends on: `all` four passes, as published, or `sampled`, the two that follow the
            architectures themselves, which takes about half the time.
    """

    lr: Positive = 3e-4
    betas: tuple[Fraction, Fraction] = (0.5, 0.999)
    passes: Literal["all", "sampled"] = "all"


class LatencyObjectiveConfig(Section):
    """The student's latency term and the control that keeps it at the budget; see `search.budget`.

    Attributes:
        objective: `minimize` latency, as published, or steer it to the `target`, which uses the whole budget.
        weight: Weight at the start. The default equals the published 1e-2 per millisecond at a target of 8.3 ms.
        regularizer: `exact` expectation, or the published `decoupled` form.
        branches: Whose latency counts, and which pairs the student is chosen from; `mean` is both.
        control_factor: What the weight is multiplied (divided) by after an epoch whose derived student is too slow
            (too fast), and the most that the target moves by; 1 leaves both alone.
        fast_enough: Part of the budget below which a student is too fast; the default is the published window of
            155 to 175 frames per second.
    """

    objective: Literal["minimize", "target"] = "minimize"
    weight: Annotated[float, Field(ge=0)] = 0.083
    regularizer: Literal["exact", "decoupled"] = "exact"
    branches: BranchChoice = "mean"
    control_factor: Annotated[float, Field(ge=1)] = 2.0
    fast_enough: Fraction = 155 / 175

    @model_validator(mode="after")
    def _target_is_a_latency(self) -> Self:
        if self.objective == "target" and self.regularizer != "exact":
            raise ValueError(
                f"objective target steers a latency, which regularizer {self.regularizer} is not; use regularizer "
                "exact, or objective minimize"
            )
        return self

    @property
    def pairs(self) -> tuple[Branches, ...]:
        """The pairs of branch ends that `branches` names."""
        if self.branches == "mean":
            return BRANCH_PAIRS
        return tuple(pair for pair in BRANCH_PAIRS if "-".join(map(str, pair)) == self.branches)


class SearchConfig(SupernetTrainConfig):
    """The `search` section.

    Attributes:
        architecture: How the architecture parameters learn.
        latency: The latency term of the student.
        relaxation: `mixture` runs all operators of every cell, as published; `sampled` draws `sampled_operators` of
            them in each pass, which takes a fraction of the time; see `search.relaxation.DrawnMixture` for its bias.
        sampled_operators: How many operators `sampled` draws for each cell output.
        latency_exponent: Exponent of latency / budget in a student's score; the published -0.07.
        validate_every: Epochs between validations of the supernet; the last epoch is always validated.
        validation_images: How many validation images score the supernet, evenly spread; null for all.
    """

    epochs: Count = 30
    batch_size: Count = 2
    crop_size_px: tuple[int, int] = (224, 448)
    lr: Positive = 1e-2
    architecture: ArchitectureConfig = ArchitectureConfig()
    latency: LatencyObjectiveConfig = LatencyObjectiveConfig()
    relaxation: Literal["mixture", "sampled"] = "mixture"
    sampled_operators: Literal[1, 2] = 1
    latency_exponent: Annotated[float, Field(le=0)] = -0.07
    validate_every: Count = 1
    validation_images: Count | None = None

    @property
    def draws(self) -> int:
        """Operators drawn for each mixture; 0 for all of them."""
        return self.sampled_operators if self.relaxation == "sampled" else 0
