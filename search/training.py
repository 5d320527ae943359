"""What pretraining and search share: passes of the supernet with their losses, the weights' optimizer, checkpoints."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn

from fasterseg.base.devices import FABRIC_PRECISIONS
from fasterseg.engine.checkpoint import load_state, save_state
from fasterseg.engine.devices import use_channels_last
from fasterseg.engine.losses import OhemCrossEntropy, head_loss, subsample_labels
from fasterseg.engine.optimization import sgd
from fasterseg.networks.space import SpaceConfig
from search.concurrency import threads_for_parts
from search.config import SupernetTrainConfig
from search.supernet import Pass, Supernet, SupernetLogits


class SupernetLoss:
    """The loss of a pass, summed over its five heads, and its gradient.

    Args:
        config: Hard example mining and the stride of the labels.
        ignore_index: Label of pixels that count nowhere.
        fabric: Device and precision.
    """

    def __init__(self, config: SupernetTrainConfig, *, ignore_index: int, fabric: Fabric) -> None:
        self.fabric = fabric
        self.label_stride = config.label_stride
        self.criterion = OhemCrossEntropy(
            threshold=config.ohem.threshold,
            min_kept_fraction=config.ohem.min_kept_fraction,
            ignore_index=ignore_index,
            fabric=fabric,
        )

    def backward(
        self, supernet: Supernet, image: torch.Tensor, label: torch.Tensor, *, passes: Sequence[Pass], draws: int = 0
    ) -> dict[str, torch.Tensor]:
        """Adds up the gradients of all passes. The activations of a pass are freed before the next pass starts.

        On a CPU, passes of full width run as one batch. A set's stem runs once, since its passes read the same images.

        Args:
            supernet: In training mode.
            image: (N, 3, H, W) normalised RGB.
            label: (N, H, W) int64 train ids and the ignore index.
            passes: What to run.
            draws: Operators drawn for each mixture; 0 for all of them.

        Returns:
            The mean loss of each kind of pass, without gradient.
        """
        layout = torch.channels_last if prefers_channels_last(self.fabric) else torch.contiguous_format
        image = image.to(self.fabric.device, non_blocking=True, memory_format=layout)
        label = subsample_labels(label.to(self.fabric.device, non_blocking=True), self.label_stride)
        losses: dict[str, list[torch.Tensor]] = {}
        with threads_for_parts() if self._in_parts() else nullcontext():
            counts = Counter(one.architecture_set for one in passes)
            with self.fabric.autocast():
                stems = {name: supernet.stem(image, name, passes=count) for name, count in counts.items()}
            entering = {name: stem.detach().requires_grad_(stem.requires_grad) for name, stem in stems.items()}
            for together in self._batches(supernet, passes, draws=draws):
                with self.fabric.autocast():
                    all_heads = supernet.run_together(entering, together, draws=draws)
                own = [self._pass_loss(heads, label) for heads in all_heads]
                self.fabric.backward(torch.stack(own).sum())
                for one, loss in zip(together, own, strict=True):
                    losses.setdefault(f"{one.architecture_set}_{one.width_mode}", []).append(loss.detach())
            for name, stem in stems.items():
                if stem.requires_grad:
                    self.fabric.backward(stem, entering[name].grad)
        return {name: torch.stack(values).mean() for name, values in losses.items()}

    def _pass_loss(self, heads: SupernetLogits, label: torch.Tensor) -> torch.Tensor:
        return torch.stack([head_loss(self.criterion, logits, label) for logits in heads]).sum()

    def _batches(self, supernet: Supernet, passes: Sequence[Pass], *, draws: int) -> list[list[Pass]]:
        """The passes in batches: those of full width as one, so that the weights are read once for all of them."""
        if draws or not self._in_parts():
            return [[one] for one in passes]
        full = [one for one in passes if supernet.is_full_width(one)]
        others = [[one] for one in passes if one not in full]
        return [full, *others] if full else others

    def _in_parts(self) -> bool:
        """Whether the cells of a layer run on parallel threads: on a CPU, without autocast."""
        return self.fabric.device.type == "cpu" and not isinstance(self.fabric.strategy.precision, MixedPrecision)


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """No gradients for these parameters while the block runs, which spares their part of the backward pass."""
    held = list(parameters)
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def prepare_supernet(supernet: Supernet, fabric: Fabric) -> None:
    """Moves the supernet to its device; on several GPUs batch norms compute their statistics over all of them.

    Tensor cores read bfloat16 maps in channels-last layout, so the weights have that layout too.
    """
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(supernet)  # type: ignore[no-untyped-call]
    fabric.to_device(supernet)
    if prefers_channels_last(fabric):
        use_channels_last(supernet)


def prefers_channels_last(fabric: Fabric) -> bool:
    """Whether the supernet's maps and weights lie channels last: under bfloat16 on a GPU."""
    return fabric.device.type == "cuda" and fabric.strategy.precision.precision == FABRIC_PRECISIONS["bf16"]


def set_up(optimizer: torch.optim.Optimizer, fabric: Fabric) -> torch.optim.Optimizer:
    """The optimizer as Fabric's precision needs it."""
    wrapped = fabric.setup_optimizers(optimizer)
    assert isinstance(wrapped, torch.optim.Optimizer)
    return wrapped


def weights_optimizer(weights: Iterable[nn.Parameter], config: SupernetTrainConfig) -> torch.optim.SGD:
    """SGD over a supernet's weights.

    A step touches only the set and the widths that it ran, so weights join in at different steps; their momentum
    exists from the start (as zero) because fused SGD takes all or none.
    """
    weights = list(weights)
    optimizer = sgd(weights, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    for weight in weights:
        optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer


def save_supernet(path: Path, supernet: Supernet) -> None:
    """Writes the supernet with what it was made for."""
    weights = {name: value.detach().cpu() for name, value in supernet.state_dict().items()}
    facts = {"space": supernet.space.model_dump(mode="json"), "num_classes": supernet.num_classes}
    save_state(path, {"kind": "supernet", **facts, "weights": weights})


def load_supernet(path: Path, *, space: SpaceConfig, num_classes: int) -> Supernet:
    """Reads a pretrained supernet.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, no supernet, or of another space or class count.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no pretrained supernet at {path}; `python -m search pretrain --config FILE` makes one"
        )
    state = load_state(path)
    if state.get("kind") != "supernet":
        raise ValueError(f"{path} is no supernet; expected the best.pt of a pretrain run")
    stored = {**state["space"], "num_classes": state["num_classes"]}
    asked = {**space.model_dump(mode="json"), "num_classes": num_classes}
    differing = [
        f"{name} {stored[name]} (asked for: {value})" for name, value in asked.items() if stored[name] != value
    ]
    if differing:
        raise ValueError(
            f"{path} was pretrained for another space: {', '.join(differing)}; pretrain again with "
            "`python -m search pretrain --config FILE` into another --out folder"
        )
    supernet = Supernet(space, num_classes)
    supernet.load_state_dict(state["weights"])
    return supernet
