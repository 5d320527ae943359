"""What a run of the pipeline left, as plain data that two runs can be compared by.

Every file below the folder that decides or shows a result is read by its kind: settings and figures as they are,
weights and exported graphs as digests that do not depend on the container they are stored in. What only tells when or
how fast something happened is left out. Nothing of the project is imported, so the reading outlives its modules.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
import yaml
from onnx import numpy_helper

# when, how fast and on what: none of it is a result
_TIMES = {"duration_s", "created", "measured_ms", "paced_ms", "spread", "verdict", "clocks_mhz"}
# made_files.txt holds times of files, the lock who had it
_SKIPPED = {"log.txt", "environment.json", "made_files.txt", ".lock"}
_SKIPPED_FOLDERS = {"tensorboard"}
TEMPORARY_SUFFIX = ".tmp"
_LONGEST_LIST = 32
_DIGEST_LENGTH = 16
# a folder that is named by the digest of a file in it
_NAMED_BY_DIGEST = re.compile(r"_[0-9a-f]{8}(?=/|$)")

Results = dict[str, Any]


def read_results(folder: Path) -> Results:
    """Every result below a folder: a flat mapping from `file: name` to a plain value."""
    found: Results = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = _NAMED_BY_DIGEST.sub("_DIGEST", path.relative_to(folder).as_posix())
        if path.name in _SKIPPED or path.suffix == TEMPORARY_SUFFIX or _SKIPPED_FOLDERS & set(path.parts):
            continue
        if path.stat().st_size == 0:
            found[name] = "empty"
            continue
        read = _READERS.get(path.suffix, _read_bytes)
        found.update({f"{name}: {key}".removesuffix(": "): value for key, value in read(path)})
    return found


def read_digests(folder: Path) -> Results:
    """The digest of every file's bytes below a folder, such as a dataset's."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != TEMPORARY_SUFFIX)
    paths = sorted(path for path in files if path.name not in _SKIPPED)
    return {path.relative_to(folder).as_posix(): _digest(path.read_bytes()) for path in paths}


def describe_differences(before: Results, after: Results) -> list[str]:
    """One line for each result that differs, is gone or is new."""
    lines = []
    for name in dict.fromkeys((*before, *after)):
        if name not in after:
            lines.append(f"gone: {name} (was {before[name]!r})")
        elif name not in before:
            lines.append(f"new: {name} (is {after[name]!r})")
        elif before[name] != after[name]:
            lines.append(f"differs: {name}: was {before[name]!r}, is {after[name]!r}")
    return lines


def _read_bytes(path: Path) -> Iterator[tuple[str, Any]]:
    yield "", _digest(path.read_bytes())


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    yield from _flat(json.loads(path.read_text(encoding="utf-8")))


def _read_yaml(path: Path) -> Iterator[tuple[str, Any]]:
    yield from _flat(yaml.safe_load(path.read_text(encoding="utf-8")))


def _read_markdown(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if "measured" not in line:
            yield f"line {number}", line


def _read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        yield f"line {number}", line


def _read_checkpoint(path: Path) -> Iterator[tuple[str, Any]]:
    """Plain values as they are; of each tensor a digest over type, shape and bytes, and one over all of them."""
    values = dict(_flat(torch.load(path, map_location="cpu", weights_only=True)))
    yield from values.items()
    tensors = {name: value for name, value in values.items() if str(value).startswith("tensor ")}
    yield "all tensors", _digest(json.dumps(tensors, sort_keys=True).encode())


def _read_onnx(path: Path) -> Iterator[tuple[str, Any]]:
    """Bytes, graph, initializers and metadata, each by itself."""
    model = onnx.load(path)
    yield "bytes", _digest(path.read_bytes())
    yield "graph", _digest(model.graph.SerializeToString(deterministic=True))
    arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    digests = {name: f"{array.dtype} {array.shape} {_digest(array.tobytes())}" for name, array in arrays.items()}
    yield "initializers", _digest(json.dumps(digests, sort_keys=True).encode())
    yield "initializers without names", _digest(json.dumps(sorted(digests.values())).encode())
    yield "nodes", _digest(" ".join(node.op_type for node in model.graph.node).encode())
    yield "opset", [f"{item.domain} {item.version}" for item in model.opset_import]
    for item in model.metadata_props:
        for key, value in _flat(json.loads(item.value)):
            yield f"metadata.{item.key}.{key}", value


_READERS: Mapping[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".json": _read_json,
    ".jsonl": _read_lines,
    ".md": _read_markdown,
    ".txt": _read_lines,
    ".yaml": _read_yaml,
    ".pt": _read_checkpoint,
    ".onnx": _read_onnx,
}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested data by their place in it."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            if key not in _TIMES:
                yield from _flat(item, f"{name}.{key}".removeprefix("."))
    elif isinstance(value, torch.Tensor):
        raw = value.detach().contiguous().reshape(-1).view(torch.uint8) if value.numel() else value
        yield name, f"tensor {value.dtype} {tuple(value.shape)} {_digest(raw.numpy().tobytes())}"
    elif isinstance(value, list | tuple):
        if len(value) > _LONGEST_LIST and not any(isinstance(item, Mapping | torch.Tensor) for item in value):
            yield name, f"{len(value)} values {_digest(repr(value).encode())}"
        elif any(isinstance(item, Mapping | list | tuple | torch.Tensor) for item in value):
            for index, item in enumerate(value):
                yield from _flat(item, f"{name}[{index}]")
        else:
            yield name, json.loads(json.dumps(list(value)))
    else:
        yield name, value


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGEST_LENGTH]
