"""Which image belongs to which mask: files by their exact names, and what becomes of those without a partner.

Images and masks are paired by their exact names, never by a part of one: `route_1` does not get the mask of `route_10`,
and an image without a mask is named instead of getting its neighbour's.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from dataset_tools.convert.source import MaskSource, SourceImage
from dataset_tools.paths import IMAGE_ENDINGS, find_paths, is_hidden
from fasterseg.base.errors import list_problems

Unmatched = Literal["error", "skip"]
MASK_ENDINGS = (".png", ".bmp", ".tif", ".tiff", ".gif")
_STANDARD_SPLITS = {
    "training": "train", "default": "train", "validation": "val", "valid": "val", "testing": "test"
}  # fmt: skip
_OWN_SPLITS = ("train", "val", "test")


class Pairing:
    """What does not match in a source: all of it is named at the end, or it is left out and counted.

    Args:
        unmatched: What becomes of images without a mask and of masks without an image.
    """

    def __init__(self, unmatched: Unmatched = "error") -> None:
        self.problems: list[str] = []
        self.skipped: Counter[str] = Counter()
        self.unmatched = unmatched
        self._unpaired = False

    def lacks(self, what: str, problem: str, *, count: int = 1) -> None:
        """Notes something without a partner.

        Args:
            what: What is left out, such as `images without a mask`.
            problem: What the error says where it may not be.
            count: How many.
        """
        if self.unmatched == "skip":
            self.skipped[f"{what} (--unmatched skip)"] += count
        else:
            self._unpaired = True
            self.problems.append(problem)

    def has_folder(self, folder: Path, images: Path, what: str) -> bool:
        """Whether there is the folder of the masks of some images.

        Raises:
            FileNotFoundError: There is none, and nothing may be left out.
        """
        if folder.is_dir():
            return True
        if self.unmatched == "error":
            raise FileNotFoundError(
                f"missing {folder}; expected {what} {images}; leave images without masks out with --unmatched skip"
            )
        found = [path for path in find_paths(images, "*", deep=True) if path.suffix.lower() in IMAGE_ENDINGS]
        self.lacks("images without a mask", "", count=len(found))
        return False

    def refuse(self, source: Path, what: str = "images and masks do not match") -> None:
        """Raises what was found wrong, if anything was.

        Args:
            source: Where, for the message.
            what: What the message begins with.

        Raises:
            ValueError: Names the problems.
        """
        if self.problems:
            advice = "\nleave out what has no partner with --unmatched skip" if self._unpaired else ""
            raise ValueError(f"{source}: {what}:{list_problems(self.problems)}{advice}")


class NamedFiles(NamedTuple):
    """Files of one kind by name: the path below their folder, without suffix and ending, with "/" between folders."""

    kind: str
    folder: Path
    by_name: dict[str, Path]


def find_files(kind: str, folder: Path, endings: Sequence[str], problems: list[str], *, suffix: str = "") -> NamedFiles:
    """Lists the files of one kind in a folder, at any depth.

    Args:
        kind: What they are, for messages: `image` or `mask`.
        folder: Where to look; must exist.
        endings: Endings of the files, in lower case.
        problems: Two files of one name are added here.
        suffix: What names end in before their ending, and is not part of the name; other files are left out.

    Returns:
        The files by name, in the order of their names. Hidden files are left out.
    """
    found: dict[str, Path] = {}
    for path in find_paths(folder, "*", deep=True):
        if path.suffix.lower() not in endings or not path.stem.endswith(suffix) or not path.is_file():
            continue
        name = path.relative_to(folder).with_name(path.stem.removesuffix(suffix) or path.stem).as_posix()
        if name in found:
            problems.append(f"two {kind}s of one name: {found[name]} and {path}")
        found[name] = path
    return NamedFiles(kind, folder, found)


def match(
    images: NamedFiles, masks: NamedFiles, make: Callable[[Path], MaskSource], pairing: Pairing
) -> list[SourceImage]:
    """Pairs images and masks of the same name.

    Names are the same that differ only in how their letters are composed, as macOS and Linux write them.

    Args:
        images: The images.
        masks: The files of the masks.
        make: Gives how the mask of a file is made.
        pairing: What does not match is added here.
    """
    if not images.by_name:
        pairing.problems.append(f"no {images.kind}s in {images.folder}")
    partners = dict(_partners(images.by_name, masks.by_name))
    for name in sorted(images.by_name.keys() - partners.keys()):
        pairing.lacks(f"{images.kind}s without a {masks.kind}", _no_mask(images.by_name[name], masks, name))
    for name in sorted(masks.by_name.keys() - set(partners.values())):
        pairing.lacks(f"{masks.kind}s without an {images.kind}", f"no {images.kind} for {masks.by_name[name]}")
    return [SourceImage(name, images.by_name[name], make(masks.by_name[mask])) for name, mask in partners.items()]


def _partners(images: dict[str, Path], masks: dict[str, Path]) -> list[tuple[str, str]]:
    """The name of each image that has a mask, and that of the mask."""
    composed: dict[str, list[str]] = {}
    for name in masks:
        if name not in images:
            composed.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    pairs = []
    for name in images:
        others = composed.get(unicodedata.normalize("NFC", name), [])
        if name in masks or len(others) == 1:
            pairs.append((name, name if name in masks else others.pop()))
    return pairs


def _no_mask(image: Path, masks: NamedFiles, name: str) -> str:
    """What the error says of an image without a mask; a lossy file of its name is no mask."""
    lossy = [path for ending in (".jpg", ".jpeg") if (path := masks.folder / f"{name}{ending}").is_file()]
    why = f": {lossy[0]} is a JPEG file, which smears class ids; export the masks as PNG" if lossy else ""
    return f"no {masks.kind} for {image}{why}"


def pair_folders(
    images: Path,
    masks: Path,
    make: Callable[[Path], MaskSource],
    pairing: Pairing,
    *,
    suffixes: tuple[str, str] = ("", ""),
    mask_endings: Sequence[str] = (".png",),
) -> list[SourceImage]:
    """Finds and pairs the files of an image folder and a mask folder.

    Args:
        images: The folder of the images.
        masks: The folder of the masks.
        make: Gives how the mask of a file is made.
        pairing: What does not match is added here.
        suffixes: What the names of images, and those of masks, end in before their ending.
        mask_endings: Endings of the masks.
    """
    found = find_files("image", images, IMAGE_ENDINGS, pairing.problems, suffix=suffixes[0])
    return match(found, find_files("mask", masks, mask_endings, pairing.problems, suffix=suffixes[1]), make, pairing)


def images_alone(folder: Path, problems: list[str], *, suffix: str = "") -> list[SourceImage]:
    """The images of a folder whose masks are not public."""
    found = find_files("image", folder, IMAGE_ENDINGS, problems, suffix=suffix)
    return [SourceImage(name, path, None) for name, path in found.by_name.items()]


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, in the order of their names; hidden ones are left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def standard_split(name: str) -> str:
    """`training` and `default` to `train`, `validation` and `valid` to `val`, `testing` to `test`, in any case.

    Other names stay.
    """
    lower = name.lower()
    return lower if lower in _OWN_SPLITS else _STANDARD_SPLITS.get(lower, name)


def name_splits(names: Iterable[str]) -> dict[str, str]:
    """The split of each folder or list: its standard name, or its own where two would have one."""
    standard = {name: standard_split(name) for name in names}
    taken = Counter(standard.values())
    return {name: split if taken[split] == 1 else name for name, split in standard.items()}


def need_folders(folders: Sequence[Path], what: str) -> None:
    """Checks that folders exist.

    Raises:
        FileNotFoundError: Names all that are missing, and what was expected.
    """
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise FileNotFoundError(f"missing {', '.join(missing)}; expected {what}")
