"""Settings that all training stages share, those of the supernet and those of a network alike; needs no PyTorch."""

from typing import Annotated

from pydantic import Field

from fasterseg.base.devices import DeviceConfig
from fasterseg.base.experiment import Section

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class OhemConfig(Section):
    """Which pixels the cross entropy counts; see `fasterseg.engine.losses.OhemCrossEntropy`.

    Attributes:
        threshold: Probability of its label up to which a pixel is hard.
        min_kept_fraction: Part of the pixels that is kept at least.
    """

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    min_kept_fraction: Fraction = 1 / 16


class TrainingConfig(Section):
    """What all training stages have in common besides their images.

    Attributes:
        epochs: Epochs of the stage.
        lr: Learning rate of the weights at the start.
        lr_decay: Factor per epoch of an exponential schedule.
        momentum: Momentum of SGD.
        weight_decay: Weight decay; AdamW's is decoupled from the gradient.
        grad_clip: Largest norm of the weights' gradient; null for any.
        ohem: Hard example mining.
        label_stride: Stride at which labels and logits meet in the loss; 1 is full resolution, larger is cheaper.
        log_every: Steps whose mean loss is one record of `metrics.jsonl`.
        save_every_minutes: Minutes between states within an epoch; one is saved after each epoch too.
        device: What the stage runs on.
    """

    epochs: Count
    lr: Positive
    lr_decay: Annotated[float, Field(gt=0, le=1)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    grad_clip: Positive | None = None
    ohem: OhemConfig = OhemConfig()
    label_stride: Count = 1
    log_every: Count = 20
    save_every_minutes: Positive = 10.0
    device: DeviceConfig = DeviceConfig()
