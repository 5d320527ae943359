"""Evaluation of a checkpoint or an exported file on a dataset split, by PyTorch, ONNX Runtime or a runner."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel
from torch.utils.data import DataLoader

from dataset_tools.config import DatasetConfig
from dataset_tools.dataset import LabeledImage
from dataset_tools.description import DatasetDescription, load_description
from dataset_tools.loader import build_eval_loader
from fasterseg.base.console import epoch_progress
from fasterseg.base.devices import Device
from fasterseg.base.experiment import Experiment
from fasterseg.base.files import file_digest, write_text
from fasterseg.engine.checkpoint import DatasetFacts
from fasterseg.engine.evaluation import InferenceMode, evaluate
from fasterseg.engine.metrics import SegmentationScores
from fasterseg.engine.run_folder import RunFolder, open_run_folder
from fasterseg.runtime.load import ONNX_SUFFIX, load_predictor
from fasterseg.runtime.predictor import Predictor
from latency.config import TargetConfig
from latency.deployment import Deployment
from train.config import NETWORK_SECTIONS
from train.plots import plot_confusion

STAGE = "evaluate"
SECTIONS: dict[str, type[BaseModel]] = {
    "dataset": DatasetConfig,
    "target": TargetConfig,
    **NETWORK_SECTIONS,
}


@dataclass(frozen=True)
class Evaluation:
    """An evaluation: the model, the images and the inference mode.

    Attributes:
        model: A `best.pt`, or a `.onnx` file that `fasterseg export` wrote.
        split: Split of the dataset, or several joined by "+".
        image_scale: Scale factor of images and labels; the same as in training.
        mode: Windows, mirroring and scales.
        device: Device of a checkpoint.
        threads: CPU threads of PyTorch or ONNX Runtime; one for each available core when None.
        deployment: Runner that runs the model; None for PyTorch, or for an exported file ONNX Runtime.

    Raises:
        FileNotFoundError: There is no such model.
    """

    model: Path
    split: str
    image_scale: float = 1.0
    mode: InferenceMode = InferenceMode()
    device: Device = "cpu"
    threads: int | None = None
    deployment: Deployment | None = None

    def __post_init__(self) -> None:
        if not self.model.is_file():
            raise FileNotFoundError(
                f"no model at {self.model}; `python -m train student` writes a best.pt, `fasterseg export` a .onnx file"
            )

    @property
    def condition(self) -> str:
        """Model, split and mode as a short folder name, with the model's hash: a retrained model has another name."""
        window = self.mode.window_size_px
        parts = [
            self.model.stem if self.model.suffix == ONNX_SUFFIX else self.model.parent.name,
            "onnx" if self.model.suffix == ONNX_SUFFIX else "",
            self.split,
            f"window{window[0]}x{window[1]}overlap{self.mode.window_overlap:.2g}" if window else "whole",
            "flip" if self.mode.flip else "",
            "" if self.mode.scales == (1.0,) else "scales" + "-".join(f"{scale:g}" for scale in self.mode.scales),
            "" if self.deployment is None else self.deployment.name,
            file_digest(self.model)[:8],
        ]
        return "_".join(part for part in parts if part)


def run_evaluate(experiment: Experiment, evaluation: Evaluation, *, out: Path) -> SegmentationScores:
    """Scores a model on a split and writes `summary.json`, `classes.csv`, `confusion.csv` and `confusion.png`.

    Args:
        experiment: Read with the section `dataset`.
        evaluation: The model, the images and the inference mode.
        out: The run folder.

    Raises:
        FileNotFoundError: The dataset is missing.
        ValueError: The runner cannot run the model, model and dataset do not fit each other, no pixel is labelled, or
            `out` belongs to another evaluation.
    """
    prepared = _prepare(experiment, evaluation)
    settings = {
        "dataset": str(prepared.description.root),
        "split": evaluation.split,
        "image_scale": evaluation.image_scale,
        "mode": vars(evaluation.mode),
        "device": evaluation.device,
        "origins": {"model": file_digest(evaluation.model)},
    }
    if evaluation.deployment is not None:
        settings["deployment"] = evaluation.deployment.name
    with open_run_folder(out, stage=STAGE, settings=settings) as run_folder:
        scores = prepared.run(evaluation)
        _write(scores, evaluation, run_folder, images=len(prepared.loader))
    return scores


