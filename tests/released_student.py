"""The released student (FasterSeg, Cityscapes), as its facts give it, and the reference's names for its weights."""

import re

from fasterseg.networks import Architecture, CellChoice
from fasterseg.networks.operators import OPERATOR_NAMES

OPERATORS = ([3, 3, 4, 2, 4, 4, 4, 4, 4, 4], [3, 3, 4, 4, 3, 3, 4, 4, 4])
SCALES = ([8, 8, 8, 8, 16, 16, 16, 16, 32, 32], [8, 8, 8, 8, 8, 8, 16, 16, 16])
WIDTHS_OF_12 = ([4, 4, 4, 8, 4, 4, 4, 4, 4], [4, 4, 4, 4, 4, 4, 4, 12])
HEAD_WIDTH = 8 / 12
NUM_CLASSES = 19


def released_student() -> Architecture:
    branches = []
    for operators, scales, widths in zip(OPERATORS, SCALES, WIDTHS_OF_12, strict=True):
        next_scales = [*scales[1:], scales[-1]]
        out_widths = [*(width / 12 for width in widths), HEAD_WIDTH]
        branches.append(
            tuple(
                CellChoice(OPERATOR_NAMES[operator], scale, after // scale, width)
                for operator, scale, after, width in zip(operators, scales, next_scales, out_widths, strict=True)
            )
        )
    return Architecture(
        base_channels=12, stem_width=HEAD_WIDTH, head_width=HEAD_WIDTH, branches=tuple(branches), shared_cells=3
    )


# the reference's names on the left; first match wins
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


def our_name(reference_name: str, shared_cells: int) -> str | None:
    """Our name of a reference weight; None for the reference's unused channel attention."""
    if ".channel_attention." in reference_name:
        return None
    cell = re.fullmatch(r"cells\.(\d+)-(\d)\._op\._op\.(conv|bn)(\d)\.(.+)", reference_name)
    if cell:
        layer, branch = int(cell[1]), int(cell[2])
        if layer < shared_cells:
            branch = 0
        elif branch > 0:
            layer -= shared_cells
        part = "conv" if cell[3] == "conv" else "norm"
        return f"branches.{branch}.{layer}.{part}{cell[4]}.{cell[5]}"
    for pattern, replacement in _RENAMES:
        name, count = re.subn(f"^{pattern}", replacement, reference_name)
        if count:
            for theirs, ours in _HEAD_PARTS.items():
                name = name.replace(theirs, ours)
            return name
    raise AssertionError(f"no rule maps {reference_name}")
