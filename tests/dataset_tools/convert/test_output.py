from pathlib import Path

import numpy as np
import pytest

from dataset_tools.convert.output import check_output, map_mask


def test_map_mask() -> None:
    mask = np.array([[0, 3], [3, 700]], np.uint16)
    assert map_mask(mask, {0: 1, 3: 0, 700: 255}, Path("m.png")).tolist() == [[1, 0], [0, 255]]


def test_unknown_values_are_counted() -> None:
    with pytest.raises(
        ValueError, match=r"m\.png holds unknown values: 3 \(2 pixels\), 9 \(1 pixels\); known are \[0\]"
    ):
        map_mask(np.array([[0, 3], [3, 9]]), {0: 0}, Path("m.png"))


def test_output_and_source_are_apart(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for out in (source, source / "inner", tmp_path, tmp_path / "other" / ".." / "source"):
        with pytest.raises(ValueError, match="overlap"):
            check_output(source, out)
    check_output(source, tmp_path / "source2")
    with pytest.raises(FileNotFoundError, match="none"):
        check_output(tmp_path / "none", tmp_path / "out")
