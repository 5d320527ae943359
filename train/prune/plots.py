"""The plot of a pruning: the sorted filter norms of every group of layers, with the cut."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fasterseg.base.files import replacing
from train.prune.filters import FilterGroup, Plan

_COLUMNS = 6
_PANEL_INCHES = (3.1, 2.1)
_MARGIN_INCHES = 0.6


def plot_norms(groups: Sequence[FilterGroup], plan: Plan, path: Path) -> None:
    """Draws one panel for each group: norms from the largest to the smallest, kept ones dark, the cut as a line.

    Args:
        groups: The network's.
        plan: The filters that are kept.
        path: The PNG to write.
    """
    rows = math.ceil(len(groups) / _COLUMNS)
    # the margins are set by hand: automatic layouts of this many panels take seconds
    width, height = _PANEL_INCHES[0] * _COLUMNS, _PANEL_INCHES[1] * rows + _MARGIN_INCHES
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(
        left=0.05, right=0.99, bottom=_MARGIN_INCHES / height, top=1 - 0.4 / height, wspace=0.25, hspace=0.6
    )
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for panel, group in zip(panels, groups, strict=False):
        kept = len(plan[group.name])
        norms = np.sort(group.norms)[::-1]
        ranks = np.arange(1, group.size + 1)
        panel.fill_between(ranks, norms, step="mid", color="lightgrey")
        panel.fill_between(ranks[:kept], norms[:kept], step="mid", color="steelblue")
        panel.axvline(kept + 0.5, color="firebrick", linewidth=1)
        panel.set_ylim(bottom=0)
        coupled = "" if len(group.convolutions) == 1 else f" (+{len(group.convolutions) - 1})"
        panel.set_title(f"{group.name.removesuffix('.conv')}{coupled}\n{kept} of {group.size}", fontsize=7)
        panel.tick_params(labelsize=6)
        panel.locator_params(nbins=3)
    for panel in panels[len(groups) :]:
        panel.set_visible(False)
    figure.supxlabel("filters, largest L1 norm first")
    figure.supylabel("L1 norm")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)
