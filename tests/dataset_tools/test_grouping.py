from pathlib import Path

import pytest

from dataset_tools.grouping import compile_group_pattern, group_of


@pytest.mark.parametrize(
    ("pattern", "name", "group"),
    [
        (r"^[^_]+", "0016E5_07959.jpg", "0016E5"),
        (r"^([a-z]+)_(\d+)", "aachen_000003_000019.png", "aachen/000003"),
        (r"^a(b)?(c)", "ac.png", "/c"),
        (r"drive(\d)", "drive.png", None),
    ],
)
def test_group(pattern: str, name: str, group: str | None) -> None:
    assert group_of(Path("aachen_9") / name, compile_group_pattern(pattern)) == group


def test_malformed_pattern() -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        compile_group_pattern("[")
