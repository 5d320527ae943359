"""Writing files and folders without losing what exists.

Every file of this room goes through `write_bytes`, which writes under a temporary name and renames, so that a file that
exists is complete. Folders that a command fills are claimed first with `claim_folder`.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

CLAIM_NAME = "made_by.json"


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file under a temporary name and renames it, so that no reader ever sees half of it.

    Args:
        path: The file; its folder is made when missing. A symbolic link there is replaced, never written through.
        data: The content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file like `write_bytes`."""
    write_bytes(path, text.encode())


def claim_folder(folder: Path, *, tool: str, settings: Mapping[str, object]) -> bool:
    """Marks an output folder as made by one tool with one group of settings.

    Args:
        folder: The folder to fill; made when missing.
        tool: The command that fills it, as the user types it.
        settings: Plain values (as JSON has them) that determine the content.

    Returns:
        True when the folder was already claimed by the same tool and settings, so that what exists there can be kept.

    Raises:
        ValueError: The folder holds something else: files of the user, or a dataset made with other settings.
    """
    claim_path = folder / CLAIM_NAME
    claim = json.loads(json.dumps({"tool": tool, "settings": dict(settings)}))
    if claim_path.is_file():
        found = json.loads(claim_path.read_text())
        if found == claim:
            return True
        raise ValueError(
            f"{folder} holds a dataset made otherwise ({_differences(found, claim)}); "
            "give another folder, repeat the settings it was made with, or remove it yourself"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} exists, is not empty and was not made by `dataset_tools {tool}`; nothing was written: "
            "give a new or an empty folder"
        )
    write_text(claim_path, json.dumps(claim, indent=2) + "\n")
    return False


def _differences(found: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    """Says which settings two claims differ in, with both values."""
    if found.get("tool") != wanted["tool"]:
        return f"by `{found.get('tool')}`, now asked: `{wanted['tool']}`"
    found_settings, wanted_settings = found.get("settings"), wanted["settings"]
    if not isinstance(found_settings, dict) or not isinstance(wanted_settings, dict):
        return "its settings cannot be read"
    keys = [key for key in {**found_settings, **wanted_settings} if found_settings.get(key) != wanted_settings.get(key)]
    return "; ".join(f"{key}: found {found_settings.get(key)}, asked {wanted_settings.get(key)}" for key in keys)
