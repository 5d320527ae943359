"""Reading YAML of unknown origin: plain data of bounded size; every problem becomes one error message.

With aliases a short text can expand to unlimited data, and deep nesting can exhaust the stack. So the text's parse
events are checked first, which is cheap, and the data is built afterwards.
"""

from pathlib import Path
from typing import Any

import yaml

from fasterseg.base.textfile import read_text

MOST_BYTES = 2**20
MOST_NODES = 20_000
MOST_LEVELS = 32
_LONGEST_NUMBER = 60
_STANDARD_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map", "!")
_COMPUTED_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp"))


def read_yaml(path: Path) -> Any:
    """The plain data of a YAML file: mappings, lists, text, numbers, dates, true, false and null.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not valid YAML, not text, or larger or more deeply nested than such files are.
    """
    return load_yaml(_read(path), str(path))


def read_yaml_texts(path: Path) -> Any:
    """Like `read_yaml`, but every value is its text as written: `yes`, `010`, `null` and `12:30` stay text."""
    return _load(_read(path), str(path), yaml.BaseLoader)


def _read(path: Path) -> str:
    """The text of a file of bounded size."""
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, expected at most {MOST_BYTES}")
    return read_text(path)


def load_yaml(text: str, source: str) -> Any:
    """The plain data of a YAML text; see `read_yaml`.

    Args:
        text: The text.
        source: What an error message calls it.

    Raises:
        ValueError: It is not valid YAML, or larger or more deeply nested than such texts are.
    """
    return _load(text, source, yaml.SafeLoader)


def _load(text: str, source: str, loader: type[yaml.SafeLoader] | type[yaml.BaseLoader]) -> Any:
    """Checks the text's events, then builds the data."""
    try:
        _check_events(text, source)
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not valid YAML: {error}") from error


def _check_events(text: str, source: str) -> None:
    """Refuses aliases that multiply or contain themselves, deep nesting, tags, and values that cannot be built."""
    # nodes in each open collection, those that aliases repeat included; the first entry is the whole text
    counts = [0]
    anchors: list[str | None] = []
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{source}, line {event.start_mark.line + 1 if event.start_mark else '?'}"
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in anchors:
                raise ValueError(f"{where}: *{event.anchor} stands inside of what it repeats")
            counts[-1] += sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            counts[-1] += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
            _check_scalar(event, where)
        elif isinstance(event, yaml.CollectionStartEvent):
            counts.append(1)
            anchors.append(event.anchor)
            _check_tag(event.tag, where)
            if len(anchors) > MOST_LEVELS:
                raise ValueError(f"{where}: nested more than {MOST_LEVELS} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            size, anchor = counts.pop(), anchors.pop()
            counts[-1] += size
            if anchor is not None:
                sizes[anchor] = size
        if sum(counts) > MOST_NODES:
            raise ValueError(f"{where}: more than {MOST_NODES} values, those that aliases (*) repeat included")


def _check_scalar(event: yaml.ScalarEvent, where: str) -> None:
    """Refuses values that look like numbers or dates but are not, such as month 13, and very long numbers."""
    _check_tag(event.tag, where)
    if not event.implicit[0]:
        return
    tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]
    if tag not in _COMPUTED_TAGS:
        return
    shown = event.value if len(event.value) <= _LONGEST_NUMBER else event.value[:_LONGEST_NUMBER] + "..."
    if shown != event.value:
        raise ValueError(f"{where}: {shown} has {len(event.value)} characters, more than a number needs")
    try:
        yaml.SafeLoader("").construct_object(yaml.ScalarNode(tag, event.value))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {shown} is no value: {error}; write it in quotes if it is text") from error


def _check_tag(tag: str | None, where: str) -> None:
    if tag is not None and tag not in _STANDARD_TAGS:
        raise ValueError(f"{where}: the tag {tag} is not expected here; plain values alone are")


_RESOLVER = yaml.SafeLoader("")
