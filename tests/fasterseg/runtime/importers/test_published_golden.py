"""The derived network, through the importer, against what the published program computes for the released student.

Recorded in float32; its training logits are up to 2.3e-5 off what both compute in double. Ours are therefore held in
double there, so that two roundings do not add up.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from fasterseg.networks import DerivedNetwork, resize_bilinear
from fasterseg.runtime.importers.published import import_published
from tests.golden_fill import fill, golden_image, relative_error
from tests.released_student import NUM_CLASSES, OPERATORS, SCALES, WIDTHS_OF_12, released_student

GOLDEN = Path(__file__).resolve().parents[3] / "golden"
SIZE = (128, 256)
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def reference() -> dict[str, list[object]]:
    data: dict[str, list[object]] = json.loads((GOLDEN / "fasterseg_student.json").read_text())
    return data


@pytest.fixture(scope="module")
def expected() -> Mapping[str, np.ndarray]:
    with np.load(GOLDEN / "fasterseg_student.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def network(reference: dict[str, list[tuple[str, list[int]]]]) -> DerivedNetwork:
    state = {name: fill(name, shape) for name, shape in reference["state"]}
    imported = import_published(state, released_student(), source="weights1.pt")
    assert imported.num_classes == NUM_CLASSES
    assert imported.uninitialised == ()
    assert all(".channel_attention." in name for name in imported.dropped)
    assert sum(state[name].numel() for name in imported.dropped) == 32_768
    network = DerivedNetwork(imported.architecture, imported.num_classes)
    network.load_state_dict(dict(imported.weights))
    return network


def test_the_architecture_is_the_recorded_one(reference: dict[str, list[object]]) -> None:
    assert reference["operators"] == list(OPERATORS)
    assert reference["scales"] == list(SCALES)
    assert reference["widths_of_12"] == list(WIDTHS_OF_12)


def test_evaluation_logits(network: DerivedNetwork, expected: Mapping[str, np.ndarray]) -> None:
    with torch.no_grad():
        logits = network.eval()(golden_image(1234, (1, 3, *SIZE)))
    assert logits.auxiliary == ()
    full = resize_bilinear(logits.main, SIZE)
    assert relative_error(full[:, :, ::8, ::8], expected["eval_logits_every_8"]) < TOLERANCE


def test_training_logits_of_all_heads(network: DerivedNetwork, expected: Mapping[str, np.ndarray]) -> None:
    with torch.no_grad():
        logits = network.train().double()(golden_image(4321, (2, 3, *SIZE)).double())
    assert network.auxiliary_scales == (16, 32)
    for name, output in zip((8, 16, 32), (logits.main, *logits.auxiliary), strict=True):
        full = resize_bilinear(output, SIZE)
        assert relative_error(full[:, :, ::16, ::16], expected[f"train_{name}_every_16"]) < TOLERANCE, name
