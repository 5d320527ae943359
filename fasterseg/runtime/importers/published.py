"""The released FasterSeg program's files: `arch_*.pt` into an architecture of ours, `weights*.pt` into its weights.

The architecture is read by the released program's own path rule (`derivation.published_path`); a search of ours
derives by the most probable path instead.
"""

import re
from collections.abc import Mapping

import numpy as np
import torch

from fasterseg.networks import Architecture, DerivedNetwork, SpaceConfig
from fasterseg.networks.derivation import ArchitectureLogits, derive_architecture
from fasterseg.networks.space import BRANCH_PAIRS, STRIDES, ArchitectureSet
from fasterseg.runtime.choices import BranchChoice
from fasterseg.runtime.importers.weights import ImportedWeights, class_count, fit_weights

_SETS: tuple[ArchitectureSet, ...] = ("teacher", "student")
_CLASSIFIER = "heads8.conv_1x1.weight"
_LATENCY_UNIT_MS = 8.3
_LATENCY_POWER = -0.07

_BRANCHES = {"32-16": BRANCH_PAIRS[0], "32-8": BRANCH_PAIRS[1]}
# suffix of the scores of each pair of branches in the file: their indices among the strides
_FIGURES = {"32-16": "12", "32-8": "02"}


def is_published_architecture(data: object) -> bool:
    """Whether a loaded file holds architecture parameters by the released program's names."""
    return isinstance(data, Mapping) and any(re.fullmatch(r"alpha_[01]_0", str(name)) for name in data)


def import_architecture(
    data: Mapping[str, object], *, source: str, branches: BranchChoice = "auto", base_channels: int = 12
) -> Architecture:
    """The architecture in a released `arch_*.pt`.

    Args:
        data: What the file holds.
        source: What an error message calls it.
        branches: Which two branches form the network; `auto` takes the pair that the file's figures favour by
            mIoU·(latency / 8.3 ms)^-0.07, and [32, 16] when it has none.
        base_channels: F, which the file does not contain.

    Raises:
        ValueError: A parameter is missing, or of another shape than the others imply.
    """
    index = 0 if "alpha_0_0" in data else 1
    logits = ArchitectureLogits(
        operators={stride: _scores(data, f"alpha_{index}_{k}", source) for k, stride in enumerate(STRIDES)},
        parents={stride: _scores(data, f"beta_{index}_{k}", source) for k, stride in enumerate(STRIDES) if k},
        widths={stride: _scores(data, f"ratio_{index}_{k}", source) for k, stride in enumerate(STRIDES)},
    )
    space = SpaceConfig(layers=len(logits.operators[STRIDES[0]]), base_channels=base_channels)
    _check_shapes(logits, space, index=index, source=source)
    pair = _BRANCHES[_favoured(data) if branches == "auto" else branches]
    return derive_architecture(logits, space, architecture_set=_SETS[index], ends=pair, path_rule="published")


def import_published(
    state: Mapping[str, torch.Tensor], architecture: Architecture, *, source: str
) -> ImportedWeights[Architecture]:
    """A derived network with the weights of a released `weights*.pt`.

    The program's unused channel attention is dropped. The file holds a shared cell once per branch, with equal values;
    those of the later branch are used.

    Args:
        state: Its state dict; see `reference_state`.
        architecture: The architecture it was trained with.
        source: What an error message calls it.

    Raises:
        ValueError: It is no such network, or a tensor does not fit the architecture.
    """
    network = DerivedNetwork(architecture, class_count(state, _CLASSIFIER, source))

    def our_name(name: str) -> str | None:
        return _our_name(name, architecture.shared_cells)

    return fit_weights(state, our_name, network, architecture=architecture, source=source)


def _scores(data: Mapping[str, object], name: str, source: str) -> np.ndarray:
    value = data.get(name)
    if not isinstance(value, torch.Tensor) or value.ndim != 2:
        found = "nothing" if value is None else type(value).__name__
        raise ValueError(f"{source}: {name} is {found}, expected a parameter of shape (cells, choices)")
    return value.detach().cpu().numpy()


