"""Settings of the supernet's stages: the `pretrain` and `search` sections of an experiment file.

The defaults are the published schedule for Cityscapes.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dataset_tools.config import CropConfig
from fasterseg.base.experiment import Section
from fasterseg.engine.config import Count, Fraction, Positive, TrainingConfig
from fasterseg.networks.space import BRANCH_PAIRS, Branches

BranchChoice = Literal["mean", "32-16", "32-8"]


class SupernetTrainConfig(CropConfig, TrainingConfig):
    """What pretraining and search have in common; labels meet logits at the heads' own stride."""

    image_scale: Positive = 0.5
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.978
    grad_clip: Positive | None = 5.0
    label_stride: Count = 8


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
