"""Files and their names as other programs leave them: hidden files and clutter, linked folders, names of Windows."""

import fnmatch
import os
from pathlib import Path, PurePath

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_MAC_FOLDER = "__MACOSX"


def is_clutter(name: str) -> bool:
    """Whether a path, by its name with `/`, is what macOS leaves in archives and on other disks: `._x`, `__MACOSX`."""
    return any(part.startswith("._") or part == _MAC_FOLDER for part in name.split("/"))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data: hidden, or clutter."""
    return name.startswith(".") or is_clutter(name)


def find_paths(folder: Path, pattern: str, *, deep: bool = False) -> list[Path]:
    """The files of a folder, less the hidden ones.

    Args:
        folder: The folder; one that does not exist has none.
        pattern: What their names fit, such as `*.json`.
        deep: Look in the folders below, too, linked ones included; a link back to where it lies in is not followed.

    Returns:
        The paths in the order of their names.
    """
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        found += [Path(place, name) for name in fnmatch.filter(names, pattern) if not is_hidden(name)]
        real = os.path.realpath(place)
        folders[:] = [name for name in folders if deep and not is_hidden(name) and not _holds(place, name, real)]
    return sorted(found)


def _holds(place: str, name: str, real: str) -> bool:
    """Whether a folder is a link to one that it lies in."""
    path = Path(place, name)
    return path.is_symlink() and PurePath(real).is_relative_to(path.resolve())


def count_clutter(folder: Path) -> int:
    """How many files below a folder are clutter of macOS."""
    return sum(
        is_clutter(Path(place, name).relative_to(folder).as_posix())
        for place, _, names in os.walk(folder)
        for name in names
    )


def path_below(folder: Path, name: str) -> Path:
    """A path that a file of another program names; `/` for the backslashes of Windows where those are no file."""
    path = folder / name
    return folder / name.replace("\\", "/") if "\\" in name and not path.exists() else path


def without_image_ending(name: str) -> str:
    """A file name less the ending of an image: `a/b.1.jpg` to `a/b.1`, while `scene.0001` stays."""
    ending = PurePath(name).suffix
    return name.removesuffix(ending) if ending.lower() in IMAGE_ENDINGS else name
