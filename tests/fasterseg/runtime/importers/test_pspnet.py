"""semseg's PSPNet50 through its importer, against what that program computes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fasterseg.networks import DeployedNetwork
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.runtime.importers.pspnet import import_pspnet
from fasterseg.runtime.importers.weights import reference_state
from tests.golden_fill import fill, golden_image, relative_error

GOLDEN = Path(__file__).resolve().parents[3] / "golden"
SIZE = (97, 161)


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    data = json.loads((GOLDEN / "pspnet50.json").read_text())
    return {name: fill(name, shape) for name, shape in data["state"]}


def test_evaluation_logits_of_a_file_as_semseg_writes_it(reference: dict[str, torch.Tensor]) -> None:
    file = {"epoch": 200, "state_dict": {f"module.{name}": value for name, value in reference.items()}}
    imported = import_pspnet(reference_state(file, "psp.pth"), PSPNetArchitecture(), source="psp.pth")
    assert (imported.num_classes, imported.dropped, imported.uninitialised) == (19, (), ())
    network = imported.architecture.build(imported.num_classes)
    network.load_state_dict(dict(imported.weights))
    with torch.no_grad():
        logits = DeployedNetwork(network.eval())(golden_image(1234, (1, 3, *SIZE)))
    with np.load(GOLDEN / "pspnet50.npz") as expected:
        assert relative_error(logits[:, :, ::4, ::4], expected["eval_0_every_4"]) < 1e-4


def test_a_file_without_the_auxiliary_head(reference: dict[str, torch.Tensor]) -> None:
    partial = {name: value for name, value in reference.items() if not name.startswith("aux.")}
    imported = import_pspnet(partial, PSPNetArchitecture(), source="psp.pth")
    assert imported.uninitialised and all(name.startswith("auxiliary_heads.8.") for name in imported.uninitialised)


def test_another_stem_is_refused(reference: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"tensor layer0\.0\.weight has shape \(64, 3, 3, 3\).*needs \(64, 3, 7, 7\)"):
        import_pspnet(reference, PSPNetArchitecture("plain"), source="psp.pth")
