from pathlib import Path
from typing import Any

import pytest

from fasterseg.networks import SpaceConfig
from search.parameters import ArchitectureParameters
from search.plots import plot_epochs, plot_operators, plot_paths, plot_widths, save_plot


@pytest.mark.parametrize("plot", [plot_paths, plot_operators, plot_widths])
def test_plots_of_parameters_are_pictures(space: SpaceConfig, tmp_path: Path, plot: Any) -> None:
    logits = ArchitectureParameters(space, "student").logits()
    picture = save_plot(plot(logits, space), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.std() > 0


def test_paths_draw_the_derived_branches(space: SpaceConfig) -> None:
    figure = plot_paths(ArchitectureParameters(space, "student").logits(), space)
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert [label for label in labels if label.startswith("branch")] == [
        "branch to 8",
        "branch to 16",
        "branch to 32",
    ]


def test_epochs_without_validation_leave_gaps() -> None:
    history = [
        {"epoch": 1, "expected_ms": 3.0, "derived_ms": 4.0, "budget_ms": 2.0},
        {"epoch": 2, "expected_ms": 2.5, "derived_ms": 3.0, "budget_ms": 2.0, "predicted_ms": 2.0, "miou": 0.3},
    ]
    above, below = plot_epochs(history).axes
    lengths = {line.get_label(): len(line.get_xdata()) for line in (*above.lines, *below.lines)}
    assert lengths == {
        "expected": 2,
        "derived, before fitting": 2,
        "student": 1,
        "budget": 2,
        "teacher": 0,
    }
