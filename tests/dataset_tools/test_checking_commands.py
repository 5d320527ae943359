import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dataset_tools.__main__ import app
from dataset_tools.description import DatasetDescription

Clean = Callable[..., DatasetDescription]


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["check", *(str(argument) for argument in arguments), "--workers", "1"])


def test_clean(clean: Clean, tmp_path: Path) -> None:
    root = clean().root
    result = invoke(root)
    assert result.exit_code == 0, result.output
    assert "no findings; train 4, val 2; all 6 pairs read; wrote nothing" in result.output
    assert "loss weight = 1 / ln(1.02 + share" in result.output
    assert "next: " in result.output


def test_errors_give_exit_code_1_and_reports(clean: Clean, tmp_path: Path) -> None:
    description = clean()
    description.samples("val")[1].image.unlink()
    json_file, html_file = tmp_path / "r" / "report.json", tmp_path / "r" / "report.html"
    result = invoke(description.root, "--json", json_file, "--html", html_file)
    assert result.exit_code == 1, result.output
    assert "error missing-file (1)" in result.output
    assert "val.txt:3" in result.output
    assert "mend: restore the files" in result.output
    content = json.loads(json_file.read_text())
    (finding,) = content["findings"]
    assert (finding["code"], finding["severity"], finding["count"]) == ("missing-file", "error", 1)
    assert "val 1.png" in finding["examples"][0]["detail"]
    assert content["splits"] == {"train": 4, "val": 2}
    assert [entry["name"] for entry in content["classes"]] == ["road", "car", "sky"]
    assert "missing-file" in html_file.read_text()


def test_warnings_give_exit_code_0(clean: Clean) -> None:
    result = invoke(clean().root, "--crop", "64x64")
    assert result.exit_code == 0, result.output
    assert "warning small-image (6)" in result.output
    assert "... and 2 more" in result.output


def test_groups(clean: Clean) -> None:
    result = invoke(clean().root, "--group-by", r"(\d)\.png")
    assert result.exit_code == 1
    assert "group '0': 1 in train (such as train 0.png), 1 in val (such as val 0.png)" in result.output


def test_crops_of_an_experiment_file(clean: Clean, tmp_path: Path) -> None:
    config = tmp_path / "experiment.yaml"
    config.write_text("teacher: {crop_size_px: [32, 64]}\nstudent: {crop_size_px: [32, 64], image_scale: 0.5}\n")
    result = invoke(clean().root, "--config", config)
    assert "less than the crop 32x64 at image_scale 0.5" in result.output
    assert "student" in result.output
    assert "teacher" not in result.output


def test_fast_reads_a_sample(clean: Clean) -> None:
    description = clean([f"{number}.png" for number in range(40)])
    result = invoke(description.root, "--fast")
    assert result.exit_code == 0, result.output
    assert "32 of 80 pairs read" in result.output
    description.samples("train")[0].image.write_bytes(b"damaged")
    assert invoke(description.root, "--fast").exit_code == 1


def test_malformed_description(clean: Clean, tmp_path: Path) -> None:
    root = clean().root
    (root / "dataset.yaml").write_text("name: x\nclasses: []\n")
    result = invoke(root, "--html", tmp_path / "report.html", "--fast")
    assert result.exit_code == 1
    assert "error description (2)" in result.output
    assert "splits: required, but not set" in result.output
    assert "splits: required, but not set" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--group-by", "("), "not a regular expression"),
        (("--fast", "--crop", "32x32"), "--fast looks at neither"),
        (("--fast", "--group-by", "x"), "--fast looks at neither"),
        (("--split", "tset"), "no split 'tset'"),
    ],
)
def test_wrong_use(clean: Clean, arguments: tuple[str, ...], message: str) -> None:
    result = invoke(clean().root, *arguments)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_split_is_all_that_is_read(clean: Clean) -> None:
    description = clean()
    description.samples("val")[1].image.unlink()
    assert invoke(description.root, "--split", "train").exit_code == 0
    assert invoke(description.root, "--split", "train+val").exit_code == 1


def test_strange_names_in_every_report(clean: Clean, tmp_path: Path) -> None:
    names = ["<script>alert(1)<∕script>.png", "\"'&.png", "東京 \x1b[31m.png", "line\nbreak.png"]
    description = clean(names)
    for sample in description.samples("train"):
        sample.image.write_bytes(b"damaged")
    json_file, html_file = tmp_path / "report.json", tmp_path / "report.html"
    result = invoke(description.root, "--json", json_file, "--html", html_file)
    assert "unreadable (4)" in result.output
    assert "\x1b[31m" not in result.output
    assert "\\x1b[31m" in result.output
    assert "line\\nbreak.png" in result.output
    page = html_file.read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "&#34;&#39;&amp;.png" in page
    assert "東京" in page
    assert "\x1b" not in page
    details = [example["detail"] for example in json.loads(json_file.read_text())["findings"][0]["examples"]]
    assert any("line\nbreak.png" in detail for detail in details)