def score_model(experiment: Experiment, evaluation: Evaluation) -> SegmentationScores:
    """Scores a model on a split and writes nothing; see `run_evaluate`."""
    return _prepare(experiment, evaluation).run(evaluation)


class _Prepared(NamedTuple):
    """A model and the images that it is scored on, checked to fit each other."""

    description: DatasetDescription
    predictor: Predictor
    loader: DataLoader[LabeledImage]

    def run(self, evaluation: Evaluation) -> SegmentationScores:
        """Scores the model."""
        with epoch_progress(f"evaluate {evaluation.model.name}", len(self.loader)) as progress:
            return evaluate(
                self.predictor.logits,
                self.loader,
                class_names=self.description.class_names,
                ignore_index=self.description.ignore_index,
                mode=evaluation.mode,
                progress=progress,
            )


def _prepare(experiment: Experiment, evaluation: Evaluation) -> _Prepared:
    data = experiment.section("dataset", DatasetConfig)
    description = load_description(data.root)
    if evaluation.deployment is None:
        predictor = load_predictor(evaluation.model, device=evaluation.device, threads=evaluation.threads)
    else:
        predictor = evaluation.deployment.load(evaluation.model)
    check_classes(evaluation.model, predictor.dataset, description)
    _check_mode(evaluation, predictor.input_size)
    loader = build_eval_loader(
        description, split=evaluation.split, image_scale=evaluation.image_scale, num_workers=data.num_workers
    )
    return _Prepared(description, predictor, loader)


def check_classes(model: Path, trained: DatasetFacts, description: DatasetDescription) -> None:
    """Refuses a model of other classes than the dataset's.

    Raises:
        ValueError: The message names both.
    """
    if trained.class_names != description.class_names:
        raise ValueError(
            f"{model} was trained for {trained.num_classes} classes ({', '.join(trained.class_names)}), the dataset "
            f"{description.root} has {description.num_classes} ({', '.join(description.class_names)}); "
            "evaluate it on the dataset it was trained on"
        )


def _check_mode(evaluation: Evaluation, input_size: tuple[int, int] | None) -> None:
    """Refuses inference modes that a model of fixed input size cannot run."""
    mode = evaluation.mode
    if input_size is not None and (mode.scales != (1.0,) or mode.window_size_px not in (None, input_size)):
        height, width = input_size
        fixed = "exported" if evaluation.deployment is None else "deployed"
        raise ValueError(
            f"{evaluation.model} runs at its {fixed} size {height}x{width} only, so scales and windows of another "
            "size mean nothing there; evaluate the checkpoint by PyTorch, or leave --scale and --window out"
        )


def _write(scores: SegmentationScores, evaluation: Evaluation, run_folder: RunFolder, *, images: int) -> None:
    """Writes tables, plot and summary."""
    names = scores.class_names
    classes = [["class", "iou"], *([name, f"{iou:.6f}"] for name, iou in zip(names, scores.per_class_iou, strict=True))]
    confusion = [["labelled \\ predicted", *names]]
    confusion += [[name, *map(str, row)] for name, row in zip(names, scores.confusion.tolist(), strict=True)]
    for file, rows in (("classes.csv", classes), ("confusion.csv", confusion)):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text(run_folder.path / file, text.getvalue())
    plot_confusion(scores, run_folder.path / "confusion.png")
    conditions: dict[str, object] = {"model": str(evaluation.model), "split": evaluation.split, "images": images}
    if evaluation.deployment is not None:
        conditions["deployment"] = evaluation.deployment.to_dict()
    run_folder.finish({**conditions, "condition": evaluation.condition, **scores.to_dict()})
    run_folder.log(f"mIoU {scores.miou:.4f}, pixel accuracy {scores.pixel_accuracy:.4f} on {evaluation.split}")
    for name, iou in zip(names, scores.per_class_iou, strict=True):
        run_folder.log(f"  {name}: IoU {iou:.4f}")
