"""The training stage that teacher, student and baselines share: a network on images, with or without a teacher.

`NetworkStage` is what the engine's loop runs; `train.stages` puts it together from an experiment.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric

from dataset_tools.dataset import LabeledImage
from fasterseg.engine.checkpoint import NetworkCheckpoint, save_network
from fasterseg.engine.devices import use_channels_last
from fasterseg.engine.distributed import share_buffers
from fasterseg.engine.evaluation import ExamplePictures, evaluate
from fasterseg.engine.loop import Position, Stage
from fasterseg.engine.losses import OhemCrossEntropy, distillation_kl, segmentation_losses, subsample_labels
from fasterseg.engine.optimization import clip_gradients, set_lr
from fasterseg.engine.run_folder import RunFolder
from fasterseg.networks import Network
from fasterseg.runtime.predict import PredictionOutputs, predict_images
from fasterseg.runtime.predictor import Predictor
from train.config import TrainConfig
from train.data import StageData
from train.distillation import Distillation, TeacherLogits
from train.recipe import build_optimizer, learning_rate, prepare_network, start_training


class NetworkStage(Stage[LabeledImage]):
    """Trains a network on images, and on a teacher's logits where there is one.

    Args:
        network: The network to train, with the weights it starts from.
        config: Schedule, loss and validation.
        data: The batches.
        template: The checkpoint to write, without weights and scores.
        fabric: The devices.
        run_folder: Where the best network and pictures go.
        distillation: The teacher, where there is one.
    """

    def __init__(
        self,
        network: Network,
        *,
        config: TrainConfig,
        data: StageData,
        template: NetworkCheckpoint,
        fabric: Fabric,
        run_folder: RunFolder,
        distillation: Distillation | None = None,
    ) -> None:
        self.config, self.data, self.template = config, data, template
        self.fabric, self.run_folder, self.distillation = fabric, run_folder, distillation
        self.network = network
        prepare_network(network, config, fabric)
        use_channels_last(network)
        self.model, self.optimizer = fabric.setup(network, build_optimizer(network, config))
        self.criterion = OhemCrossEntropy(
            threshold=config.ohem.threshold,
            min_kept_fraction=config.ohem.min_kept_fraction,
            ignore_index=data.facts.ignore_index,
            fabric=fabric,
        )
        if distillation is not None:
            self.teacher_logits = TeacherLogits(distillation.teacher, fabric, cache=distillation.cache)

    def step(self, batch: LabeledImage, position: Position) -> Mapping[str, torch.Tensor]:
        """One optimizer step; see `Stage.step`."""
        image = batch.image.to(self.fabric.device, memory_format=torch.channels_last, non_blocking=True)
        label = subsample_labels(batch.label.to(self.fabric.device, non_blocking=True), self.config.label_stride)
        set_lr(self.optimizer, learning_rate(self.config, position))

        self.optimizer.zero_grad(set_to_none=True)
        parts = self.config.accumulation
        losses: dict[str, torch.Tensor] = {}
        for index, (images, labels) in enumerate(zip(image.chunk(parts), label.chunk(parts), strict=True), start=1):
            # processes exchange gradients once, after the last part
            with self.fabric.no_backward_sync(self.model, enabled=index < parts):
                part = {name: loss / parts for name, loss in self._losses(images, labels).items()}
                self.fabric.backward(part["loss"])
            losses = {name: losses.get(name, 0) + loss.detach() for name, loss in part.items()}
        clip_gradients(self.fabric, self.model, self.optimizer, max_norm=self.config.grad_clip)
        self.optimizer.step()
        return losses

    def _losses(self, image: torch.Tensor, label: torch.Tensor) -> dict[str, torch.Tensor]:
        """The total loss under `loss`, and its unweighted terms by name."""
        config = self.config
        logits = self.model(image)
        loss, heads = segmentation_losses(
            self.criterion,
            logits,
            label,
            auxiliary_weight=config.auxiliary_weight,
            shrink_labels=config.shrink_labels,
        )
        if self.distillation is not None:
            heads["distillation"] = distillation_kl(logits.main, self.teacher_logits(image))
            loss = loss + self.distillation.weight * heads["distillation"]
        return {"loss": loss, **heads}

    def start_epoch(self, position: Position) -> None:  # noqa: ARG002 - the hook's signature
        """See `Stage.start_epoch`."""
        start_training(self.model, self.config)

    def end_epoch(self, position: Position) -> Mapping[str, float]:
        """Predicts the test split if due; see `Stage.end_epoch`."""
        share_buffers(self.network, self.fabric)
        every = self.config.predict_test_every
        if every and (position.epoch + 1) % every == 0 and self.run_folder.writes:
            folder = self.run_folder.path / "test_predictions" / f"epoch_{position.epoch + 1:04d}"
            input_size = None if self.config.image_scale == 1 else self.template.input_size
            predictor = Predictor.from_network(self.network, self.data.facts, input_size=input_size)
            # an epoch that was interrupted after its predictions writes them again
            outputs = PredictionOutputs(overwrite=True)
            predict_images(predictor, self.data.test_images, folder, root=self.data.test_root, outputs=outputs)
        return {"lr": learning_rate(self.config, position)}

    def validate(self, position: Position) -> Mapping[str, float]:
        """Scores the network on the validation split and shows examples of the first process's share."""
        pictures = ExamplePictures(
            self.run_folder, self.data.facts, count=self.config.example_count, step=position.step + 1
        )
        self.model.eval()
        scores = evaluate(
            self._predict,
            self.data.validation,
            class_names=self.data.facts.class_names,
            ignore_index=self.data.facts.ignore_index,
            device=self.device,
            on_prediction=pictures.show,
        )
        return scores.figures()

    def merit(self, position: Position, figures: Mapping[str, float]) -> float | None:
        """The validation mIoU; the latest epoch when the validation images are trained on."""
        return float(position.epoch) if self.config.split == "train_val" else figures.get("miou")

    def save_best(self, position: Position, figures: Mapping[str, float]) -> None:  # noqa: ARG002 - the hook's signature
        """Writes `best.pt`."""
        weights = {name: value.detach().cpu() for name, value in self.network.state_dict().items()}
        scores = {name: figures[name] for name in ("miou", "pixel_accuracy") if name in figures}
        save_network(self.run_folder.best, replace(self.template, weights=weights, scores=scores))

    def state(self) -> dict[str, Any]:
        """Weights and optimizer state."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    @property
    def device(self) -> torch.device:
        """The device the network is on."""
        return self.fabric.device

    def _predict(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(image.contiguous(memory_format=torch.channels_last)).main
        return logits
