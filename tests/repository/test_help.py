"""Every `--help` answers at once: nothing of what takes seconds to import is imported for it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# what takes seconds, or is not needed to explain oneself
HEAVY = ("torch", "lightning_fabric", "lightning", "onnx", "onnxruntime", "openvino", "matplotlib", "scipy")
IMAGES = ("cv2", "PIL")  # the data tools are about images: these take a fraction of a second
PROGRAMS = ("pipeline", "search.__main__", "train.__main__", "latency.__main__", "fasterseg.runtime.cli")
# one process for each program: it refuses heavy imports, then asks every command for its help
ASK = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            raise AssertionError(f"--help imports {{name}}")

sys.meta_path.insert(0, Refuse())
import typer.main
from typer.testing import CliRunner

app = importlib.import_module({program!r}).app

def commands(command, names):
    yield names
    for name, inner in getattr(command, "commands", {{}}).items():
        yield from commands(inner, [*names, name])

asked = 0
for names in commands(typer.main.get_command(app), []):
    result = CliRunner().invoke(app, [*names, "--help"], catch_exceptions=False, env={{"COLUMNS": "200"}})
    assert result.exit_code == 0 and "Usage" in result.output, names
    assert "<bool>" not in result.output, names
    asked += 1
print(asked)
"""


@pytest.mark.parametrize(
    ("program", "heavy"), [*((name, HEAVY + IMAGES) for name in PROGRAMS), ("dataset_tools.__main__", HEAVY)]
)
def test_help_imports_nothing_heavy(program: str, heavy: tuple[str, ...]) -> None:
    code = ASK.format(heavy=heavy, program=program)
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= (1 if program == "pipeline" else 3)


@pytest.mark.parametrize(
    "module", ["train.config", "search.config", "latency.config", "dataset_tools.config", "fasterseg.networks.space"]
)
def test_settings_are_read_without_pytorch(module: str) -> None:
    code = f"import sys, {module}; assert not set({HEAVY + IMAGES!r}) & set(sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
