import json
from pathlib import Path

import pytest
import torch

from tests.reliability.results import describe_differences, read_digests, read_results


def write_run(folder: Path, *, weight: float = 0.5, loss: str = "0.1", duration_s: float = 1.0) -> Path:
    (folder / "student").mkdir(parents=True)
    (folder / "student/metrics.jsonl").write_text(f'{{"step": 1, "loss": {loss}}}\n')
    (folder / "student/summary.json").write_text(json.dumps({"miou": 0.25, "duration_s": duration_s}))
    (folder / "student/log.txt").write_text(f"took {duration_s} s")
    weights = {"stem": torch.full((2, 3), weight), "steps": torch.tensor(4)}
    torch.save({"weights": weights, "scores": {"miou": 0.25}}, folder / "student/best.pt")
    return folder


def test_when_and_how_fast_makes_no_difference(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b", duration_s=2.0)
    (second / "student/.best.pt.123.tmp").write_bytes(b"")
    assert describe_differences(read_results(first), read_results(second)) == []


@pytest.mark.parametrize("change", [{"weight": 0.5000001}, {"loss": "0.10000000000000002"}])
def test_the_last_digit_does(tmp_path: Path, change: dict[str, object]) -> None:
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b", **change)
    lines = describe_differences(read_results(first), read_results(second))
    assert lines and all(line.startswith("differs: student/") for line in lines)


def test_the_container_of_the_weights_does_not(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    state = torch.load(second / "student/best.pt", weights_only=True)
    torch.save(state, second / "student/best.pt", _use_new_zipfile_serialization=False)
    assert (first / "student/best.pt").read_bytes() != (second / "student/best.pt").read_bytes()
    assert describe_differences(read_results(first), read_results(second)) == []


def test_what_is_gone_and_what_is_new_is_told(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    (second / "student/metrics.jsonl").rename(second / "student/figures.jsonl")
    lines = describe_differences(read_results(first), read_results(second))
    assert [line.split(" (")[0] for line in lines] == [
        "gone: student/metrics.jsonl: line 1",
        "new: student/figures.jsonl: line 1",
    ]


def test_an_empty_file_is_a_difference(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    (second / "student/summary.json").write_text("")
    lines = describe_differences(read_results(first), read_results(second))
    assert "new: student/summary.json (is 'empty')" in lines


def test_a_dataset_is_held_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a.png b.png\n")
    before = read_digests(tmp_path)
    (tmp_path / "train.txt").write_text("b.png a.png\n")
    assert list(before) == ["train.txt"] and read_digests(tmp_path) != before
