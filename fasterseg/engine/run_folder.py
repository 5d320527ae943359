"""The folder a stage writes into: its settings, its environment, its logs, its checkpoints and its summary.

A folder belongs to one stage with one set of settings. Opening it again with the same settings resumes the run. Opening
it with other settings is an error, so that no experiment overwrites another. Settings of logging and saving may change
(see `training_settings`). One process writes at a time: it holds the folder's lock.
"""

import errno
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

from fasterseg.base.checkout import describe_checkout
from fasterseg.base.console import CONSOLE
from fasterseg.base.errors import DamagedFileError, differences, summarize_differences
from fasterseg.base.experiment import Section
from fasterseg.base.files import has_content, remove_leftovers, write_text
from fasterseg.base.lines import append_json_lines, append_text_line, read_json_lines
from fasterseg.base.locks import LOCK_NAME, FolderLock
from fasterseg.base.machine import available_cores, processor_name
from fasterseg.base.yamlfile import read_yaml
from fasterseg.engine.distributed import run_in_first

CONFIG_NAME = "config.yaml"
ENVIRONMENT_NAME = "environment.json"
# files that the start of a run writes, before there is any result
_OPENING_NAMES = (CONFIG_NAME, ENVIRONMENT_NAME, LOCK_NAME)
# the key in config.yaml of a section's settings that may change in a folder
_SHOWN = "shown"
# these settings: how often a run logs, draws, predicts or saves does not change its result
_SHOWN_FIELDS = ("log_every", "example_count", "predict_test_every", "save_every_minutes")
_LIBRARIES = ("torch", "numpy", "lightning-fabric", "opencv-python-headless", "onnx", "onnxruntime", "openvino")


class RunFolder:
    """An opened run folder; make one with `open_run_folder`.

    Attributes:
        path: The folder.
        stage: The stage it belongs to, such as `student`.
        writes: Whether this process writes; of several processes only the first does, and calls of the others do
            nothing.
    """

    def __init__(self, path: Path, *, stage: str, writes: bool = True) -> None:
        self.path = path
        self.stage = stage
        self.writes = writes
        self._writer: SummaryWriter | None = None
        self._purge_step: int | None = None
        self._lock: FolderLock | None = None

    @property
    def last(self) -> Path:
        """The training state that was saved last."""
        return self.path / "last.pt"

    @property
    def previous(self) -> Path:
        """The training state that was saved before it, for when `last` is damaged."""
        return self.path / "last.previous.pt"

    @property
    def best(self) -> Path:
        """The stage's best network."""
        return self.path / "best.pt"

    @property
    def is_finished(self) -> bool:
        """Whether the stage ran to its end; a truncated or empty summary does not count."""
        return self._read_summary() is not None

    @property
    def _summary_path(self) -> Path:
        return self.path / "summary.json"

    def finished(self, product: Path) -> bool:
        """Whether the stage ran to its end and its result exists; if so, logs that.

        Raises:
            ValueError: It ran to its end, but its result is missing.
        """
        if not self.is_finished:
            return False
        if not product.exists():
            raise ValueError(
                f"{product} is gone, although the {self.stage} stage in {self.path} is finished; put it back, or "
                "delete the folder to run the stage again"
            )
        self.log(f"is finished already, see {product}", filed=False)
        return True

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Writes `summary.json`, which marks the stage as finished."""
        if self.writes:
            write_text(self._summary_path, json.dumps(_finite(dict(summary)), indent=2, allow_nan=False) + "\n")

    def summary(self) -> dict[str, Any]:
        """What `finish` wrote.

        Raises:
            FileNotFoundError: The stage is not finished.
        """
        summary = self._read_summary()
        if summary is None:
            raise FileNotFoundError(f"no whole {self._summary_path}: the {self.stage} stage there is not finished")
        return summary

    def _read_summary(self) -> dict[str, Any] | None:
        try:
            summary = json.loads(self._summary_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return summary if isinstance(summary, dict) else None

    def log(self, text: str, *, filed: bool = True) -> None:
        """Prints a message to the console and, if `filed`, adds it with the time to `log.txt`."""
        if not self.writes:
            return
        if filed:
            append_text_line(self.path / "log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")
        CONSOLE.print(f"{self.stage}: {text}")

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
        append_json_lines(self._metrics_path, [{"step": step, **_finite(named)}])
        for name, value in named.items():
            if math.isfinite(value):
                self.writer.add_scalar(name, value, step)

    def sync(self) -> None:
        """Flushes `metrics.jsonl` to the disk, before a state is saved that relies on it."""
        if self.writes and self._metrics_path.is_file():
            with self._metrics_path.open("rb") as file:
                os.fsync(file.fileno())

    def picture(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """Shows an RGB picture (H, W, 3) in TensorBoard."""
        if self.writes:
            self.writer.add_image(name, picture, step, dataformats="HWC")

    def rewind(self, step: int) -> None:
        """Drops the figures recorded after that step: a resumed run computes these steps again."""
        self._purge_step = step + 1
        if not self.writes or not self._metrics_path.is_file():
            return
        kept = [record for record in self.read_metrics() if record["step"] <= step]
        write_text(self._metrics_path, "".join(json.dumps(record) + "\n" for record in kept))

    def read_metrics(self) -> list[dict[str, Any]]:
        """The records of `metrics.jsonl` so far, without damaged and incomplete lines."""
        records = read_json_lines(self._metrics_path, skip_damaged=True)
        return [record for record in records if isinstance(record, dict) and isinstance(record.get("step"), int)]

    @property
    def _metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def writer(self) -> SummaryWriter:
        """The TensorBoard writer, made on first use."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=self._purge_step)
        return self._writer

    def lock(self) -> None:
        """Locks the folder until `close`, and removes temporary files of killed processes.

        A finished run in a read-only folder needs no lock.

        Raises:
            FolderInUseError: Another process writes there.
        """
        try:
            self._lock = FolderLock(self.path)
        except PermissionError:
            if not self.is_finished:
                raise
        except OSError as error:
            if error.errno != errno.EROFS or not self.is_finished:
                raise
        else:
            remove_leftovers(self.path)

    def close(self) -> None:
        """Flushes and closes the TensorBoard writer, and releases the folder's lock."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def training_settings(section: Section, *, processes: int) -> dict[str, Any]:
    """The settings of a training stage that determine its result, for `open_run_folder`.

    Devices, threads, accumulation, recomputation and the number of processes are left out: they are how it is computed.
    An interrupted run can resume with another number of processes if the number of images per step stays the same.
    Results then differ by rounding, and by which images share a batch norm's statistics.

    Settings that only show or save are kept apart, under `shown`, and may change in a folder: how often figures are
    logged, examples shown, test images predicted and states saved. How often the stage validates is among them if it
    also trains on the validation images: then the last epoch counts as the best.

    Args:
        section: The stage's section, with `batch_size` and `device`.
        processes: Number of processes that share a step, with `batch_size` images each.
    """
    settings = section.model_dump(mode="json", exclude={"accumulation", "memory_saving"})
    settings["images_per_step"] = settings.pop("batch_size") * processes
    settings["precision"] = settings.pop("device")["precision"]
    names = [*_SHOWN_FIELDS, *(["validate_every"] if settings.get("split") == "train_val" else [])]
    shown = {name: settings.pop(name) for name in names if name in settings}
    return {**settings, _SHOWN: shown} if shown else settings


def open_run_folder(path: Path, *, stage: str, settings: Mapping[str, Any], fabric: Fabric | None = None) -> RunFolder:
    """Opens a stage's folder: creates it, or resumes one of the same stage and settings.

    Args:
        path: The folder.
        stage: Name of the stage.
        settings: Plain data that determines the result: the sections the stage reads, the seed, hashes of its inputs.
        fabric: The stage's processes; None for a stage that always has one. The first one opens the folder and writes.
            The others wait for it and write nothing.

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
    """Creates the folder, or checks that it has the same stage and settings; takes its lock."""
    wanted = _plain({"stage": folder.stage, "settings": settings})
    # checked before anything is written, and again while the lock is held
    _check_origin(folder, wanted)
    folder.lock()
    try:
        found = _check_origin(folder, wanted)
        if folder.is_finished:
            return
        if found != wanted:
            text = yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True)
            write_text(folder.path / CONFIG_NAME, text)
        environment = {**describe_environment(), "processes": processes}
        write_text(folder.path / ENVIRONMENT_NAME, json.dumps(environment, indent=2) + "\n")
    except BaseException:
        folder.close()
        raise


