"""Checkpoints: tensors and plain values with a format version, never pickled objects.

Three kinds share the container:

- `network` (`best.pt` of teacher, student, baselines and pruning) carries all that deployment needs: architecture,
  weights, class names, colours, normalisation and the hashes of what it came from. `NetworkCheckpoint` lists it.
- `training` (`last.pt` of every stage) is what a stage goes on from exactly: see `fasterseg.engine.resuming`.
- `supernet` (`best.pt` of pretraining) holds the supernet's weights: see `search.training`.
"""

import errno
import io
import math
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from fasterseg.base.errors import DamagedFileError, describe_validation
from fasterseg.base.files import keep_previous, replacing
from fasterseg.networks.families import AnyArchitecture, architecture_from_dict, build_network
from fasterseg.networks.network import Network
from fasterseg.networks.resizing import Size

FORMAT = "fasterseg-checkpoint"
FORMAT_VERSION = 1
_KINDS = {"training": "a training state, not a network", "supernet": "a supernet, not a network"}
_LARGEST_COLOR = 255
_LARGEST_SIDE_PX = 2**16
_FOLDER_FLAG = 0x10
_UNREADABLE = "cannot be read as a checkpoint of tensors and plain values (damaged, or of another program)"


@dataclass(frozen=True)
class DatasetFacts:
    """What a checkpoint stores about the dataset that its network was trained on.

    Attributes:
        class_names: Name of each class, by train id.
        colors: RGB colour (0..255) of each class, by train id.
        ignore_index: Label of pixels that loss and metrics ignore.
        mean: Per-channel mean of RGB images scaled to 0..1.
        std: Per-channel standard deviation of these images.
        label_ids: Id of each class in the source labelling (e.g. Cityscapes), where the dataset has one.
    """

    class_names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ignore_index: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    label_ids: tuple[int, ...] | None = None

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)


@dataclass(frozen=True)
class NetworkCheckpoint:
    """A trained network as it is stored.

    Attributes:
        architecture: Architecture of the network, of any family.
        dataset: Classes, colours and normalisation.
        input_size: The (height, width) that the network was searched and measured for.
        weights: The network's state dict.
        origins: Hashes of its source files, by role, such as `architecture` or `teacher`.
        scores: Metrics of the network, such as `miou`.
    """

    architecture: AnyArchitecture
    dataset: DatasetFacts
    input_size: Size
    weights: Mapping[str, torch.Tensor]
    origins: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    def build(self) -> Network:
        """The network with its weights, in evaluation mode, on the CPU."""
        network = build_network(self.architecture, self.dataset.num_classes)
        network.load_state_dict(dict(self.weights))
        return network.eval()


def check_facts(dataset: DatasetFacts, input_size: Size, source: str) -> None:
    """Refuses facts that contradict each other, and impossible mean or standard deviation.

    Args:
        dataset: Classes, colours and normalisation.
        input_size: (height, width).
        source: What an error message calls the model, such as its file.

    Raises:
        ValueError: A fact is wrong; the message lists all problems.
    """
    problems = []
    if not all(dataset.class_names) or len(set(dataset.class_names)) != max(1, dataset.num_classes):
        problems.append(f"class_names are {list(dataset.class_names)}, expected different names, at least one")
    counts = {"colors": len(dataset.colors)}
    if dataset.label_ids is not None:
        counts["label_ids"] = len(dataset.label_ids)
    problems += [
        f"{name} lists {count} entries for {dataset.num_classes} classes"
        for name, count in counts.items()
        if count != dataset.num_classes
    ]
    if any(not 0 <= value <= _LARGEST_COLOR for color in dataset.colors for value in color):
        problems.append(f"colors are {list(dataset.colors)}, expected three values from 0 to {_LARGEST_COLOR} each")
    if not all(map(math.isfinite, (*dataset.mean, *dataset.std))) or min(dataset.std) <= 0:
        problems.append(f"mean {list(dataset.mean)}, std {list(dataset.std)}: expected finite numbers, std above 0")
    if not all(1 <= side <= _LARGEST_SIDE_PX for side in input_size):
        problems.append(f"input_size is {list(input_size)}, expected sides from 1 to {_LARGEST_SIDE_PX} pixels")
    if problems:
        raise ValueError(f"{source}: {'; '.join(problems)}")


def save_state(path: Path, state: Mapping[str, Any], *, previous: Path | None = None) -> None:
    """Writes tensors and plain values as a checkpoint, through a temporary name.

    Args:
        path: The file.
        state: Tensors and plain values, by name.
        previous: Path that the old file at `path` is kept under; None to discard it.
    """
    # through memory: torch.save would put the temporary file's name into the archive, and equal states would differ
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "version": FORMAT_VERSION, **state}, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
        if previous is not None:
            keep_previous(path, previous)


