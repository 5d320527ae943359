import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
CLIS = [
    ["-m", "dataset_tools"],
    ["-m", "latency"],
    ["-m", "search"],
    ["-m", "train"],
    ["-m", "fasterseg.runtime"],
    ["pipeline.py"],
]
# where a program's command line is, if not in its __main__
APPS = {"fasterseg.runtime": "cli"}


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("command", CLIS, ids=" ".join)
def test_every_command_line_explains_itself(command: list[str]) -> None:
    result = run([*command, "--help"])
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout


def readme_commands() -> list[tuple[str, str]]:
    """Every (program, subcommand) that the README shows in a shell block."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    found = set()
    for line in lines:
        match = re.match(r"(?:\.venv/bin/)?(?:python -m (\w+)|(fasterseg)) ([\w-]+)", line)
        if match:
            found.add((match[1] or "fasterseg.runtime", match[3]))
    return sorted(found)


def test_the_readme_shows_commands() -> None:
    assert len(readme_commands()) >= 6


@pytest.mark.parametrize(("program", "command"), readme_commands())
def test_every_command_of_the_readme_exists(program: str, command: str) -> None:
    # the programs themselves are started by the test above; here the commands of each are asked in this process
    app = importlib.import_module(f"{program}.{APPS.get(program, '__main__')}").app
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0, result.output
    assert command in result.output


def test_every_path_the_readme_links_to_exists() -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / "README.md").read_text())
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
