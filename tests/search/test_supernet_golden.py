"""The supernet against what the published program computes, with its parameters mapped from the reference's names.

Recorded in double precision. Gradients are held in double alone: in float32 a rounding decides about a ReLU, and the
published program's own gradients are up to 5.5e-3 off, depending on the processor. Logits hold in float32 as well.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from fasterseg.networks.resizing import resize_bilinear
from fasterseg.networks.space import STRIDES, SpaceConfig
from search.reference import ReferenceSupernet
from search.supernet import Supernet
from search.widths import WidthMode
from tests.golden_fill import fill, golden_image, relative_error

GOLDEN = Path(__file__).parents[1] / "golden"
CASE = json.loads((GOLDEN / "supernet.json").read_text())
SHAPES = dict(CASE["state"])
SETS = ("teacher", "student")
TOLERANCE = 1e-9
FLOAT32_TOLERANCE = 1e-4


def architecture_name(group: Any, index: Any, stride: Any) -> str:
    if group == "alpha":
        return f"architectures.{SETS[index]}.operator_logits.{STRIDES[stride]}"
    kind = {"beta": "parent_logits", "ratio": "width_logits"}[group]
    return f"architectures.{SETS[index]}.{kind}.{STRIDES[stride]}"


def layer_name(name: str) -> str:
    """The reference's `conv.0`, `conv.1` and `bn1` are our `conv`, `norm` and `norm1`."""
    return re.sub(r"^conv\.1\.", "norm.", re.sub(r"^conv\.0\.", "conv.", name)).replace("bn", "norm")


def cell_name(layer: Any, scale: Any, part: Any, rest: Any) -> str | None:
    """`_ops.3.bn1.bn.0.weight` -> `operators.3.norm1.norms.<channels>.weight`."""
    operator, module, tail = re.fullmatch(r"_ops\.(\d)\.(conv\d?|bn\d?)\.(.*)", rest).groups()
    prefix = f"cells.layer{layer}_stride{STRIDES[int(scale)]}.{part}.operators.{operator}."
    if module.startswith("conv"):
        return f"{prefix}{module}.{tail}"
    width = re.fullmatch(r"bn\.(\d)\.(.*)", tail)
    if width is None:
        return None  # the reference's switchable norm is a norm itself, which it never uses
    stride = STRIDES[int(scale)] * (2 if part == "down" else 1)
    channels = int(stride * CASE["base_channels"] * CASE["widths"][int(width[1])])
    return f"{prefix}norm{module[2:]}.norms.{channels}.{width[2]}"


def our_name(name: str) -> str | None:
    """Our name for a reference parameter; None for one that the reference holds without using it."""
    group, *_ = name.split("_")
    if match := re.fullmatch(r"(alpha|beta|ratio)_(\d)_(\d)", name):
        return architecture_name(match[1], int(match[2]), int(match[3]))
    if match := re.fullmatch(r"stem\.(\d)\.(\d)\.(.*)", name):
        return f"parts.{SETS[int(match[1])]}.stem.{match[2]}.{layer_name(match[3])}"
    if match := re.fullmatch(r"cells\.(\d+)\.(\d)\.(_op|downsample)\.(.*)", name):
        return cell_name(match[1], match[2], {"_op": "keep", "downsample": "down"}[match[3]], match[4])
    if match := re.fullmatch(r"refine(\d+)\.(\d)\.(\d)\.(.*)", name):
        step, part = int(match[3]) // 2, ("project", "refine")[int(match[3]) % 2]
        return f"parts.{SETS[int(match[2])]}.fusion_{match[1]}.steps.{step}.{part}.{layer_name(match[4])}"
    match = re.fullmatch(r"head(\d+)\.(\d)\.(.*)", name)
    head = {"0": "8", "1": "16", "2": "32", "02": "32_8", "12": "32_16"}[match[1]]
    rest = match[3].replace("conv_3x3.bn", "block.norm").replace("conv_3x3.conv", "block.conv")
    return f"parts.{SETS[int(match[2])]}.head_{head}.{rest.replace('conv_1x1', 'classifier')}"


def golden_supernet(kind: type[Supernet] | type[ReferenceSupernet] = Supernet) -> Supernet | ReferenceSupernet:
    space = SpaceConfig(
        layers=CASE["layers"],
        base_channels=CASE["base_channels"],
        widths=tuple(CASE["widths"]),
        teacher_width=CASE["stem_head_width"][0][0],
        student_width=CASE["stem_head_width"][1][0],
    )
    supernet = kind(space, CASE["classes"]).double()
    state = supernet.state_dict()
    mapped = set()
    for name, shape in SHAPES.items():
        ours = our_name(name)
        if ours is None or name.endswith("num_batches_tracked"):
            continue
        values = fill(name, shape)
        if ours.startswith("architectures."):
            values = 5 * (fill("arch/" + name, shape) - 1)
        assert state[ours].shape == values.shape, f"{name} -> {ours}"
        state[ours] = values
        mapped.add(ours)
    assert mapped == {name for name in state if not name.endswith("num_batches_tracked")}
    supernet.load_state_dict(state)
    return supernet


@pytest.mark.parametrize("kind", [Supernet, ReferenceSupernet])
@pytest.mark.parametrize(("set_index", "mode"), CASE["passes"])
def test_pass_matches_published_program(
    kind: type[Supernet] | type[ReferenceSupernet], set_index: int, mode: WidthMode
) -> None:
    supernet = golden_supernet(kind)
    golden = np.load(GOLDEN / "supernet_double.npz")
    labels = torch.from_numpy(np.random.RandomState(78).randint(0, 7, (2, 8, 16)))
    logits = supernet.train()(golden_image(77, CASE["image"]).double(), SETS[set_index], mode)
    loss = torch.zeros((), dtype=torch.float64)
    for index, head in enumerate(logits):
        assert relative_error(head, golden[f"{set_index}_{mode}_logits_{index}"]) < TOLERANCE
        loss = loss + functional.cross_entropy(resize_bilinear(head, (8, 16)), labels, ignore_index=255)
    assert relative_error(loss, golden[f"{set_index}_{mode}_loss"]) < TOLERANCE
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in supernet.named_parameters()}
    prefix = f"{set_index}_{mode}_grad_"
    checked = [key.removeprefix(prefix) for key in golden if key.startswith(prefix)]
    assert len(checked) == 6
    for name in checked:
        reference = f"stem.{set_index}.0.conv.0.weight" if name == "stem" else name
        gradient = gradients[our_name(reference)]
        assert relative_error(gradient, golden[prefix + name]) < TOLERANCE, name


@pytest.mark.parametrize(("set_index", "mode"), CASE["passes"])
def test_logits_match_in_float32(set_index: int, mode: WidthMode) -> None:
    supernet = golden_supernet().float().train()
    with torch.no_grad():
        logits = supernet(golden_image(77, CASE["image"]), SETS[set_index], mode)
    golden = np.load(GOLDEN / "supernet_double.npz")
    for index, head in enumerate(logits):
        assert relative_error(head, golden[f"{set_index}_{mode}_logits_{index}"]) < FLOAT32_TOLERANCE


def test_a_fixed_architecture_gives_the_same_logits() -> None:
    """The weights' step mixes with plain numbers instead of tensors."""
    supernet = golden_supernet()
    image = golden_image(79, (2, 3, 64, 128)).double()
    with_gradient = supernet.train()(image, "student", "max")
    supernet.architectures.requires_grad_(False)
    without = supernet(image, "student", "max")
    for first, second in zip(with_gradient, without, strict=True):
        torch.testing.assert_close(first, second)
