from typing import Any

import pytest
import torch

from fasterseg.networks.icnet import ICNet, ICNetArchitecture
from fasterseg.runtime.importers.weights import fit_weights, reference_state

TENSOR = torch.zeros(1)
ARCHITECTURE = ICNetArchitecture(width_factor=0.125)


@pytest.fixture
def network() -> ICNet:
    return ARCHITECTURE.build(3)


@pytest.mark.parametrize(
    "data",
    [
        {"a.b": TENSOR},
        {"module.a.b": TENSOR},
        {"state_dict": {"module.a.b": TENSOR}, "epoch": 3, "optimizer": {}},
    ],
)
def test_wrappings_are_taken_off(data: dict[str, Any]) -> None:
    assert reference_state(data, "a.pth") == {"a.b": TENSOR}


def test_a_prefix_of_some_names_is_part_of_them() -> None:
    assert set(reference_state({"module.a": TENSOR, "b": TENSOR}, "a.pth")) == {"module.a", "b"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([TENSOR], "a.pth holds no state dict; expected tensors by name"),
        ({}, "a.pth holds no state dict"),
        ({"state_dict": {}}, "a.pth holds no state dict"),
        ({"a": TENSOR, "epoch": 3}, "a.pth holds int under 'epoch', expected a state dict"),
        ({3: TENSOR}, "a.pth holds Tensor under 3"),
    ],
)
def test_other_data_is_refused(data: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reference_state(data, "a.pth")


def test_values_are_copied_into_the_networks_type(network: ICNet) -> None:
    half = torch.full((3, 16, 1, 1), 0.5, dtype=torch.float16)
    before = network.classifier.weight.clone()
    imported = fit_weights({"cls": half}, lambda _: "classifier.weight", network, architecture=None, source="a.pth")
    assert imported.weights["classifier.weight"].dtype == torch.float32
    assert imported.weights["classifier.weight"].unique().tolist() == [0.5]
    assert torch.equal(network.classifier.weight, before)
    assert imported.num_classes == 3


def test_of_two_tensors_for_one_place_the_later_holds(network: ICNet) -> None:
    state = {"a": torch.zeros(3, 16, 1, 1), "b": torch.ones(3, 16, 1, 1)}
    imported = fit_weights(state, lambda _: "classifier.weight", network, architecture=None, source="a.pth")
    assert imported.weights["classifier.weight"].unique().tolist() == [1]


def test_a_batch_counter_is_not_missed(network: ICNet) -> None:
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    imported = fit_weights(state, lambda name: name, network, architecture=ARCHITECTURE, source="a.pth")
    assert imported.uninitialised == ()
    imported.architecture.build(3).load_state_dict(dict(imported.weights))


def test_a_shape_that_differs_is_refused_by_name(network: ICNet) -> None:
    with pytest.raises(
        ValueError, match=r"a\.pth: tensor cls has shape \(4, 16, 1, 1\), but classifier\.weight needs \(3, 16, 1, 1\)"
    ):
        fit_weights(
            {"cls": torch.zeros(4, 16, 1, 1)}, lambda _: "classifier.weight", network, architecture=None, source="a.pth"
        )


def test_a_tensor_without_a_place_is_refused(network: ICNet) -> None:
    with pytest.raises(ValueError, match=r"a\.pth: tensor cls would be head\.weight, which ICNet of this"):
        fit_weights({"cls": TENSOR}, lambda _: "head.weight", network, architecture=None, source="a.pth")


def test_a_file_of_which_nothing_fits_is_refused(network: ICNet) -> None:
    with pytest.raises(ValueError, match=r"a\.pth holds nothing for ICNet; its names are x, y"):
        fit_weights({"x": TENSOR, "y": TENSOR}, lambda _: None, network, architecture=None, source="a.pth")