def load_state(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU without executing anything in it; verifies its checksums first.

    The checksums cost one more pass over the file, 100 MB in 0.05 s from memory.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: It is truncated, empty or corrupt.
        ValueError: It holds more than tensors and plain values, or is of another format or version.
    """
    verify_archive(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError, struct.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} {_UNREADABLE}: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} is not a {FORMAT}; expected a last.pt or best.pt that this toolkit wrote")
    if state.get("version") != FORMAT_VERSION:
        raise ValueError(f"{path} has format version {state.get('version')}, this release reads {FORMAT_VERSION}")
    return state


def verify_archive(path: Path) -> None:
    """Reads a whole checkpoint archive and compares every part with its checksum, which PyTorch does not do.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: It is truncated, empty, corrupt or not an archive.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    reason = _find_damage(path)
    if reason is not None:
        remedy = "restore it from a copy, or run the stage that wrote it again"
        raise DamagedFileError(f"{path} {_UNREADABLE}: {reason}; {remedy}")


def _find_damage(path: Path) -> str | None:
    """The damage of an archive; None for an intact one."""
    if not path.stat().st_size:
        return "it is empty"
    try:
        # torch.save writes zip archives; torch.load gives other files to a legacy reader that fails in many ways
        if not zipfile.is_zipfile(path):
            return "it is no zip archive"
        with zipfile.ZipFile(path) as archive:
            corrupt_part = archive.testzip()
            # for a part with this flag, PyTorch returns uninitialised memory
            folders = [part.filename for part in archive.infolist() if part.external_attr & _FOLDER_FLAG]
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, LookupError, struct.error, RuntimeError) as error:
        return str(error) or type(error).__name__
    except OSError as error:
        # EINVAL is an impossible offset in the file; other errors come from the disk
        if error.errno != errno.EINVAL:
            raise
        return str(error)
    if folders:
        return f"{folders[0]} is marked as a folder"
    return None if corrupt_part is None else f"{corrupt_part} does not match its checksum"


def save_network(path: Path, checkpoint: NetworkCheckpoint) -> None:
    """Writes a network checkpoint."""
    save_state(
        path,
        {
            "kind": "network",
            "architecture": checkpoint.architecture.to_dict(),
            "dataset": asdict(checkpoint.dataset),
            "input_size": list(checkpoint.input_size),
            "weights": dict(checkpoint.weights),
            "origins": dict(checkpoint.origins),
            "scores": dict(checkpoint.scores),
        },
    )


def load_network(path: Path, *, num_classes: int | None = None) -> NetworkCheckpoint:
    """Reads a network checkpoint.

    Args:
        path: A `best.pt` of a teacher or student stage.
        num_classes: The class count that the caller expects; None for any.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, no network checkpoint, or of another class count.
    """
    state = load_state(path)
    if state.get("kind") != "network":
        what = _KINDS.get(str(state.get("kind")), "no network")
        raise ValueError(f"{path} is {what}; expected the best.pt of a teacher, student, baseline or pruning run")
    stored = _stored(state, path)
    dataset = stored.dataset
    if num_classes is not None and dataset.num_classes != num_classes:
        raise ValueError(
            f"{path} was trained for {dataset.num_classes} classes ({', '.join(dataset.class_names)}), but "
            f"{num_classes} are asked for; use the dataset it was trained on, or train it again on this one"
        )
    return NetworkCheckpoint(
        architecture=architecture_from_dict(state.get("architecture"), str(path)),
        dataset=dataset,
        input_size=stored.input_size,
        weights=_named_tensors(state.get("weights"), path),
        origins=stored.origins,
        scores=stored.scores,
    )


@dataclass(frozen=True)
class _Stored:
    """The plain values of a network checkpoint besides its architecture."""

    dataset: DatasetFacts
    input_size: Size
    origins: dict[str, str]
    scores: dict[str, float]


_STORED = TypeAdapter(_Stored)
_STORED_NAMES = {entry.name for entry in fields(_Stored)}


def _stored(state: Mapping[str, Any], path: Path) -> _Stored:
    """The plain values of a network checkpoint, checked for type and consistency."""
    try:
        stored = _STORED.validate_python({name: value for name, value in state.items() if name in _STORED_NAMES})
    except ValidationError as error:
        raise ValueError(f"{path} is damaged: {'; '.join(describe_validation(error))}") from error
    check_facts(stored.dataset, stored.input_size, str(path))
    return stored


def _named_tensors(weights: object, path: Path) -> dict[str, torch.Tensor]:
    """The weights, if they are tensors by name whose values are finite."""
    if not isinstance(weights, Mapping):
        raise ValueError(f"{path} is damaged: weights is {type(weights).__name__}, expected tensors by name")
    for name, value in weights.items():
        if not isinstance(name, str):
            raise ValueError(f"{path} is damaged: weights has an entry named {name!r}, expected names as text")
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{path} is damaged: {name} in weights is {type(value).__name__}, expected a tensor")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"{path}: the weight {name} holds values that are no numbers (NaN or infinite); train it again with a "
                "lower learning rate, or take an earlier checkpoint"
            )
    return dict(weights)
