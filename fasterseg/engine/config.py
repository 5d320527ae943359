"""Settings that the training stages of the supernet and of networks share; needs no PyTorch."""

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
        threshold: A pixel is hard if the probability of its label is at most this.
        min_kept_fraction: Smallest fraction of the pixels that is kept.
    """

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    min_kept_fraction: Fraction = 1 / 16


class TrainingConfig(Section):
    """Settings that all training stages have, besides those of their images.

    Attributes:
        epochs: Epochs of the stage.
        lr: Learning rate of the weights at the start.
        lr_decay: Factor per epoch of an exponential schedule.
        momentum: Momentum of SGD.
        weight_decay: Weight decay; AdamW's is decoupled from the gradient.
        grad_clip: Largest norm of the weights' gradient; null for no clipping.
        ohem: Hard example mining.
        label_stride: Stride at which labels and logits meet in the loss; 1 is full resolution, larger is cheaper.
        log_every: Steps between records of `metrics.jsonl`, which hold the mean loss of these steps.
        save_every_minutes: Minutes between saved states within an epoch; each epoch's end saves one, too.
        device: Devices, precision and threads of the stage.
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
