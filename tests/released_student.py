"""The released student (FasterSeg, Cityscapes), as its facts give it."""

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
