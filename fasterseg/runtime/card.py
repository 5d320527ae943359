"""The model card: all that deployment needs of a trained network besides its weights.

It is made from a checkpoint, and an exported file carries it as JSON in its ONNX metadata. So prediction, evaluation
and `fasterseg info` treat both alike.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction

from pydantic import TypeAdapter, ValidationError

from fasterseg.base.errors import describe_validation
from fasterseg.base.jsonfile import load_json
from fasterseg.engine.checkpoint import DatasetFacts, NetworkCheckpoint, check_facts
from fasterseg.networks import Architecture, CellChoice, Size, measure_size
from fasterseg.networks.families import AnyArchitecture, architecture_from_dict

METADATA_KEY = "fasterseg"
FORMAT = "fasterseg-export"
FORMAT_VERSION = 2
_WIDTH_DENOMINATOR = 12


@dataclass(frozen=True)
class ModelCard:
    """Facts about a trained network.

    Attributes:
        architecture: Architecture of the network, of any family.
        dataset: Classes, colours and normalisation.
        input_size: (height, width) that an exported file is fixed to, or that a checkpoint was searched for.
        parameters: Number of trainable parameters, auxiliary heads included.
        macs: Multiply-accumulates of one evaluation at the input size.
        origins: Hashes of its source files, by role.
        scores: Metrics of the network, such as `miou`.
    """

    architecture: AnyArchitecture
    dataset: DatasetFacts
    input_size: Size
    parameters: int
    macs: int
    origins: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """The card as strict JSON; scores that are not finite (such as an absent class's IoU) are left out."""
        data = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(self)}
        data["architecture"] = self.architecture.to_dict()
        data["scores"] = {name: score for name, score in self.scores.items() if math.isfinite(score)}
        return json.dumps(data, allow_nan=False)

    @staticmethod
    def from_json(text: str, source: str) -> "ModelCard":
        """The card that `to_json` wrote.

        Args:
            text: The JSON.
            source: What an error message calls it, such as its file.

        Raises:
            ValueError: It is no JSON, of another format or version, or fields are missing or of another type.
        """
        data = load_json(text, f"{source}: the '{METADATA_KEY}' metadata")
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"{source}: the '{METADATA_KEY}' metadata is not of format '{FORMAT}'")
        if data.get("version") != FORMAT_VERSION:
            raise ValueError(
                f"{source} was exported with format version {data.get('version')}, this release reads "
                f"{FORMAT_VERSION}; export the checkpoint again with `fasterseg export`"
            )
        data["architecture"] = architecture_from_dict(data.get("architecture"), f"{source}: architecture")
        try:
            card = _CARD.validate_python(data)
        except ValidationError as error:
            problems = describe_validation(error)
            raise ValueError(f"{source}: the '{METADATA_KEY}' metadata is damaged: {'; '.join(problems)}") from error
        check_facts(card.dataset, card.input_size, source)
        return card


_CARD = TypeAdapter(ModelCard)


def checkpoint_card(
    checkpoint: NetworkCheckpoint, *, input_size: Size | None = None, origins: Mapping[str, str] | None = None
) -> ModelCard:
    """The card of a network checkpoint.

    Args:
        checkpoint: The trained network.
        input_size: (height, width) to describe it at; its own when None.
        origins: Hashes to add to the checkpoint's own, by role.
    """
    size = checkpoint.input_size if input_size is None else input_size
    parameters, macs = measure_size(checkpoint.build(), size)
    return ModelCard(
        architecture=checkpoint.architecture,
        dataset=checkpoint.dataset,
        input_size=size,
        parameters=parameters,
        macs=macs,
        origins={**checkpoint.origins, **(origins or {})},
        scores=checkpoint.scores,
    )


def describe_card(card: ModelCard) -> str:
    """A card as text for `fasterseg info`: size, classes, architecture by branch, scores and origins, a line each."""
    height, width = card.input_size
    lines = [
        f"input size    {height}x{width}",
        f"parameters    {card.parameters:,} (auxiliary training heads included)",
        f"GMACs         {card.macs / 1e9:.3f}",
        f"normalization mean {list(card.dataset.mean)}, std {list(card.dataset.std)}",
        *_describe_architecture(card.architecture),
        f"classes       {card.dataset.num_classes}, ignore index {card.dataset.ignore_index}",
    ]
    label_ids = card.dataset.label_ids or [None] * card.dataset.num_classes
    for index, (name, color, label) in enumerate(
        zip(card.dataset.class_names, card.dataset.colors, label_ids, strict=True)
    ):
        lines.append(f"  {index:3d} {name}, color {list(color)}" + ("" if label is None else f", label id {label}"))
    lines += [f"score         {name} {score:.4f}" for name, score in card.scores.items()]
    lines += [f"origin        {role} {digest}" for role, digest in card.origins.items()]
    return "\n".join(lines)


def _describe_architecture(architecture: AnyArchitecture) -> list[str]:
    if not isinstance(architecture, Architecture):
        fields = architecture.to_dict()
        family, _ = fields.pop("format"), fields.pop("version")
        return [f"architecture  {family}: " + ", ".join(f"{name} {value}" for name, value in fields.items())]
    lines = [
        f"architecture  base channels {architecture.base_channels}, stem width {_width(architecture.stem_width)}, "
        f"head width {_width(architecture.head_width)}, shared cells {architecture.shared_cells}"
    ]
    for branch in architecture.branches:
        lines.append(f"  branch to stride {branch[-1].out_scale} ({len(branch)} cells)")
        lines += [f"    {layer:2d} {_describe_cell(cell)}" for layer, cell in enumerate(branch)]
    return lines


def _describe_cell(cell: CellChoice) -> str:
    return f"{cell.operator:<15} stride {cell.scale:2d} -> {cell.out_scale:2d}, width {_width(cell.width)}"


def _width(width: float) -> str:
    """A width multiplier, in twelfths if it is a multiple of 1/12."""
    if width == 1:
        return "1"
    twelfths = Fraction(width * _WIDTH_DENOMINATOR).limit_denominator(1000)
    return f"{twelfths}/{_WIDTH_DENOMINATOR}" if twelfths.denominator == 1 else f"{width:g}"
