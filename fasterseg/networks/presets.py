"""Named architectures that come with the toolkit, as data files: the released FasterSeg networks and the baselines.

A preset is an architecture file like any other, so whatever takes a file also takes the name of a preset.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fasterseg.networks.families import AnyArchitecture

_FOLDER = Path(__file__).with_name("preset_files")

PRESETS: tuple[str, ...] = tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def architecture_path(name_or_path: str | Path) -> Path:
    """The architecture file that a command line names: a file, or else a preset.

    Raises:
        FileNotFoundError: There is no such file, and no such preset.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if str(name_or_path) in PRESETS:
        return _FOLDER / f"{name_or_path}.json"
    raise FileNotFoundError(
        f"no architecture file at {path}; name a file (`python -m search search` writes one), or one of the presets "
        f"{', '.join(PRESETS)}"
    )


def load_preset(name: str) -> "AnyArchitecture":
    """The architecture of a preset.

    Raises:
        ValueError: There is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; presets: {', '.join(PRESETS)}")
    return resolve_architecture(_FOLDER / f"{name}.json")


def resolve_architecture(name_or_path: str | Path) -> "AnyArchitecture":
    """The architecture in a file or of a preset; see `architecture_path` and `load_architecture`."""
    # imported here because it needs PyTorch, and `--help` lists the presets without PyTorch
    from fasterseg.networks.families import load_architecture

    return load_architecture(architecture_path(name_or_path))
