"""The training stage that teacher and student share: a derived network from scratch, with or without a teacher.

`NetworkStage` is what the engine's loop runs; `train_network` puts it together from an experiment and an architecture
file, and closes the stage with its best network and a summary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from dataset_tools.checks import verify_split
from dataset_tools.config import DatasetConfig
from dataset_tools.dataset import LabeledImage
from dataset_tools.description import load_description
from fasterseg.engine.checkpoint import NetworkCheckpoint, load_network, save_network
from fasterseg.engine.config import Experiment
from fasterseg.engine.devices import build_fabric, seed_everything, use_channels_last
from fasterseg.engine.evaluation import LabeledBatch, evaluate
from fasterseg.engine.files import file_digest
from fasterseg.engine.loop import Position, Stage, StageResult, run_stage
from fasterseg.engine.losses import OhemCrossEntropy, distillation_kl, segmentation_losses, subsample_labels
from fasterseg.engine.optimization import adamw, clip_gradients, exponential_lr, poly_lr, set_lr, sgd, warm_up_factor
from fasterseg.engine.pictures import example_picture
from fasterseg.engine.run_folder import RunFolder, open_run_folder
from fasterseg.networks import Architecture, DerivedNetwork, Network, measure_size
from fasterseg.runtime.predict import PredictionOutputs, predict_images
from fasterseg.runtime.predictor import Predictor
from latency.config import TargetConfig
from train.config import TrainConfig
from train.data import StageData, build_stage_data


@dataclass(frozen=True)
class Distillation:
    """A teacher and how much it counts.

    Attributes:
        teacher: The trained network, in evaluation mode.
        weight: Weight of KL(teacher ‖ student) in the loss.
    """

    teacher: Network
    weight: float


class NetworkStage(Stage[LabeledImage]):
    """Trains a network on images, and on a teacher's logits where there is one.

    Args:
        network: The network to train, with fresh weights.
        config: Schedule, loss and validation.
        data: The batches.
        template: The checkpoint to write, all but weights and scores.
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
        use_channels_last(network)
        self.model, self.optimizer = fabric.setup(network, build_optimizer(network, config))
        self.criterion = OhemCrossEntropy(
            threshold=config.ohem.threshold,
            min_kept_fraction=config.ohem.min_kept_fraction,
            ignore_index=data.facts.ignore_index,
        )
        if distillation is not None:
            distillation.teacher.to(fabric.device).requires_grad_(False).eval()
            use_channels_last(distillation.teacher)

    def step(self, batch: LabeledImage, position: Position) -> Mapping[str, torch.Tensor]:
        """One step of the optimizer; see `Stage.step`."""
        image = batch.image.to(self.fabric.device, memory_format=torch.channels_last, non_blocking=True)
        label = subsample_labels(batch.label.to(self.fabric.device, non_blocking=True), self.config.label_stride)
        set_lr(self.optimizer, self.learning_rate(position))

        logits = self.model(image)
        loss, losses = segmentation_losses(self.criterion, logits, label, auxiliary_weight=self.config.auxiliary_weight)
        if self.distillation is not None:
            with torch.no_grad(), self.fabric.autocast():
                teacher_logits = self.distillation.teacher(image).main
            losses["distillation"] = distillation_kl(logits.main, teacher_logits)
            loss = loss + self.distillation.weight * losses["distillation"]

        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        clip_gradients(self.fabric, self.model, self.optimizer, max_norm=self.config.grad_clip)
        self.optimizer.step()
        return {"loss": loss, **losses}

    def learning_rate(self, position: Position) -> float:
        """The learning rate of a step."""
        config = self.config
        if config.schedule == "exponential":
            rate = exponential_lr(config.lr, decay=config.lr_decay, epoch=position.epoch)
        else:
            rate = poly_lr(config.lr, step=position.step, total_steps=position.total_steps, power=config.poly_power)
        return rate * warm_up_factor(position.step, config.warm_up_steps)

    def start_epoch(self, position: Position) -> None:  # noqa: ARG002 - the hook's signature
        """See `Stage.start_epoch`."""
        self.model.train()

    def end_epoch(self, position: Position) -> Mapping[str, float]:
        """Predicts the test split where it is due; see `Stage.end_epoch`."""
        every = self.config.predict_test_every
        if every and (position.epoch + 1) % every == 0 and self.run_folder.writes:
            folder = self.run_folder.path / "test_predictions" / f"epoch_{position.epoch + 1:04d}"
            input_size = None if self.config.image_scale == 1 else self.template.input_size
            predictor = Predictor.from_network(self.network, self.data.facts, input_size=input_size)
            # an epoch that was cut off after its predictions writes the same ones again
            outputs = PredictionOutputs(overwrite=True)
            predict_images(predictor, self.data.test_images, folder, root=self.data.test_root, outputs=outputs)
        return {"lr": self.learning_rate(position)}

    def validate(self, position: Position) -> Mapping[str, float]:
        """Scores the network on the validation split and shows examples; see `Stage.validate`."""
        shown = 0

        def show(batch: LabeledBatch, prediction: torch.Tensor) -> None:
            nonlocal shown
            if shown < self.config.example_count:
                facts = self.data.facts
                picture = example_picture(
                    batch.image[0], batch.label[0], prediction[0], colors=facts.colors, mean=facts.mean, std=facts.std
                )
                self.run_folder.picture(f"examples/{shown}", picture, position.step + 1)
                shown += 1

        self.model.eval()
        scores = evaluate(
            self._predict,
            self.data.validation,
            class_names=self.data.facts.class_names,
            ignore_index=self.data.facts.ignore_index,
            device=self.device,
            on_prediction=show,
        )
        classes = zip(scores.class_names, scores.per_class_iou, strict=True)
        per_class = {f"iou/{name}": iou for name, iou in classes}
        return {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy, **per_class}

    def merit(self, position: Position, figures: Mapping[str, float]) -> float | None:
        """The validation mIoU; the latest epoch when the validation images are trained on."""
        return float(position.epoch) if self.config.split == "train_val" else figures.get("miou")

    def save_best(self, position: Position, figures: Mapping[str, float]) -> None:  # noqa: ARG002 - the hook's signature
        """Writes `best.pt`."""
        weights = {name: value.detach().cpu() for name, value in self.network.state_dict().items()}
        scores = {name: figures[name] for name in ("miou", "pixel_accuracy") if name in figures}
        save_network(self.run_folder.best, replace(self.template, weights=weights, scores=scores))

    def state(self) -> dict[str, Any]:
        """Weights and momentum."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    @property
    def device(self) -> torch.device:
        """The device the network is on."""
        return self.fabric.device

    def _predict(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(image.contiguous(memory_format=torch.channels_last)).main
        return logits


def build_optimizer(network: Network, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer that the stage's section asks for, over all weights of the network."""
    if config.optimizer == "adamw":
        return adamw(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return sgd(network.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def train_network(
    experiment: Experiment,
    config: TrainConfig,
    *,
    stage: str,
    out: Path,
    architecture_path: Path,
    teacher_path: Path | None = None,
    distillation_weight: float = 0.0,
) -> Path:
    """Runs a training stage to its end, or goes on with it.

    Args:
        experiment: Read with the sections `dataset` and `target` and the stage's own.
        config: The stage's section.
        stage: Its name.
        out: Its run folder.
        architecture_path: What to train.
        teacher_path: The teacher's `best.pt`.
        distillation_weight: How much the teacher counts.

    Returns:
        The path of `best.pt`.

    Raises:
        FileNotFoundError: Architecture, teacher or dataset is missing.
        ValueError: One of them does not fit, `out` belongs to another experiment, or a loss is not finite.
    """
    data_config = experiment.section("dataset", DatasetConfig)
    input_size = experiment.section("target", TargetConfig).input_size
    description = load_description(Path(data_config.root))
    architecture = Architecture.load(architecture_path)
    distillation = None
    if teacher_path is not None:
        teacher = load_network(teacher_path, num_classes=description.num_classes)
        if teacher.dataset.class_names != description.class_names:
            raise ValueError(
                f"{teacher_path} was trained for the classes {', '.join(teacher.dataset.class_names)}; the dataset has "
                f"{', '.join(description.class_names)}: train a teacher on this dataset"
            )
        distillation = Distillation(teacher.build(), distillation_weight)
    files = {"architecture": architecture_path, "teacher": teacher_path}
    origins = {role: file_digest(path) for role, path in files.items() if path is not None}
    settings = {
        "seed": experiment.seed,
        "dataset": data_config.model_dump(mode="json", exclude={"num_workers", "synthesize"}),
        "target": {"input_size": input_size},
        stage: config.model_dump(mode="json"),
        "origins": {"dataset": description.digest(), **origins},
    }
    fabric = build_fabric(config.device)
    with open_run_folder(out, stage=stage, settings=settings, writes=fabric.is_global_zero) as run_folder:
        if run_folder.finished(run_folder.best):
            return run_folder.best
        predicted = [data_config.test_split] if config.predict_test_every else []
        verify_split(description, "+".join([data_config.train_split, data_config.validation_split, *predicted]))
        seed_everything(experiment.seed)
        data = build_stage_data(description, data=data_config, config=config, fabric=fabric, seed=experiment.seed)
        template = NetworkCheckpoint(architecture, data.facts, input_size, weights={}, origins=origins)
        result = _run(template, config, data, fabric=fabric, run_folder=run_folder, distillation=distillation)
        if run_folder.writes:
            run_folder.finish(summarize(result, run_folder.best, config=config))
    return run_folder.best


def _run(
    template: NetworkCheckpoint,
    config: TrainConfig,
    data: StageData,
    *,
    fabric: Fabric,
    run_folder: RunFolder,
    distillation: Distillation | None,
) -> StageResult:
    """Trains the template's architecture from fresh weights, or from where the run folder was cut off."""
    stage = NetworkStage(
        DerivedNetwork(template.architecture, template.dataset.num_classes),
        config=config,
        data=data,
        template=template,
        fabric=fabric,
        run_folder=run_folder,
        distillation=distillation,
    )
    return run_stage(
        stage,
        data.training,
        run_folder,
        fabric=fabric,
        epochs=config.epochs,
        validate_every=config.validate_every,
        log_every=config.log_every,
    )


def summarize(result: StageResult, best: Path, *, config: TrainConfig) -> dict[str, Any]:
    """The summary of a finished stage: scores of the best epoch, size of its network, time."""
    checkpoint = load_network(best)
    size = measure_size(checkpoint.build(), checkpoint.input_size)
    per_class = {
        name.removeprefix("iou/"): value for name, value in result.best_figures.items() if name.startswith("iou/")
    }
    return {
        "network": best.name,
        "split": config.split,
        "epochs": config.epochs,
        "best_epoch": None if result.best_epoch is None else result.best_epoch + 1,
        "miou": result.best_figures.get("miou"),
        "pixel_accuracy": result.best_figures.get("pixel_accuracy"),
        "per_class_iou": per_class,
        "parameters": size.parameters,
        "gmacs": size.macs / 1e9,
        "input_size": list(checkpoint.input_size),
        "duration_s": result.duration_s,
        "origins": dict(checkpoint.origins),
    }
