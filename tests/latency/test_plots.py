from pathlib import Path

import cv2
import pytest

from latency.plots import Bar, plot_comparison, plot_validation, save_figure


def test_a_validation_shows_every_network_and_its_error() -> None:
    figure = plot_validation([10.0, 20.0, 30.0], [11.0, 20.0, 27.0], title="a target")
    above, below = figure.axes
    assert above.collections[0].get_offsets().tolist() == [[10.0, 11.0], [20.0, 20.0], [30.0, 27.0]]
    assert below.collections[0].get_offsets()[:, 1].tolist() == pytest.approx([10.0, 0.0, -10.0])


def test_a_comparison_has_a_bar_for_each_network_on_each_runner() -> None:
    bars = {
        "onnxruntime": {"a": Bar(1.0, 0.1), "b": Bar(2.0, 0.1)},
        "openvino": {"a": Bar(3.0, 0.1), "b": Bar(4.0, 0.1)},
    }
    (axes,) = plot_comparison(bars, title="a target").axes
    assert [patch.get_width() for patch in axes.patches] == [1.0, 2.0, 3.0, 4.0]
    heights = [patch.get_y() for patch in axes.patches]
    assert len(set(heights)) == 4, "no bar covers another"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert "unsteady" not in axes.get_xlabel()


def test_what_is_unsteady_or_left_out_shows() -> None:
    bars = {"onnxruntime": {"a": Bar(1.0, 0.1), "b": Bar(2.0, 0.1)}, "pytorch": {"a": Bar(3.0, 0.1, stable=False)}}
    (axes,) = plot_comparison(bars, title="a target").axes
    assert [text.get_text() for text in axes.texts] == [" 1.000", " 2.000", " 3.000 *"]
    assert "*: unsteady" in axes.get_xlabel()
    alone = axes.patches[1]
    assert alone.get_y() + alone.get_height() / 2 == pytest.approx(1.0), "in the middle of its network's group"


def test_figures_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "plot.png"
    save_figure(plot_validation([1.0, 2.0], [1.0, 2.0], title="t"), path)
    picture = cv2.imread(str(path))
    assert picture is not None and picture.std() > 5
    assert [file.name for file in path.parent.iterdir()] == ["plot.png"]