def _check_origin(folder: RunFolder, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """Refuses a folder of another stage or other settings, and a folder that is not a run folder.

    Returns:
        The content of its `config.yaml`; None for a new folder, and for one whose run ended before that file was
        written.
    """
    path, config_path = folder.path, folder.path / CONFIG_NAME
    if config_path.is_file() and has_content(path, besides=_OPENING_NAMES if _is_blank(config_path) else ()):
        found = _read_config(config_path)
        differing = list(differences(_deciding(found, wanted), _deciding(wanted, wanted)))
        if differing:
            listed = summarize_differences([line.removeprefix("settings.") for line in differing])
            raise ValueError(
                f"{path} is in use by another experiment: {listed}; choose another --out (or another name in the "
                "experiment file), or delete the folder"
            )
        return found
    if path.exists() and (not path.is_dir() or has_content(path, besides=_OPENING_NAMES)):
        raise ValueError(
            f"{path} exists, is not empty and has no {CONFIG_NAME}, so it is not the folder of a run; nothing was "
            "written: choose another --out, or empty it yourself"
        )
    return None


def _is_blank(path: Path) -> bool:
    """Whether a file is empty or holds only zeros, as after a power cut."""
    return not path.read_bytes().strip(b"\0 \r\n")


def _deciding(config: Any, wanted: Any) -> Any:
    """The settings that determine the result; folders of older releases hold all of them side by side."""
    if not isinstance(config, Mapping):
        return config
    asked = wanted if isinstance(wanted, Mapping) else {}
    shown = {_SHOWN, *asked.get(_SHOWN, ())}
    return {name: _deciding(value, asked.get(name)) for name, value in config.items() if name not in shown}


def describe_environment() -> dict[str, Any]:
    """What a run depends on besides its settings: machine, Python and library versions, threads, git commit."""
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
        "checkout": describe_checkout(),
        "cuda_devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "versions": versions,
    }


def _read_config(path: Path) -> dict[str, Any]:
    remedy = "restore it from a copy, choose another --out, or delete the folder to run the stage again"
    if _is_blank(path):
        raise DamagedFileError(f"{path} is empty, as a power cut leaves a file; {remedy}")
    try:
        config = read_yaml(path)
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged ({error}); {remedy}") from error
    if not isinstance(config, dict) or not {"stage", "settings"} <= set(config):
        raise ValueError(f"{path} was not written by a stage; choose another --out")
    return config


def _plain(value: Any) -> Any:
    """The value as YAML returns it: lists for tuples, strings for paths."""
    return json.loads(json.dumps(value, default=str))


def _finite(value: Any) -> Any:
    """The value with null for every number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
