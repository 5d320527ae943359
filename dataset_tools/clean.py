"""Removing what these tools made, and nothing else.

A file is removed only when one of these holds:

- it stands in the `made_files.txt` of a folder that a command claimed, and has the size and time noted there;
- it is a pack, by its first bytes;
- it is a part of an unfinished download, or has a temporary name, in a claimed folder: a command was cut off.

Everything else is kept, and named.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from dataset_tools.description import DESCRIPTION_NAME, load_description
from dataset_tools.files import CLAIM_NAME, MADE_NAME, mark_of, read_made
from dataset_tools.pack import PACKS_FOLDER, is_pack
from dataset_tools.pull.archive import DOWNLOAD_FOLDER
from dataset_tools.split import SPLITS_FOLDER

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


@dataclass(frozen=True)
class CleanPlan:
    """Which files would be removed and which would stay.

    Attributes:
        root: The folder.
        files: Files and links that would be removed, with their sizes in bytes.
        kept: Files and folders that stay although they may be expected to go, and why.
    """

    root: Path
    files: dict[Path, int]
    kept: dict[Path, str]

    @property
    def size_bytes(self) -> int:
        """Bytes that would be freed; a link frees none of its target's."""
        return sum(self.files.values())


def plan_clean(root: Path, *, everything: bool = False) -> CleanPlan:
    """Finds what these tools made in a folder.

    Args:
        root: The folder.
        everything: Also the dataset itself, where a command made it. Otherwise only what can be made again from the
            dataset or is left over: packs, lists of divisions that `dataset.yaml` does not name, temporary files.

    Returns:
        The plan; nothing is removed yet.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: A record of what was made is damaged.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"folder not found: {root}")
    files = {path: path.lstat().st_size for path in sorted((root / PACKS_FOLDER).glob("*")) if _is_of_packing(path)}
    kept: dict[Path, str] = {}
    description = root / DESCRIPTION_NAME
    goes = everything and (root / MADE_NAME).is_file()
    in_use = _lists_in_use(root) if description.is_file() and not goes else frozenset()
    for folder in _claimed_folders(root):
        is_division = folder.parent.name == SPLITS_FOLDER
        files.update(_temporary_files(folder))
        if is_division and folder in in_use:
            kept[folder] = f"{description} names its lists"
        elif is_division or everything:
            _add_made(folder, files, kept)
    if everything:
        for path in _files_below(root):
            if path not in files and not kept.keys() & {path, *path.parents}:
                kept[path] = "not made by these tools"
    return CleanPlan(root, files, kept)


def _is_of_packing(path: Path) -> bool:
    """Whether a file of the folder of packs is a pack or one that was not finished."""
    return is_pack(path) or _TEMPORARY.fullmatch(path.name) is not None


def _claimed_folders(root: Path) -> list[Path]:
    """Folders at or below the root that a command claimed; links to folders are not followed."""
    return sorted(Path(folder) for folder, _, names in os.walk(root) if CLAIM_NAME in names)


def _files_below(folder: Path) -> list[Path]:
    """All files and links below a folder, in order; links to folders are not followed."""
    return sorted(
        Path(place) / name
        for place, folders, names in os.walk(folder)
        for name in [*names, *(each for each in folders if (Path(place) / each).is_symlink())]
    )


def _lists_in_use(root: Path) -> frozenset[Path]:
    """Folders of the lists that dataset.yaml names."""
    origins = (sample.origin for split in load_description(root).splits.values() for sample in split)
    return frozenset((root / origin).parent for origin in origins)


def _temporary_files(folder: Path) -> dict[Path, int]:
    """What cut-off commands left in a claimed folder: under temporary names, or as a part of a download."""
    return {
        path: path.lstat().st_size
        for path in _files_below(folder)
        if _TEMPORARY.fullmatch(path.name) or path.parent == folder / DOWNLOAD_FOLDER
    }


def _add_made(folder: Path, files: dict[Path, int], kept: dict[Path, str]) -> None:
    """Adds what a command made in a folder that it claimed, and the marks of the folder itself."""
    if not (folder / MADE_NAME).is_file():
        kept[folder] = "its command was cut off before it noted what it made; run it again, or remove it yourself"
        return
    real_folder = folder.resolve()
    for name, mark in read_made(folder).items():
        path = folder / name
        if not (path.is_symlink() or path.is_file()):
            continue
        if not path.parent.resolve().is_relative_to(real_folder):
            kept[path] = f"lies outside of {folder}, behind a link"
        elif mark_of(path) != mark:
            kept[path] = "changed since it was made"
        else:
            files[path] = mark.size_bytes
    files.update({path: path.lstat().st_size for path in (folder / MADE_NAME, folder / CLAIM_NAME)})


def run_clean(plan: CleanPlan) -> int:
    """Removes the files of a plan, and the folders that this leaves empty.

    Returns:
        How many files and links were removed.
    """
    for path in plan.files:
        path.unlink(missing_ok=True)
    folders = {parent for path in plan.files for parent in path.parents if parent.is_relative_to(plan.root)}
    for folder in sorted(folders, key=lambda each: len(each.parts), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return len(plan.files)
