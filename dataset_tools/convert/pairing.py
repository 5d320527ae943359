"""Finding the images and masks of a source and matching them by their exact names.

Never by a part of a name: `route_1` does not get the mask of `route_10`, and an image without a mask is named instead
of getting its neighbour's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MASK_ENDINGS = (".png", ".bmp", ".tif", ".tiff", ".gif")
SHOWN_PROBLEMS = 20

_STANDARD_SPLITS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}


class NamedFiles(NamedTuple):
    """Files of one kind by name: the path below their folder, without suffix and ending, with "/" between folders."""

    kind: str
    folder: Path
    by_name: Mapping[str, Path]


class Pair(NamedTuple):
    """An image, its mask's file, and the name they share."""

    name: str
    image: Path
    mask: Path


def list_problems(problems: Sequence[str]) -> str:
    """The first problems, one per line and indented, and the number of the others."""
    more = [f"... and {len(problems) - SHOWN_PROBLEMS} more"] if len(problems) > SHOWN_PROBLEMS else []
    return "".join(f"\n  {problem}" for problem in [*problems[:SHOWN_PROBLEMS], *more])


def standard_split(name: str) -> str:
    """`training` to `train`, `validation` and `valid` to `val`, `testing` to `test`; other names stay."""
    return _STANDARD_SPLITS.get(name, name)


def find_files(
    kind: str, folder: Path, endings: Sequence[str], problems: list[str], *, suffix: str = "", deep: bool = True
) -> NamedFiles:
    """Lists the files of one kind below a folder.

    Args:
        kind: What they are, for messages: `image` or `mask`.
        folder: Where to look; must exist.
        endings: Endings of the files, in lower case.
        problems: Two files of one name are added here.
        suffix: What names end in before their ending, and is not part of the name; other files are left out.
        deep: Look into folders, too.

    Returns:
        The files by name, in the order of their names. Hidden files are left out.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*") if deep else folder.iterdir()):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or path.suffix.lower() not in endings or not path.stem.endswith(suffix) or not path.is_file():
            continue
        name = relative.with_name(path.stem.removesuffix(suffix) or path.stem).as_posix()
        if name in found:
            problems.append(f"two {kind}s of one name: {found[name]} and {path}")
        found[name] = path
    return NamedFiles(kind, folder, found)


def match(images: NamedFiles, masks: NamedFiles, problems: list[str]) -> list[Pair]:
    """Pairs images and masks of the same name; what does not match is added to the problems."""
    missing, surplus = unmatched(images, masks)
    problems.extend(f"no {masks.kind} for {images.by_name[name]}" for name in missing)
    problems.extend(f"no {images.kind} for {masks.by_name[name]}" for name in surplus)
    if not images.by_name:
        problems.append(f"no {images.kind}s in {images.folder}")
    return [Pair(name, path, masks.by_name[name]) for name, path in images.by_name.items() if name in masks.by_name]


def unmatched(images: NamedFiles, masks: NamedFiles) -> tuple[list[str], list[str]]:
    """Names of images without a mask, and of masks without an image."""
    return sorted(images.by_name.keys() - masks.by_name.keys()), sorted(masks.by_name.keys() - images.by_name.keys())


def refuse(problems: Sequence[str], source: Path) -> None:
    """Raises what was found wrong with the files of a source, if anything was.

    Raises:
        ValueError: Names the problems.
    """
    if problems:
        raise ValueError(f"{source}: images and masks do not match:{list_problems(problems)}")


def need_folders(folders: Sequence[Path], what: str) -> None:
    """Checks that folders exist.

    Raises:
        FileNotFoundError: Names all that are missing, and what was expected.
    """
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise FileNotFoundError(f"missing {', '.join(missing)}; expected {what}")


def count_names(names: Sequence[str]) -> Counter[str]:
    """How often each name stands, for those that stand more than once."""
    return Counter({name: count for name, count in Counter(names).items() if count > 1})
