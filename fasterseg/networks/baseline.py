"""What the baselines' architectures have in common: a stem, a width factor, JSON both ways."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch

from fasterseg.networks.channels import STEM_KINDS, StemKind
from fasterseg.networks.network import Network
from fasterseg.networks.resizing import Size
from fasterseg.networks.specs import OperatorSpec

FORMAT_VERSION = 1


@dataclass(frozen=True)
class BaselineArchitecture:
    """A baseline's structure as plain data.

    Attributes:
        stem: `deep` is three 3×3 convolutions, `plain` one of 7×7.
        width_factor: Multiplier of all channel counts, in (0, 1].

    Raises:
        ValueError: A field has a value that is not possible.
    """

    FORMAT: ClassVar[str]

    stem: StemKind = "deep"
    width_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.stem not in STEM_KINDS:
            raise ValueError(f"stem is {self.stem!r}, expected one of {', '.join(STEM_KINDS)}")
        if not 0 < self.width_factor <= 1:
            raise ValueError(f"width_factor is {self.width_factor}, expected a multiplier in (0, 1]")

    def build(self, num_classes: int) -> Network:
        """The network with fresh weights."""
        raise NotImplementedError

    def operator_specs(self, num_classes: int, *, input_size: Size) -> tuple[OperatorSpec, ...]:
        """The operator specifications of one evaluation; see `Network.operator_specs`.

        Args:
            num_classes: Channels of the logits.
            input_size: (height, width) of the image.
        """
        with torch.device("meta"):  # the structure alone, without memory for weights
            network = self.build(num_classes)
        return network.operator_specs(input_size)

    def to_dict(self) -> dict[str, Any]:
        """The architecture as JSON-ready plain data with its format and version."""
        return {"format": self.FORMAT, "version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Any, source: str = "architecture") -> Self:
        """The architecture that `to_dict` wrote.

        Args:
            data: Parsed JSON.
            source: What an error message calls the data, such as its file.

        Raises:
            ValueError: The data is of another format or version, incomplete, or has fields that are not possible.
        """
        if not isinstance(data, dict) or data.get("format") != cls.FORMAT:
            raise ValueError(f"{source} is not an architecture of format '{cls.FORMAT}'")
        if data.get("version") != FORMAT_VERSION:
            raise ValueError(f"{source} has version {data.get('version')}, this release reads version {FORMAT_VERSION}")
        values = {name: value for name, value in data.items() if name not in ("format", "version")}
        if set(values) != {"stem", "width_factor"}:
            raise ValueError(f"{source} has fields {', '.join(sorted(values)) or 'none'}; expected stem, width_factor")
        width = values["width_factor"]
        if isinstance(width, bool) or not isinstance(width, int | float):
            raise ValueError(f"{source}: width_factor is {width!r}, expected a number in (0, 1]")
        try:
            return cls(stem=values["stem"], width_factor=float(width))
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
