from collections import Counter
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fasterseg.networks import (
    Architecture,
    CellChoice,
    DeployedNetwork,
    DerivedNetwork,
    count_macs,
    count_parameters,
    derived_specs,
)
from fasterseg.networks.operators import registered_operators
from fasterseg.networks.resizing import strided
from tests.released_student import NUM_CLASSES, released_student


def branch_through(*downs: int, length: int, operators: tuple[str, ...]) -> tuple[CellChoice, ...]:
    """A branch that goes down at the given cells, its operators taken in turn, its widths alternating."""
    scale, cells = 8, []
    for layer in range(length):
        stride = 2 if layer in downs else 1
        width = 1.0 if layer == length - 1 else (0.5, 1.0)[layer % 2]
        cells.append(CellChoice(operators[layer % len(operators)], scale, stride, width))
        scale *= stride
    return tuple(cells)


NAMES = registered_operators()[:5]
SMALL = {
    "one branch": Architecture(4, 1.0, 1.0, (branch_through(length=2, operators=NAMES[1:]),)),
    "stride 8 and 32": Architecture(
        4, 1.0, 1.0, (branch_through(1, 3, length=5, operators=NAMES), branch_through(length=3, operators=NAMES[3:]))
    ),
    "sharing": Architecture(
        4,
        1.0,
        1.0,
        (branch_through(2, 3, length=5, operators=NAMES[1:]), branch_through(2, length=4, operators=NAMES[1:])),
        shared_cells=3,
    ),
}


@pytest.fixture(params=SMALL, ids=lambda name: name.replace(" ", "-"))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return SMALL[request.param]


def spec_macs(architecture: Architecture, size: tuple[int, int]) -> int:
    total = 0
    for spec in derived_specs(architecture, 5, input_size=size):
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            spec.build().eval()(torch.zeros(spec.input_shape()))
        total += int(counter.get_total_flops()) // 2
    return total


@pytest.mark.parametrize("size", [(64, 96), (67, 101), (1, 1), (33, 64)])
def test_any_input_size_runs(architecture: Architecture, size: tuple[int, int]) -> None:
    network = DerivedNetwork(architecture, 5)
    logits = network.train()(torch.randn(2, 3, *size)) if size != (1, 1) else network.eval()(torch.randn(1, 3, 1, 1))
    assert logits.main.shape[2:] == strided(size, 8)
    for scale, auxiliary in zip(network.auxiliary_scales, logits.auxiliary, strict=False):
        assert auxiliary.shape[1:] == (5, *strided(size, scale))
    deployed = DeployedNetwork(network).eval()(torch.randn(1, 3, *size))
    assert deployed.shape == (1, 5, *size)


@pytest.mark.parametrize("size", [(64, 96), (67, 101)])
def test_specifications_are_what_the_network_runs(architecture: Architecture, size: tuple[int, int]) -> None:
    network = DerivedNetwork(architecture, 5)
    specs = network.operator_specs(size)
    assert spec_macs(architecture, size) == count_macs(network, size)
    deployed = count_parameters(network) - count_parameters(network.auxiliary_heads)
    assert sum(count_parameters(spec.build()) for spec in specs) == deployed


