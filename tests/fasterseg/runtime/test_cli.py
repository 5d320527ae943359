import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fasterseg.engine.checkpoint import NetworkCheckpoint
from fasterseg.runtime.card import describe_card
from fasterseg.runtime.cli import main
from fasterseg.runtime.load import load_card, load_predictor

BERLIN = "berlin/berlin_000000_000019_leftImg8bit.png"


class Outcome:
    """What a run of the program gave: exit code, standard output, standard error."""

    def __init__(self, code: int, output: str, errors: str) -> None:
        self.code, self.output, self.errors = code, output, errors


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def execute(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fasterseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            main()
        code = exit_info.value.code
        captured = capsys.readouterr()
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    return execute


def test_predict_an_image_says_what_it_wrote(run: Run, checkpoint_file: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = run("predict", checkpoint_file, folder / BERLIN, "--out", out, "--input-size", "32x64")
    assert outcome.code == 0, outcome.errors
    for kind in ("index", "color", "overlay"):
        assert f"wrote {out / kind}" in outcome.output
        assert (out / kind / Path(BERLIN).name).is_file()


def test_predict_a_folder_with_an_exported_file(run: Run, onnx_file: Path, folder: Path, tmp_path: Path) -> None:
    out, submission = tmp_path / "out", tmp_path / "s.zip"
    arguments = ("--label-ids", "--only", "index", "--only", "color", "--submission", submission)
    outcome = run("predict", onnx_file, folder, "--out", out, *arguments)
    assert outcome.code == 0, outcome.errors
    assert sorted(path.name for path in out.iterdir()) == ["color", "index", "label_ids"]
    assert "predicted 2 image(s)" in outcome.output
    assert f"wrote {submission}" in outcome.output
    assert (out / "index" / BERLIN).is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input-size", "32x32"], "fixed to input size 64x96"),
        (["--index-frames"], "is not a video; --index-frames is for videos"),
        (["--opacity", "2"], "opacity is 2.0"),
    ],
)
def test_user_errors_are_one_message_and_exit_code_2(
    run: Run, onnx_file: Path, folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    outcome = run("predict", onnx_file, folder, "--out", tmp_path / "out", *arguments)
    assert outcome.code == 2
    assert outcome.errors.startswith("error: ")
    assert message in outcome.errors
    assert "Traceback" not in outcome.errors
    assert not (tmp_path / "out").exists()


def test_sources_of_no_known_kind(run: Run, onnx_file: Path, folder: Path, tmp_path: Path) -> None:
    outcome = run("predict", onnx_file, folder / "notes.txt", "--out", tmp_path / "out")
    assert (outcome.code, "notes.txt is of no known kind; expected .png" in outcome.errors) == (2, True)
    outcome = run("predict", onnx_file, folder / "absent", "--out", tmp_path / "out")
    assert (outcome.code, "image not found" in outcome.errors) == (2, True)
    outcome = run("predict", onnx_file, folder / "a.mp4", "--out", tmp_path / "out", "--label-ids")
    assert (outcome.code, "is a video; --only, --label-ids" in outcome.errors) == (2, True)


def test_export_then_predict(run: Run, checkpoint_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    outcome = run("export", checkpoint_file, "--out", path, "--input-size", "33x47")
    assert outcome.code == 0, outcome.errors
    assert re.search(r"agree with PyTorch's to \d\.\de-\d+", outcome.output)
    assert f"wrote {path}: input 33x47" in outcome.output
    assert "next: fasterseg predict" in outcome.output
    assert load_predictor(path).input_size == (33, 47)
    outcome = run("export", checkpoint_file, "--out", path)
    assert (outcome.code, "exists already" in outcome.errors) == (2, True)


@pytest.mark.parametrize("exported", [False, True], ids=["checkpoint", "onnx"])
def test_info_tells_all(
    run: Run, checkpoint: NetworkCheckpoint, checkpoint_file: Path, onnx_file: Path, exported: bool
) -> None:
    outcome = run("info", onnx_file if exported else checkpoint_file)
    assert outcome.code == 0, outcome.errors
    card = load_card(checkpoint_file)
    for text in (
        f"parameters    {card.parameters:,}",
        f"GMACs         {card.macs / 1e9:.3f}",
        "input size    64x96",
        "classes       4, ignore index 255",
        "0 road, color [128, 64, 128], label id 7",
        "branch to stride 32 (4 cells)",
        "skip            stride 16 -> 32, width 6/12",
        "score         miou 0.5000",
        "origin        architecture 0123456789abcdef",
    ):
        assert text in outcome.output
    assert ("origin        checkpoint" in outcome.output) is exported


def test_info_counts_a_checkpoint_at_any_size(checkpoint_file: Path) -> None:
    small, large = (load_card(checkpoint_file, input_size=size) for size in ((64, 64), (128, 128)))
    assert large.macs == 4 * small.macs
    assert "input size    128x128" in describe_card(large)


def test_usage_errors_and_help() -> None:
    result = subprocess.run([sys.executable, "-m", "fasterseg.runtime", "prdict"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "No such command 'prdict'" in result.stderr
