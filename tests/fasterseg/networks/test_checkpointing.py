"""A training step that saves memory against one that does not: the same in all that stays."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from fasterseg.networks import DerivedNetwork
from fasterseg.networks.checkpointing import CheckpointedNetwork, enable_memory_saving
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from tests.released_student import released_student

ARCHITECTURES = [ICNetArchitecture(width_factor=0.125), PSPNetArchitecture(width_factor=0.125)]


@pytest.fixture(params=ARCHITECTURES, ids=["icnet", "pspnet"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[CheckpointedNetwork, CheckpointedNetwork]]:
    torch.manual_seed(0)
    plain = request.param.build(5).double().train()
    saving = copy.deepcopy(plain)
    enable_memory_saving(saving)
    return plain, saving


def step(network: CheckpointedNetwork) -> int:
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
    pair: tuple[CheckpointedNetwork, CheckpointedNetwork],
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


def test_less_is_kept_between_the_passes(pair: tuple[CheckpointedNetwork, CheckpointedNetwork]) -> None:
    plain, saving = pair
    assert step(saving) < step(plain) / 2


def test_frozen_statistics_stay_in_use(pair: tuple[CheckpointedNetwork, CheckpointedNetwork]) -> None:
    for network in pair:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        step(network)
    plain, saving = pair
    for (name, expected), found in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        torch.testing.assert_close(found[1].grad, expected.grad, rtol=1e-6, atol=0, msg=name)
    assert all(int(value) == 0 for name, value in saving.named_buffers() if name.endswith("num_batches_tracked"))


def test_evaluation_is_the_same(pair: tuple[CheckpointedNetwork, CheckpointedNetwork]) -> None:
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    plain, saving = (network.eval()(image).main for network in pair)
    assert torch.equal(plain, saving)


def test_a_network_without_segments_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_saving is not available for DerivedNetwork, only for ICNet"):
        enable_memory_saving(DerivedNetwork(released_student(), 5))
