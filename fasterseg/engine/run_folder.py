"""The folder a stage writes into: its settings, its environment, its logs, its checkpoints and its summary.

A folder belongs to one stage with one set of settings. Opening it again with the same settings goes on where the run
was cut off; with others it is an error, so nothing that exists is ever overwritten by another experiment.
"""

import json
import math
import os
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
import yaml
from lightning_fabric import Fabric
from numpy.typing import NDArray
from tensorboardX import SummaryWriter

from fasterseg.base.console import CONSOLE
from fasterseg.base.errors import differences, summarize_differences
from fasterseg.base.experiment import Section
from fasterseg.base.files import write_text
from fasterseg.base.machine import available_cores, processor_name
from fasterseg.engine.distributed import run_in_first

CONFIG_NAME = "config.yaml"
_LIBRARIES = ("torch", "numpy", "lightning-fabric", "opencv-python-headless", "onnx", "onnxruntime", "openvino")


class RunFolder:
    """An opened run folder; make one with `open_run_folder`.

    Attributes:
        path: The folder.
        stage: The stage it belongs to, such as `student`.
        writes: Whether this process writes (the first of several does); the others' calls do nothing.
    """

    def __init__(self, path: Path, *, stage: str, writes: bool = True) -> None:
        self.path = path
        self.stage = stage
        self.writes = writes
        self._writer: SummaryWriter | None = None
        self._purge_step: int | None = None

    @property
    def last(self) -> Path:
        """The training state of the last finished epoch."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """The stage's best network."""
        return self.path / "best.pt"

    @property
    def is_finished(self) -> bool:
        """Whether the stage ran to its end."""
        return self._summary_path.is_file()

    @property
    def _summary_path(self) -> Path:
        return self.path / "summary.json"

    def finished(self, product: Path) -> bool:
        """Whether the stage ran to its end and left its product; says so.

        Raises:
            ValueError: It ran to its end, but the product is gone.
        """
        if not self.is_finished:
            return False
        if not product.exists():
            raise ValueError(
                f"{product} is gone, although the {self.stage} stage in {self.path} is finished; put it back, or "
                "delete the folder to run the stage again"
            )
        self.log(f"is finished already, see {product}")
        return True

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Writes `summary.json`, the mark that the stage is done."""
        if self.writes:
            write_text(self._summary_path, json.dumps(_finite(dict(summary)), indent=2, allow_nan=False) + "\n")

    def summary(self) -> dict[str, Any]:
        """What `finish` wrote.

        Raises:
            FileNotFoundError: The stage is not finished.
        """
        if not self.is_finished:
            raise FileNotFoundError(f"no {self._summary_path}: the {self.stage} stage there is not finished")
        summary: dict[str, Any] = json.loads(self._summary_path.read_text(encoding="utf-8"))
        return summary

    def log(self, text: str) -> None:
        """Says something on the console and, with the time, in `log.txt`."""
        if not self.writes:
            return
        CONSOLE.print(f"{self.stage}: {text}")
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def metrics(self, step: int, values: Mapping[str, float], *, prefix: str = "") -> None:
        """Records figures of a step: one line of `metrics.jsonl`, one TensorBoard scalar each.

        Args:
            step: How many steps the run has done.
            values: Figures by name; one that is not finite is null in the file and left out of TensorBoard.
            prefix: Group of the figures, such as `train`; names become `prefix/name`.
        """
        if not self.writes:
            return
        named = {f"{prefix}/{name}" if prefix else name: float(value) for name, value in values.items()}
        with self._metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **_finite(named)}, allow_nan=False) + "\n")
        for name, value in named.items():
            if math.isfinite(value):
                self.writer.add_scalar(name, value, step)

    def picture(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """Shows an RGB picture (H, W, 3) in TensorBoard."""
        if self.writes:
            self.writer.add_image(name, picture, step, dataformats="HWC")

    def rewind(self, step: int) -> None:
        """Forgets the figures recorded after that step: those of an epoch that was cut off and runs again."""
        self._purge_step = step + 1
        if not self.writes or not self._metrics_path.is_file():
            return
        lines = self._metrics_path.read_text(encoding="utf-8").splitlines()
        write_text(self._metrics_path, "".join(f"{line}\n" for line in lines if _step_of(line) <= step))

    def read_metrics(self) -> list[dict[str, Any]]:
        """The records of `metrics.jsonl` so far; a line that a cut left incomplete is left out."""
        if not self._metrics_path.is_file():
            return []
        lines = self._metrics_path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if math.isfinite(_step_of(line))]

    @property
    def _metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def writer(self) -> SummaryWriter:
        """The TensorBoard writer, made on first use."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=self._purge_step)
        return self._writer

    def close(self) -> None:
        """Writes out what TensorBoard still holds back."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def training_settings(section: Section, *, processes: int) -> dict[str, Any]:
    """What of a training stage's section decides its result, for `open_run_folder`.

    Devices, threads, accumulation and recomputation are how it is computed, and so are the processes: a run that was
    cut off goes on with others as long as it sees as many images in a step. What differs then is whose images a batch
    norm sees together, and rounding.

    Args:
        section: With `batch_size` and `device`.
        processes: How many share a step, `batch_size` images each.
    """
    settings = section.model_dump(mode="json", exclude={"accumulation", "memory_saving"})
    settings["images_per_step"] = settings.pop("batch_size") * processes
    settings["precision"] = settings.pop("device")["precision"]
    return settings


def open_run_folder(path: Path, *, stage: str, settings: Mapping[str, Any], fabric: Fabric | None = None) -> RunFolder:
    """Opens a stage's folder: makes a new one, or goes on in one of the same stage and settings.

    Args:
        path: The folder.
        stage: Name of the stage.
        settings: Plain data that decides the result: the sections the stage reads, the seed, hashes of its inputs.
        fabric: The stage's processes, where it can have several: the first one opens the folder and writes, the others
            wait for that and touch nothing.

    Raises:
        ValueError: The folder belongs to another stage or other settings, or holds files of unknown origin.
    """
    if fabric is None:
        _prepare(folder := RunFolder(path, stage=stage), settings)
        return folder
    folder = RunFolder(path, stage=stage, writes=fabric.is_global_zero)
    run_in_first(fabric, lambda: _prepare(folder, settings, processes=fabric.world_size))
    return folder


def _prepare(folder: RunFolder, settings: Mapping[str, Any], *, processes: int = 1) -> None:
    """Makes the folder, or sees that it is of the same stage and settings."""
    path = folder.path
    wanted = _plain({"stage": folder.stage, "settings": settings})
    config_path = path / CONFIG_NAME
    if config_path.is_file():
        differing = [line.removeprefix("settings.") for line in differences(_read_config(config_path), wanted)]
        if differing:
            raise ValueError(
                f"{path} is in use by another experiment: {summarize_differences(differing)}; choose "
                "another --out (or another name in the experiment file), or delete the folder"
            )
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(
            f"{path} exists, is not empty and has no {CONFIG_NAME}, so it is not the folder of a run; nothing was "
            "written: choose another --out, or empty it yourself"
        )
    else:
        path.mkdir(parents=True, exist_ok=True)
        write_text(config_path, yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True))
    if not folder.is_finished:
        environment = {**describe_environment(), "processes": processes}
        write_text(path / "environment.json", json.dumps(environment, indent=2) + "\n")


def describe_environment() -> dict[str, Any]:
    """What a run depends on besides its settings: machine, Python and library versions, threads."""
    versions: dict[str, str | None] = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": processor_name(),
        "cpu_count": os.cpu_count(),
        "available_cores": available_cores(),
        "threads": torch.get_num_threads(),
        "cuda_devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "versions": versions,
    }


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is damaged ({error}); delete the folder or choose another --out") from error
    if not isinstance(config, dict) or not {"stage", "settings"} <= set(config):
        raise ValueError(f"{path} was not written by a stage; choose another --out")
    return config


def _plain(value: Any) -> Any:
    """The value as YAML gives it back: lists for tuples, strings for paths."""
    return json.loads(json.dumps(value, default=str))


def _finite(value: Any) -> Any:
    """The value with null for every number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _step_of(line: str) -> float:
    """The step of a line of `metrics.jsonl`; infinite for one that a cut left incomplete, so that it is dropped."""
    try:
        return float(json.loads(line)["step"])
    except json.JSONDecodeError:
        return math.inf
