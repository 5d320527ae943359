"""A model card as text: what `fasterseg info` prints."""

from fractions import Fraction

from fasterseg.networks import Architecture, CellChoice
from fasterseg.networks.families import AnyArchitecture
from fasterseg.runtime.card import ModelCard

_WIDTH_DENOMINATOR = 12


def describe_card(card: ModelCard) -> str:
    """Size, classes, architecture by branch, scores and origins, a line each."""
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
    """A width multiplier, as twelfths where it is some."""
    if width == 1:
        return "1"
    twelfths = Fraction(width * _WIDTH_DENOMINATOR).limit_denominator(1000)
    return f"{twelfths}/{_WIDTH_DENOMINATOR}" if twelfths.denominator == 1 else f"{width:g}"