def _check_shapes(logits: ArchitectureLogits, space: SpaceConfig, *, index: int, source: str) -> None:
    choices = len(space.set_widths(_SETS[index]))
    expected = {}
    for k, stride in enumerate(STRIDES):
        expected[f"alpha_{index}_{k}", stride] = (logits.operators, (space.layers - k, len(space.operators)))
        expected[f"ratio_{index}_{k}", stride] = (logits.widths, (space.layers - max(k, 1), choices))
        if k:
            expected[f"beta_{index}_{k}", stride] = (logits.parents, (space.layers - k - 1, 2))
    for (name, stride), (group, shape) in expected.items():
        if group[stride].shape != shape:
            raise ValueError(
                f"{source}: {name} has shape {group[stride].shape}, expected {shape} for {space.layers} layers, "
                f"{len(space.operators)} operators and {choices} widths"
            )


def _favoured(data: Mapping[str, object]) -> str:
    scores = {}
    for pair, suffix in _FIGURES.items():
        miou, latency_ms = data.get(f"mIoU{suffix}"), data.get(f"latency{suffix}")
        if isinstance(miou, float) and isinstance(latency_ms, float) and latency_ms > 0:
            scores[pair] = float(miou) * (latency_ms / _LATENCY_UNIT_MS) ** _LATENCY_POWER
    return max(scores, key=lambda pair: scores[pair], default=next(iter(_FIGURES)))


# the released program's names on the left; first match wins
_RENAMES = [
    (r"stem\.0\.conv\.0", "stem.0.conv"),
    (r"stem\.0\.conv\.1", "stem.0.norm"),
    (r"stem\.(\d)\.conv(\d)", r"stem.\1.conv\2"),
    (r"stem\.(\d)\.bn(\d)", r"stem.\1.norm\2"),
    (r"heads8\.", "head."),
    (r"heads(16|32)\.", r"auxiliary_heads.\1."),
    (r"arms32\.(\d)\.conv\.0", r"fusions.0.steps.\1.project.conv"),
    (r"arms32\.(\d)\.conv\.1", r"fusions.0.steps.\1.project.norm"),
    (r"refines32\.(\d)\.conv\.0", r"fusions.0.steps.\1.refine.conv"),
    (r"refines32\.(\d)\.conv\.1", r"fusions.0.steps.\1.refine.norm"),
    (r"arms16\.conv\.0", "fusions.1.steps.0.project.conv"),
    (r"arms16\.conv\.1", "fusions.1.steps.0.project.norm"),
    (r"refines16\.conv\.0", "fusions.1.steps.0.refine.conv"),
    (r"refines16\.conv\.1", "fusions.1.steps.0.refine.norm"),
    (r"ffm\.conv_1x1\.conv", "ffm.conv"),
    (r"ffm\.conv_1x1\.bn", "ffm.norm"),
]
_HEAD_PARTS = {"conv_3x3.conv": "block.conv", "conv_3x3.bn": "block.norm", "conv_1x1": "classifier"}


def _our_name(name: str, shared_cells: int) -> str | None:
    """Our name of a released weight; None for weights that we do not use."""
    cell = re.fullmatch(r"cells\.(\d+)-(\d)\._op\._op\.(conv|bn)(\d)\.(.+)", name)
    if cell:
        layer, branch = int(cell[1]), int(cell[2])
        if layer < shared_cells:
            branch = 0
        elif branch > 0:
            layer -= shared_cells
        part = "conv" if cell[3] == "conv" else "norm"
        return f"branches.{branch}.{layer}.{part}{cell[4]}.{cell[5]}"
    for pattern, replacement in _RENAMES:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            for theirs, ours in _HEAD_PARTS.items():
                renamed = renamed.replace(theirs, ours)
            return renamed
    return None
