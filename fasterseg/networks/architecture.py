"""A derived architecture as plain data: which cells each branch runs, at which stride and width.

A search writes it and training reads it, as versioned JSON. It suffices to build the derived network, and to list the
network's operator specifications without building it.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from fasterseg.base.errors import describe_validation
from fasterseg.base.files import write_text
from fasterseg.base.jsonfile import read_json
from fasterseg.networks.operators import operator_class
from fasterseg.networks.space import STRIDES

FORMAT = "fasterseg-architecture"
FORMAT_VERSION = 1

Width = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]


@dataclass(frozen=True)
class CellChoice:
    """One cell of a branch.

    Attributes:
        operator: Registered name of the operator.
        scale: Output stride of the cell's input (8, 16 or 32).
        stride: 1 keeps the output stride, 2 doubles it.
        width: Width multiplier of the cell's output; the head width for a branch's last cell.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    operator: str
    scale: Whole
    stride: Whole
    width: Width

    @property
    def out_scale(self) -> int:
        """Output stride of the cell's output."""
        return self.scale * self.stride


@dataclass(frozen=True)
class Architecture:
    """A derived network's structure.

    Attributes:
        base_channels: F; a map of output stride s has s·F channels at width 1.
        stem_width: Width multiplier of the stem.
        head_width: Width multiplier of the branches' ends, the fusion and the head.
        branches: The cells of each branch, first to last, in the order in which the network concatenates them.
        shared_cells: How many leading cells the branches have in common; they run once.

    Raises:
        ValueError: The cells do not fit each other, or a width or a count is invalid.
    """

    base_channels: Annotated[Whole, Field(ge=1, le=4096)]
    stem_width: Width
    head_width: Width
    branches: tuple[tuple[CellChoice, ...], ...]
    shared_cells: Whole = 0

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise ValueError("not a valid architecture: " + "; ".join(problems))

    @property
    def ends(self) -> tuple[int, ...]:
        """The output stride at which each branch ends."""
        return tuple(branch[-1].out_scale for branch in self.branches)

    def _problems(self) -> list[str]:
        problems = [] if self.branches and all(self.branches) else ["a branch without cells"]
        for index, branch in enumerate(self.branches):
            scale = STRIDES[0]
            for layer, cell in enumerate(branch):
                where = f"branch {index}, cell {layer}"
                operator_class(cell.operator)
                if cell.scale != scale or cell.stride not in (1, 2) or cell.out_scale > STRIDES[-1]:
                    problems.append(
                        f"{where} reads stride {cell.scale} with stride {cell.stride}, expected to read stride {scale} "
                        f"and to stay within stride {STRIDES[-1]}"
                    )
                if not 0 < cell.width <= 1:
                    problems.append(f"{where} has width {cell.width}, expected a multiplier in (0, 1]")
                scale = cell.out_scale
            if branch and abs(branch[-1].width - self.head_width) > 1e-9:
                problems.append(f"branch {index} ends at width {branch[-1].width}, expected head_width")
        prefixes = {branch[: self.shared_cells] for branch in self.branches}
        if not 0 <= self.shared_cells < min(map(len, self.branches), default=1) or len(prefixes) > 1:
            problems.append(f"shared_cells is {self.shared_cells}, but the branches do not share that many cells")
        return problems

    def to_dict(self) -> dict[str, Any]:
        """The architecture as JSON-ready plain data with its format and version."""
        return {"format": FORMAT, "version": FORMAT_VERSION, **asdict(self)}

    @staticmethod
    def from_dict(data: Any, source: str = "architecture") -> "Architecture":
        """The architecture that `to_dict` wrote.

        Args:
            data: Parsed JSON.
            source: What an error message calls the data, such as its file.

        Raises:
            ValueError: The data is of another format or version, incomplete or inconsistent.
        """
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"{source} is not an architecture: expected a JSON object with format '{FORMAT}'")
        if data.get("version") != FORMAT_VERSION:
            raise ValueError(
                f"{source} has version {data.get('version')}, this release reads version {FORMAT_VERSION}; "
                "write it again with `python -m search search`"
            )
        try:
            return _FIELDS.validate_python(
                {field.name: data[field.name] for field in fields(Architecture) if field.name in data}
            )
        except ValidationError as error:
            problems = "; ".join(describe_validation(error))
            raise ValueError(f"{source} is not a usable architecture: {problems}") from error

    def save(self, path: Path) -> None:
        """Writes the architecture as JSON."""
        write_text(path, json.dumps(self.to_dict(), indent=2) + "\n")

    @staticmethod
    def load(path: Path) -> "Architecture":
        """Reads an architecture file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not JSON, or not a valid architecture.
        """
        if not path.is_file():
            raise FileNotFoundError(f"no architecture at {path}; `python -m search search` writes one")
        return Architecture.from_dict(read_json(path), str(path))


_FIELDS = TypeAdapter(Architecture)