def test_specifications_read_the_shapes_that_the_network_feeds(architecture: Architecture) -> None:
    """Hooks on the real modules see exactly the maps that the specifications name."""
    size = (67, 101)
    network = DerivedNetwork(architecture, 5).eval()
    built = Counter((type(spec.build()), spec.input_shape()) for spec in network.operator_specs(size))
    types = {kind for kind, _ in built}
    seen: Counter[tuple[type, tuple[int, ...]]] = Counter()

    def record(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen[(type(module), tuple(inputs[0].shape))] += 1

    # a head's own block is part of the head's specification
    for name, module in network.named_modules():
        if type(module) in types and not name.startswith("auxiliary_heads") and not name.endswith("head.block"):
            module.register_forward_hook(record)
    network(torch.randn(1, 3, *size))
    assert seen == Counter({key: count for key, count in built.items() if key[0].__name__ != "Resize"})


def test_shared_cells_run_once() -> None:
    network = DerivedNetwork(SMALL["sharing"], 5).eval()
    calls: Counter[str] = Counter()
    for name, module in network.branches.named_modules():
        if name.count(".") == 1:
            module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    network(torch.randn(1, 3, 64, 64))
    assert set(calls.values()) == {1}
    assert len(calls) == 5 + 4 - 3


def name_when_shared(name: str) -> str:
    """Where the second branch's weights stand when its first three cells are the first branch's."""
    if not name.startswith("branches.1."):
        return name
    layer, rest = name.split(".", 3)[2:]
    return f"branches.0.{layer}.{rest}" if int(layer) < 3 else f"branches.1.{int(layer) - 3}.{rest}"


def test_sharing_computes_the_same_as_two_copies() -> None:
    shared = DerivedNetwork(SMALL["sharing"], 5).eval()
    alone = DerivedNetwork(Architecture(4, 1.0, 1.0, SMALL["sharing"].branches, shared_cells=0), 5).eval()
    weights = shared.state_dict()
    alone.load_state_dict({name: weights[name_when_shared(name)] for name in alone.state_dict()})
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(shared(image).main, alone(image).main)


def test_every_parameter_gets_a_gradient_in_training(architecture: Architecture) -> None:
    torch.manual_seed(0)
    network = DerivedNetwork(architecture, 5).train()
    logits = network(torch.randn(2, 3, 64, 96))
    loss = sum((head * torch.randn_like(head)).sum() for head in (logits.main, *logits.auxiliary))
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []


def test_auxiliary_heads_are_for_training_only() -> None:
    network = DerivedNetwork(SMALL["stride 8 and 32"], 5)
    assert network.auxiliary_scales == (16, 32)
    assert len(network.train()(torch.randn(2, 3, 64, 64)).auxiliary) == 2
    assert network.eval()(torch.randn(2, 3, 64, 64)).auxiliary == ()
    assert DerivedNetwork(SMALL["one branch"], 5).auxiliary_scales == ()


def test_resizes_chain_up_to_the_image() -> None:
    specs = derived_specs(released_student(), NUM_CLASSES, input_size=(1024, 2048))
    resizes = [spec for spec in specs if spec.kind == "resize"]
    assert [(spec.height, spec.to_dict()["out_height"]) for spec in resizes] == [
        (32, 64),
        (64, 128),
        (64, 128),
        (128, 1024),
    ]
    assert len({spec.key for spec in specs}) == len(set(specs))


class TestReleasedStudent:
    def test_parameters(self) -> None:
        # the published 4,385,689 count an attention block of 32,768 that the released program never runs
        assert count_parameters(DerivedNetwork(released_student(), NUM_CLASSES)) == 4_385_689 - 32_768

    def test_macs_at_full_resolution(self) -> None:
        network = DerivedNetwork(released_student(), NUM_CLASSES)
        # convolutions cost in proportion to the map, all of which 32 divides at both sizes
        macs = count_macs(network, (128, 256)) * 64
        assert macs / 1e9 == pytest.approx(27.77, abs=0.005)

    def test_widths_give_the_published_channels(self) -> None:
        specs = derived_specs(released_student(), NUM_CLASSES, input_size=(1024, 2048))
        cells = [spec.to_dict() for spec in specs if spec.kind == "cell"][2:]
        first, second = cells[:10], cells[10:]
        assert [cell["out_channels"] for cell in first] == [32, 32, 32, 128, 64, 64, 64, 128, 128, 256]
        assert [cell["out_channels"] for cell in second] == [32, 32, 64, 64, 192, 128]
        assert second[0]["in_channels"] == 32
        assert all(before["out_channels"] == after["in_channels"] for before, after in pairwise(first))
