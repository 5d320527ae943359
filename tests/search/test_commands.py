import re
from typing import Any

import pytest
from typer.testing import CliRunner

from search.__main__ import app

CLI = CliRunner()


def test_both_commands_say_what_they_wrote_and_what_comes_next(runner: Any) -> None:
    folder, config = runner.folder, ["--config", str(runner.file)]
    done = CLI.invoke(app, ["pretrain", *config, "--out", str(folder / "pre"), "--set", "pretrain.epochs=1"])
    assert done.exit_code == 0, done.output
    assert (folder / "pre" / "best.pt").is_file()
    assert f"next: python -m search search --config {runner.file}" in done.output
    files = ["--table", str(folder / "latency_table.json"), "--pretrained", str(folder / "pre" / "best.pt")]
    done = CLI.invoke(app, ["search", *config, *files, "--out", str(folder / "found"), "--set", "search.epochs=1"])
    assert done.exit_code == 0, done.output
    assert (folder / "found" / "architecture_student.json").is_file()
    assert "architecture_student.json" in done.output
    assert f"next: python -m train teacher --config {runner.file}" in done.output


def test_unknown_key_offers_the_nearest_one(runner: Any) -> None:
    result = CLI.invoke(app, ["search", "--config", str(runner.file), "--set", "search.latency.weigth=1"])
    assert isinstance(result.exception, ValueError)
    assert "did you mean 'weight'?" in str(result.exception)


def test_a_folder_of_another_experiment_is_refused(runner: Any) -> None:
    runner.pretrain("pre", "pretrain.epochs=1")
    with pytest.raises(ValueError, match=re.escape("pretrain.lr is 0.02 there, 0.1 here")):
        runner.pretrain("pre", "pretrain.epochs=1", "pretrain.lr=0.1")


@pytest.mark.parametrize("command", ["pretrain", "search"])
def test_help(command: str) -> None:
    result = CLI.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "--config" in result.output
