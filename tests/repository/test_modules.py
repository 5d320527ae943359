import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("search", "train", "latency", "fasterseg", "dataset_tools")


def modules() -> list[str]:
    names = ["pipeline"]
    for room in ROOMS:
        names.append(room)
        names += [info.name for info in pkgutil.walk_packages([str(ROOT / room)], f"{room}.")]
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("name", modules())
def test_every_module_imports_and_says_what_it_is(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__ and len(module.__doc__) > 20


def test_the_installed_package_imports_without_the_checkout(tmp_path: Path) -> None:
    """A deployer has only `fasterseg`: nothing in it may need a room of the checkout or a heavy optional runtime."""
    (tmp_path / "fasterseg").symlink_to(ROOT / "fasterseg")
    names = [name for name in modules() if name.startswith("fasterseg")]
    code = "import sys\n" + "\n".join(f"import {name}" for name in names)
    code += "\nassert not {'openvino', 'tensorrt', 'torchvision'} & set(sys.modules), 'heavy import'"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_no_room_imports_the_pipeline() -> None:
    """import-linter reads packages only, so the one module on top of them is checked here."""
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    assert len(files) > 50
    statement = re.compile(r"^\s*(?:import|from) pipeline\b", re.MULTILINE)
    assert [file for file in files if statement.search(file.read_text())] == []
