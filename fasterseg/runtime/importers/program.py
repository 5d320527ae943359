"""`fasterseg import`: recognises which published program wrote a file, and converts it to a network of ours."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch

from fasterseg.base.files import file_digest, write_text
from fasterseg.engine.checkpoint import NetworkCheckpoint, save_network
from fasterseg.networks import AnyArchitecture, Architecture, Size
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.presets import resolve_architecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.runtime.choices import BranchChoice
from fasterseg.runtime.importers.baselines import import_icnet, import_pspnet, import_resnet50
from fasterseg.runtime.importers.facts import imported_facts
from fasterseg.runtime.importers.published import (
    import_architecture,
    import_published,
    is_published_architecture,
)
from fasterseg.runtime.importers.restricted import load_foreign
from fasterseg.runtime.importers.weights import ImportedWeights, reference_state

ARCHITECTURE_NAME = "architecture.json"
CHECKPOINT_NAME = "best.pt"
REPORT_NAME = "import.json"
CITYSCAPES_SIZE: Size = (1024, 2048)

KindT = TypeVar("KindT", Architecture, ICNetArchitecture, PSPNetArchitecture)
Program = Literal["fasterseg", "icnet", "pspnet50", "resnet50"]
# a prefix that only that program's state dicts have; resnet50 comes last, because others contain its names
_MARKS: dict[Program, str] = {
    "fasterseg": "heads8.",
    "icnet": "head.cff_",
    "pspnet50": "ppm.",
    "resnet50": "layer4.",
}


@dataclass(frozen=True)
class ImportRequest:
    """What to import, and settings that the files do not contain.

    Attributes:
        source: A released `arch_*.pt`, or the weights of one of the programs.
        out: The folder to write to.
        weights: The `weights*.pt` that belongs to an `arch_*.pt`.
        architecture: File or preset that weights belong to; None if the weights determine it.
        branches: Branches of a released architecture.
        base_channels: F of a released architecture.
        dataset_file: `dataset.yaml` with the classes.
        num_classes: Classes of a network that starts from ImageNet weights.
        input_size: (height, width) that the checkpoint is meant for.
        overwrite: Whether files of an earlier import may be replaced.
    """

    source: Path
    out: Path
    weights: Path | None = None
    architecture: str | None = None
    branches: BranchChoice = "auto"
    base_channels: int = 12
    dataset_file: Path | None = None
    num_classes: int | None = None
    input_size: Size = CITYSCAPES_SIZE
    overwrite: bool = False


@dataclass(frozen=True)
class ImportResult:
    """What was imported.

    Attributes:
        program: The program that wrote the file.
        architecture: The architecture file written.
        checkpoint: The checkpoint written; None when only an architecture was given.
        dropped: Names of tensors in the source that our network does not use.
        uninitialised: Names of our tensors that have fresh values, because the source lacks them.
    """

    program: Program
    architecture: Path
    checkpoint: Path | None = None
    dropped: tuple[str, ...] = ()
    uninitialised: tuple[str, ...] = ()


def import_files(request: ImportRequest) -> ImportResult:
    """Reads published files and writes `architecture.json`, `best.pt` (where there are weights) and `import.json`.

    Nothing in the files is executed.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, holds more than tensors and plain values, is of no known program, or does not
            fit the architecture; or the output exists.
    """
    for name in (ARCHITECTURE_NAME, CHECKPOINT_NAME, REPORT_NAME):
        if (request.out / name).exists() and not request.overwrite:
            raise ValueError(f"{request.out / name} exists already; choose another --out, or pass --overwrite")
    if request.source.suffix == ".npy":
        raise ValueError(
            f"{request.source} looks like a latency table; import it with `python -m latency import "
            f"{request.source} --out latency_table.json` from the checkout"
        )
    data = load_foreign(request.source)
    if isinstance(data, Mapping) and is_published_architecture(data):
        architecture = import_architecture(
            data, source=str(request.source), branches=request.branches, base_channels=request.base_channels
        )
        if request.weights is None:
            return _write(request, "fasterseg", architecture, None, origins={"released": file_digest(request.source)})
        state = reference_state(load_foreign(request.weights), str(request.weights))
        imported = import_published(state, architecture, source=str(request.weights))
        origins = {"released": file_digest(request.source), "weights": file_digest(request.weights)}
        return _write(request, "fasterseg", architecture, imported, origins=origins)
    if request.weights is not None:
        raise ValueError(
            f"{request.source} holds no architecture parameters, but --weights is given; name the arch_*.pt first, or "
            "the weights alone with --architecture"
        )
    state = reference_state(data, str(request.source))
    program = _program(state, request.source)
    weights = _import_weights(program, state, request)
    origins = {"weights": file_digest(request.source)}
    return _write(request, program, weights.architecture, weights, origins=origins)


def _program(state: Mapping[str, torch.Tensor], source: Path) -> Program:
    for program, mark in _MARKS.items():
        if any(name.startswith(mark) for name in state):
            return program
    raise ValueError(
        f"{source} is of no program that can be imported ({', '.join(_MARKS)}); its names are "
        f"{', '.join(list(state)[:3])}, ..."
    )


def _import_weights(
    program: Program, state: Mapping[str, torch.Tensor], request: ImportRequest
) -> ImportedWeights[AnyArchitecture]:
    """The weights in the architecture that the request names, or that the weights determine."""
    source = str(request.source)
    named = None if request.architecture is None else resolve_architecture(request.architecture)
    if program == "icnet":
        # the public port exists with either stem
        recognised = ICNetArchitecture("deep" if "pretrained.conv1.0.weight" in state else "plain")
        return import_icnet(state, _of_kind(named or recognised, ICNetArchitecture, source), source=source)
    if program == "pspnet50":
        chosen = _of_kind(named or PSPNetArchitecture(), PSPNetArchitecture, source)
        return import_pspnet(state, chosen, source=source)
    if named is None:
        choice = "icnet or pspnet50, whose backbone they are for" if program == "resnet50" else "fasterseg-student"
        raise ValueError(f"{source} holds weights of {program}; name their architecture: --architecture {choice}")
    if program == "fasterseg":
        return import_published(state, _of_kind(named, Architecture, source), source=source)
    if request.num_classes is None and request.dataset_file is None:
        raise ValueError(f"{source} is an ImageNet backbone; say for how many classes, by --num-classes or --dataset")
    classes = imported_facts(request.num_classes, request.dataset_file).num_classes
    if isinstance(named, PSPNetArchitecture):
        return import_resnet50(state, named, num_classes=classes, source=source)
    return import_resnet50(state, _of_kind(named, ICNetArchitecture, source), num_classes=classes, source=source)


def _of_kind(architecture: AnyArchitecture, kind: type[KindT], source: str) -> KindT:
    if not isinstance(architecture, kind):
        raise ValueError(
            f"{source} holds weights for {kind.__name__}, but --architecture names {type(architecture).__name__}"
        )
    return architecture


def _write(
    request: ImportRequest,
    program: Program,
    architecture: AnyArchitecture,
    imported: ImportedWeights[AnyArchitecture] | None,
    *,
    origins: Mapping[str, str],
) -> ImportResult:
    """Writes the files of one import; the report last."""
    path = request.out / ARCHITECTURE_NAME
    checkpoint = None
    if imported is not None:
        checkpoint = request.out / CHECKPOINT_NAME
        dataset = imported_facts(imported.num_classes, request.dataset_file)
        save_network(
            checkpoint,
            NetworkCheckpoint(architecture, dataset, request.input_size, imported.weights, origins=origins),
        )
    write_text(path, json.dumps(architecture.to_dict(), indent=2) + "\n")
    result = ImportResult(
        program=program,
        architecture=path,
        checkpoint=checkpoint,
        dropped=() if imported is None else imported.dropped,
        uninitialised=() if imported is None else imported.uninitialised,
    )
    report = {
        "program": program,
        "source": request.source.name,
        "origins": dict(origins),
        "dropped": list(result.dropped),
        "uninitialised": list(result.uninitialised),
    }
    write_text(request.out / REPORT_NAME, json.dumps(report, indent=2) + "\n")
    return result
