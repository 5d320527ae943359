"""Operator specifications: the operators that a network consists of, for one input size.

A specification is a frozen record of one operator's kind, its fields and the size of the map it reads. It is the key
of the latency table, and it builds the same module that networks are composed of, so that the timed operator is the one
that is trained and exported. Kinds are an open registry: subclassing `OperatorSpec` adds one.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

import torch
from torch import nn

from fasterseg.networks.heads import Head
from fasterseg.networks.operators import ConvNormAct, operator_class
from fasterseg.networks.resizing import Resize, Size, halved

_KINDS: dict[str, type["OperatorSpec"]] = {}


@dataclass(frozen=True, kw_only=True)
class OperatorSpec:
    """One operator at one input size; hashable, comparable, plain data both ways.

    Attributes:
        height: Rows of the map that the operator reads.
        width: Columns of the map that the operator reads.
    """

    kind: ClassVar[str] = ""
    in_channels: int
    height: int
    width: int

    def __init_subclass__(cls) -> None:
        """Registers the subclass under its `kind`."""
        super().__init_subclass__()
        assert cls.kind and cls.kind not in _KINDS, f"kind of {cls.__name__} is empty or taken"
        _KINDS[cls.kind] = cls

    def build(self) -> nn.Module:
        """The operator in its plain form with fresh weights; takes tensors of `input_shape`, returns one tensor."""
        raise NotImplementedError

    def input_shape(self, batch_size: int = 1) -> tuple[int, int, int, int]:
        """The (N, C, H, W) shape that the operator reads."""
        return batch_size, self.in_channels, self.height, self.width

    @property
    def key(self) -> str:
        """A readable name that is unique to the specification, e.g. `cell/conv_2x/64x32/stride1/128x256`."""
        values = [str(value) for name, value in asdict(self).items() if name not in ("height", "width")]
        return "/".join([self.kind, *values, f"{self.height}x{self.width}"])

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON-ready plain data."""
        return {"kind": self.kind, **asdict(self)}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "OperatorSpec":
        """The specification that `to_dict` wrote.

        Raises:
            ValueError: The kind is unknown, or fields are missing, superfluous or of another type.
        """
        kind = data.get("kind")
        if kind not in _KINDS:
            raise ValueError(f"operator specification of unknown kind {kind!r}; known kinds: {', '.join(_KINDS)}")
        return _KINDS[kind]._from_fields({name: value for name, value in data.items() if name != "kind"})

    @classmethod
    def _from_fields(cls, values: dict[str, Any]) -> Self:
        expected = {field.name: field.type for field in fields(cls)}
        if set(values) != set(expected):
            raise ValueError(f"{cls.kind} specification has fields {sorted(values)}, expected {sorted(expected)}")
        for name, value in values.items():
            wanted = str if expected[name] in (str, "str") else int
            if type(value) is not wanted:
                raise ValueError(f"{cls.kind} specification: {name} is {value!r}, expected {wanted.__name__}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class CellSpec(OperatorSpec):
    """A cell's operator, one of the registered ones, by name."""

    kind: ClassVar[str] = "cell"
    operator: str
    out_channels: int
    stride: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return operator_class(self.operator)(self.in_channels, self.out_channels, stride=self.stride)


@dataclass(frozen=True, kw_only=True)
class ConvNormActSpec(OperatorSpec):
    """A convolution with batch norm and ReLU: stem, projections and refinements of the fusion."""

    kind: ClassVar[str] = "conv_norm_act"
    out_channels: int
    kernel_size: int
    stride: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return ConvNormAct(self.in_channels, self.out_channels, kernel_size=self.kernel_size, stride=self.stride)

    @classmethod
    def of(cls, block: ConvNormAct, size: Size) -> Self:
        """The specification of a block that reads a map of (height, width)."""
        conv = block.conv
        assert isinstance(conv, nn.Conv2d)
        return cls(
            **input_fields(conv.in_channels, size),
            out_channels=conv.out_channels,
            kernel_size=conv.kernel_size[0],
            stride=conv.stride[0],
        )


@dataclass(frozen=True, kw_only=True)
class HeadSpec(OperatorSpec):
    """A prediction head."""

    kind: ClassVar[str] = "head"
    num_classes: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return Head(self.in_channels, self.num_classes)


@dataclass(frozen=True, kw_only=True)
class ResizeSpec(OperatorSpec):
    """A bilinear resize to an explicit size: inside the fusion, and of the logits to the image."""

    kind: ClassVar[str] = "resize"
    out_height: int
    out_width: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return Resize((self.out_height, self.out_width))

    @classmethod
    def of(cls, channels: int, size: Size, out_size: Size) -> Self:
        """The specification of a resize from one (height, width) to another."""
        return cls(**input_fields(channels, size), out_height=out_size[0], out_width=out_size[1])


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec(OperatorSpec):
    """A 1×1 convolution to the classes; `bias` is 1 where it has one, else 0."""

    kind: ClassVar[str] = "classifier"
    num_classes: int
    bias: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return nn.Conv2d(self.in_channels, self.num_classes, 1, bias=bool(self.bias))

    @classmethod
    def of(cls, classifier: nn.Conv2d, size: Size) -> Self:
        """The specification of a classifier that reads a map of (height, width)."""
        bias = int(classifier.bias is not None)
        return cls(**input_fields(classifier.in_channels, size), num_classes=classifier.out_channels, bias=bias)


def input_fields(in_channels: int, size: Size) -> dict[str, int]:
    """The fields that all specifications have, for an operator that reads a map of (height, width)."""
    return {"in_channels": in_channels, "height": size[0], "width": size[1]}


def chain_specs(blocks: nn.Sequential, size: Size) -> Iterator[ConvNormActSpec]:
    """The specifications of convolution blocks one after another, the first reading a map of (height, width)."""
    for block in blocks:
        assert isinstance(block, ConvNormAct)
        spec = ConvNormActSpec.of(block, size)
        yield spec
        size = halved(size) if spec.stride == 2 else size


def random_input(spec: OperatorSpec, batch_size: int = 1) -> torch.Tensor:
    """A standard normal tensor of the shape that the operator reads."""
    return torch.randn(spec.input_shape(batch_size))
