"""The classes of a source that names its classes: their names, colours and train ids."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dataset_tools.labels import IGNORE_TRAIN_ID, ClassTable
from dataset_tools.masks import Rgb, distinct_colors


class NamedClass(NamedTuple):
    """A class of a source that names its classes: its id there, and its colour where the source gives one."""

    name: str
    source_id: int
    color: Rgb | None = None


class ClassPlan(NamedTuple):
    """The classes of a source that names its classes, less those that the user ignores.

    Attributes:
        table: What a network learns.
        train_ids: Train id, or 255 for an ignored class, by the class's id in the source.
        notes: Which classes were made one, for the user.
    """

    table: ClassTable
    train_ids: Mapping[int, int]
    notes: tuple[str, ...] = ()


def strip_names(found: Iterable[NamedClass]) -> list[NamedClass]:
    """The classes with their names less the blanks around them."""
    return [entry._replace(name=entry.name.strip()) for entry in found]


def plan_classes(found: Sequence[NamedClass], ignored: Iterable[str], source: Path) -> ClassPlan:
    """Numbers the classes of a source in its order, without gaps.

    Classes of one name, blanks around it left aside, are one class.

    Args:
        found: The classes of the source.
        ignored: Names of classes whose pixels become the ignore index.
        source: Where the classes stand, for messages.

    Raises:
        ValueError: An ignored name is no class, an id stands twice, or too many or no classes are left.
    """
    ignored = {name.strip() for name in ignored}
    groups: dict[str, list[NamedClass]] = {}
    for entry in strip_names(found):
        groups.setdefault(entry.name, []).append(entry)
    ids = [entry.source_id for entry in found]
    problems = [f"no class is named {name!r} (--ignore)" for name in sorted(ignored - groups.keys())]
    problems += [
        f"the id {number} stands twice" for number in sorted({number for number in ids if ids.count(number) > 1})
    ]
    kept = [group for name, group in groups.items() if name not in ignored]
    if not 1 <= len(kept) <= IGNORE_TRAIN_ID:
        problems.append(
            f"{len(kept)} classes are left, expected 1 to {IGNORE_TRAIN_ID}; ignore some with --ignore NAME"
        )
    if problems:
        raise ValueError(f"classes of {source}: " + "; ".join(problems) + f". Its classes are {', '.join(groups)}")
    train_ids = dict.fromkeys(ids, IGNORE_TRAIN_ID)
    train_ids |= {entry.source_id: number for number, group in enumerate(kept) for entry in group}
    first = [group[0] for group in kept]
    table = ClassTable(
        tuple(entry.name for entry in first), _colors_of(first), tuple(entry.source_id for entry in first)
    )
    return ClassPlan(table, train_ids, _notes_of(groups))


def _notes_of(groups: Mapping[str, Sequence[NamedClass]]) -> tuple[str, ...]:
    """What was made one class."""
    return tuple(
        f"{len(group)} classes of the name {name!r} are one class ({', '.join(str(one.source_id) for one in group)})"
        for name, group in groups.items()
        if len(group) > 1
    )


def _colors_of(classes: Sequence[NamedClass]) -> tuple[Rgb, ...]:
    """The colours of the source; classes without one get one that no other has."""
    given = [entry.color for entry in classes if entry.color is not None]
    free = iter(distinct_colors(len(classes), given))
    return tuple(next(free) if entry.color is None else entry.color for entry in classes)
