"""Filling folders without losing what exists.

Folders that a command fills are claimed first with `claim_folder`; what it wrote there is noted with `record_made`, so
that `clean` can tell it from what others put beside it.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from dataset_tools.lists import read_table, table_text
from fasterseg.base.errors import differences, summarize_differences
from fasterseg.base.files import has_content, make_folder, remove_leftovers, write_text

CLAIM_NAME = "made_by.json"
MADE_NAME = "made_files.txt"
_MADE_HEADER = ("size_bytes", "modified_ns", "name")


class FileMark(NamedTuple):
    """Size and modification time of a file, or of a symbolic link itself: what it was when it was written."""

    size_bytes: int
    modified_ns: int


def mark_of(path: Path) -> FileMark:
    """The mark of a file as it is now; a symbolic link is not followed."""
    status = path.lstat()
    return FileMark(status.st_size, status.st_mtime_ns)


def claim_folder(folder: Path, *, tool: str, settings: Mapping[str, object]) -> bool:
    """Marks an output folder as made by one tool with one group of settings.

    Args:
        folder: The folder to fill; made when missing.
        tool: The command that fills it, as the user types it.
        settings: Plain values (as JSON has them) that determine the content.

    Returns:
        True when the folder was already claimed by the same tool and settings, so that what exists there can be kept.
        A folder in which a kill or a power cut left nothing but a begun claim is free.

    Raises:
        ValueError: The folder holds something else: files of the user, or a dataset made with other settings.
    """
    claim_path = folder / CLAIM_NAME
    claim = json.loads(json.dumps({"tool": tool, "settings": dict(settings)}))
    if claim_path.is_file() and (claim_path.stat().st_size or has_content(folder, besides=(CLAIM_NAME,))):
        found = _read_claim(claim_path)
        if found == claim:
            remove_leftovers(folder)
            return True
        raise ValueError(
            f"{folder} holds a dataset made otherwise ({_describe_difference(found, claim)}); "
            "give another folder, repeat the settings it was made with, or remove it yourself"
        )
    if folder.exists() and (not folder.is_dir() or has_content(folder, besides=(CLAIM_NAME,))):
        raise ValueError(
            f"{folder} exists, is not empty and was not made by `dataset_tools {tool}`; nothing was written: "
            "give a new or an empty folder"
        )
    make_folder(folder)
    remove_leftovers(folder)
    write_text(claim_path, json.dumps(claim, indent=2) + "\n")
    return False


def _read_claim(path: Path) -> Mapping[str, object]:
    """Which command filled the folder, with which settings."""
    try:
        claim = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); restore it, or remove {path.parent} yourself") from error
    if not isinstance(claim, dict):
        raise ValueError(f"{path} holds {claim!r}, expected `tool` and `settings`; remove {path.parent} yourself")
    return claim


def _describe_difference(found: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    """Says what two claims differ in, with both values."""
    if found.get("tool") != wanted["tool"]:
        return f"by `{found.get('tool')}`, now asked: `{wanted['tool']}`"
    return summarize_differences(list(differences(found.get("settings"), wanted["settings"])))


def record_made(folder: Path, paths: Iterable[Path], *, keep_marks: bool = False) -> None:
    """Notes files that a command wrote into a folder that it has claimed; in any other folder does nothing.

    Args:
        folder: The folder.
        paths: The files; those outside the folder and those that do not exist are left out.
        keep_marks: Leave the marks of files that were noted before: for files that the command keeps where they exist,
            and that somebody else may have changed since.
    """
    if not (folder / CLAIM_NAME).is_file():
        return
    made = read_made(folder)
    for path in paths:
        if path.is_relative_to(folder) and (path.is_symlink() or path.is_file()):
            name = path.relative_to(folder).as_posix()
            if not (keep_marks and name in made):
                made[name] = mark_of(path)
    rows = ((str(mark.size_bytes), str(mark.modified_ns), name) for name, mark in made.items())
    write_text(folder / MADE_NAME, table_text(_MADE_HEADER, rows))


def read_made(folder: Path) -> dict[str, FileMark]:
    """What was noted with `record_made`: the mark of each file when it was written, by its name in the folder.

    Raises:
        ValueError: The record was changed by hand.
    """
    path = folder / MADE_NAME
    made: dict[str, FileMark] = {}
    problems: list[str] = []
    for number, fields in read_table(path, _MADE_HEADER, problems) if path.is_file() else ():
        if len(fields) == 3 and all(field.isdigit() for field in fields[:2]):
            made[fields[2]] = FileMark(int(fields[0]), int(fields[1]))
        else:
            problems.append(f"{path}:{number}: expected `size time name`, found {fields}")
    if problems:
        raise ValueError(f"{problems[0]}; restore or remove the file")
    return made
