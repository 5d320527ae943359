"""The public PyTorch ICNet through its importer, against what that program computes in double precision.

Training outputs are held in double: batch norm over few pooled values puts float32, the program's own included, up to
1.4e-3 off.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from fasterseg.networks import resize_bilinear
from fasterseg.networks.icnet import ICNet, ICNetArchitecture
from fasterseg.runtime.importers.icnet import import_icnet
from fasterseg.runtime.importers.weights import ImportedWeights
from tests.golden_fill import fill, golden_image, relative_error

GOLDEN = Path(__file__).resolve().parents[3] / "golden"
SIZE = (128, 256)
FLOAT32_TOLERANCE = 1e-4
DOUBLE_TOLERANCE = 1e-10


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    data = json.loads((GOLDEN / "icnet_resnet50_v1s.json").read_text())
    return {name: fill(name, shape) for name, shape in data["state"]}


@pytest.fixture(scope="module")
def imported(reference: dict[str, torch.Tensor]) -> ImportedWeights[ICNetArchitecture]:
    return import_icnet(reference, ICNetArchitecture(), source="icnet.pth")


@pytest.fixture
def network(imported: ImportedWeights[ICNetArchitecture]) -> ICNet:
    network = imported.architecture.build(imported.num_classes)
    network.load_state_dict(dict(imported.weights))
    return network


@pytest.fixture(scope="module")
def expected() -> Mapping[str, np.ndarray]:
    with np.load(GOLDEN / "icnet_resnet50_v1s_double.npz") as arrays:
        return dict(arrays)


def test_the_unused_classifier_is_dropped_and_nothing_is_missing(
    imported: ImportedWeights[ICNetArchitecture],
) -> None:
    assert imported.num_classes == 19
    assert imported.dropped == ("pretrained.fc.weight", "pretrained.fc.bias")
    assert imported.uninitialised == ()


def test_evaluation_logits(network: ICNet, expected: Mapping[str, np.ndarray]) -> None:
    image = golden_image(1234, (1, 3, *SIZE))
    for dtype, tolerance in ((torch.float32, FLOAT32_TOLERANCE), (torch.float64, DOUBLE_TOLERANCE)):
        with torch.no_grad():
            main = network.eval().to(dtype)(image.to(dtype)).main
        for index, output in enumerate((resize_bilinear(main, SIZE), main)):
            assert relative_error(output[:, :, ::4, ::4], expected[f"eval_{index}_every_4"]) < tolerance, index


def test_training_logits_of_all_outputs(network: ICNet, expected: Mapping[str, np.ndarray]) -> None:
    with torch.no_grad():
        logits = network.train().double()(golden_image(4321, (2, 3, *SIZE)).double())
    outputs = (resize_bilinear(logits.main, SIZE), logits.main, *logits.auxiliary)
    for index, output in enumerate(outputs):
        assert relative_error(output[:, :, ::4, ::4], expected[f"train_{index}_every_4"]) < DOUBLE_TOLERANCE, index


def test_an_architecture_of_another_stem_or_width_is_refused(reference: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"icnet.pth: tensor pretrained\.conv1\.0\.weight .*(stem|shape)"):
        import_icnet(reference, ICNetArchitecture("plain"), source="icnet.pth")
    with pytest.raises(ValueError, match=r"has shape \(64, 3, 3, 3\), but backbone\.stem\.0\.conv\.weight needs \(32,"):
        import_icnet(reference, ICNetArchitecture(width_factor=0.5), source="icnet.pth")


def test_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.pth has no tensor head\.conv_cls\.weight.*its names are cls\.0\.weight"):
        import_icnet({"cls.0.weight": torch.zeros(1)}, ICNetArchitecture(), source="a.pth")


def test_what_a_file_lacks_is_listed(reference: dict[str, torch.Tensor]) -> None:
    partial = {name: value for name, value in reference.items() if "cff_12.conv_low.1" not in name}
    imported = import_icnet(partial, ICNetArchitecture(), source="icnet.pth")
    assert imported.uninitialised == tuple(
        f"fusion8.low.norm.{field}" for field in ("weight", "bias", "running_mean", "running_var")
    )
    assert torch.equal(imported.weights["fusion8.low.norm.running_var"], torch.ones(128))
