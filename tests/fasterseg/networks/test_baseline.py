import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from fasterseg.networks import DeployedNetwork, DerivedNetwork, count_macs, network_specs
from fasterseg.networks.baseline import BaselineArchitecture, BaselineNetwork, enable_memory_saving
from fasterseg.networks.channels import StemKind
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from tests.baseline_operators import operators_run, operators_specified, specified_macs
from tests.released_student import released_student

ICNET, PSPNET = ICNetArchitecture(width_factor=0.125), PSPNetArchitecture(width_factor=0.125)


@pytest.mark.parametrize("architecture", [ICNetArchitecture("plain", 0.5), PSPNetArchitecture()])
def test_plain_data_both_ways(architecture: BaselineArchitecture) -> None:
    data = json.loads(json.dumps(architecture.to_dict()))
    assert type(architecture).from_dict(data, "file") == architecture


def test_the_format_tells_the_family() -> None:
    assert ICNetArchitecture().to_dict() == {
        "format": "icnet-architecture",
        "version": 1,
        "stem": "deep",
        "width_factor": 1.0,
    }
    with pytest.raises(ValueError, match=r"a\.json is not an architecture of format 'pspnet-architecture'"):
        PSPNetArchitecture.from_dict(ICNetArchitecture().to_dict(), "a.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "has version 2, this release reads version 1"),
        ({"stem": "wide"}, "a.json: stem is 'wide', expected one of deep, plain"),
        ({"width_factor": 1.5}, r"width_factor is 1.5, expected a multiplier in \(0, 1\]"),
        ({"width_factor": 0}, "width_factor is 0.0, expected"),
        ({"width_factor": float("nan")}, "width_factor is nan, expected"),
        ({"width_factor": "1"}, "width_factor is '1', expected a number"),
        ({"width_factor": True}, "width_factor is True, expected a number"),
        ({"depth": 50}, "has fields depth, stem, width_factor; expected stem, width_factor"),
    ],
)
def test_other_data_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ICNetArchitecture.from_dict({**ICNetArchitecture().to_dict(), **change}, "a.json")


@pytest.mark.parametrize("data", [None, [], {"format": "icnet-architecture", "version": 1}])
def test_incomplete_data_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"a\.json (is not|has fields)"):
        ICNetArchitecture.from_dict(data, "a.json")


@pytest.mark.parametrize("stem", ["deep", "plain"])
@pytest.mark.parametrize(
    ("family", "size"),
    [
        (ICNetArchitecture, (1024, 2048)),
        (ICNetArchitecture, (97, 161)),
        (PSPNetArchitecture, (713, 713)),
        (PSPNetArchitecture, (96, 161)),
    ],
)
def test_the_specifications_are_what_an_evaluation_runs(
    family: type[BaselineArchitecture], stem: StemKind, size: tuple[int, int]
) -> None:
    with torch.device("meta"):
        network = family(stem).build(19)
    specs = network_specs(family(stem), 19, input_size=size)  # type: ignore[arg-type]
    assert specs == network.operator_specs(size)
    assert specified_macs(specs) == count_macs(network, size)
    assert operators_specified(specs) == operators_run(network, size)


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        *((ICNET, size) for size in [(64, 128), (65, 127), (33, 70), (8, 8)]),
        *((PSPNET, size) for size in [(65, 97), (64, 130), (33, 70), (8, 8)]),
    ],
)
def test_any_size_evaluates_and_strides_round_up(architecture: BaselineArchitecture, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    narrow = architecture.build(5).eval()
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        logits = narrow(image)
        assert DeployedNetwork(narrow)(image).shape == (1, 5, *size)
    stride = 4 if architecture is ICNET else 8
    assert logits.main.shape == (1, 5, -(-size[0] // stride), -(-size[1] // stride))
    assert logits.auxiliary == ()


@pytest.fixture(params=[ICNET, PSPNET], ids=["icnet", "pspnet"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[BaselineNetwork, BaselineNetwork]]:
    torch.manual_seed(0)
    plain = request.param.build(5).double().train()
    saving = copy.deepcopy(plain)
    enable_memory_saving(saving)
    return plain, saving


def step(network: BaselineNetwork) -> int:
    """One training step's backward pass; the bytes that its forward pass kept."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, 64, 96, generator=generator, dtype=torch.float64)
    torch.manual_seed(2)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = network(image)
        loss = sum((output.square().mean() for output in logits.auxiliary), start=logits.main.square().mean())
    loss.backward()
    return sum(kept.values())


def test_gradients_and_statistics_are_those_of_a_plain_step(
    pair: tuple[BaselineNetwork, BaselineNetwork],
) -> None:
    plain, saving = pair
    for _ in range(2):  # the second step starts from statistics that the first one moved
        step(plain)
        step(saving)
    for (name, expected), found in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert expected.grad is not None and expected.grad.abs().sum() > 0
        assert found.grad is not None
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-6, atol=0, msg=name)
    for (name, expected), found in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(found, expected), name


def test_less_is_kept_between_the_passes(pair: tuple[BaselineNetwork, BaselineNetwork]) -> None:
    plain, saving = pair
    assert step(saving) < step(plain) / 2


def test_frozen_statistics_stay_in_use(pair: tuple[BaselineNetwork, BaselineNetwork]) -> None:
    for network in pair:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        step(network)
    plain, saving = pair
    for (name, expected), found in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        torch.testing.assert_close(found[1].grad, expected.grad, rtol=1e-6, atol=0, msg=name)
    assert all(int(value) == 0 for name, value in saving.named_buffers() if name.endswith("num_batches_tracked"))


def test_evaluation_is_the_same(pair: tuple[BaselineNetwork, BaselineNetwork]) -> None:
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    plain, saving = (network.eval()(image).main for network in pair)
    assert torch.equal(plain, saving)


def test_a_network_without_segments_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_saving is not available for DerivedNetwork, only for ICNet"):
        enable_memory_saving(DerivedNetwork(released_student(), 5))
