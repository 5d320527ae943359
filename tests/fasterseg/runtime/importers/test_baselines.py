"""Other programs' state dicts in the baselines: names, shapes, and equal outputs."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from fasterseg.networks import DeployedNetwork, resize_bilinear
from fasterseg.networks.channels import StemKind
from fasterseg.networks.icnet import ICNet, ICNetArchitecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.runtime.importers.baselines import import_icnet, import_pspnet, import_resnet50, transfer_backbone
from fasterseg.runtime.importers.weights import ImportedWeights, reference_state
from tests.golden_fill import fill, golden_image, relative_error

GOLDEN = Path(__file__).resolve().parents[3] / "golden"
WIDTH = 0.125
PSPNET_SIZE, ICNET_SIZE = (97, 161), (128, 256)
FLOAT32_TOLERANCE = 1e-4
DOUBLE_TOLERANCE = 1e-10


@pytest.mark.parametrize("stem", ["deep", "plain"])
def test_a_pspnets_backbone_goes_into_an_icnet(stem: StemKind) -> None:
    pspnet = PSPNetArchitecture(stem, WIDTH).build(3).state_dict()
    imported = transfer_backbone(pspnet, ICNetArchitecture(stem, WIDTH), num_classes=7, source="psp")
    icnet = imported.architecture.build(7)
    icnet.load_state_dict(dict(imported.weights))
    for name, value in icnet.backbone.state_dict().items():
        assert torch.equal(value, pspnet[f"backbone.{name}"])
    parts = {name.split(".")[0] for name in imported.dropped}
    assert parts == {"pyramid", "head", "auxiliary_heads"}
    assert {name.split(".")[0] for name in imported.uninitialised} == {
        "detail",
        "fusion16",
        "fusion8",
        "classifier",
        "auxiliary_heads",
    }


def test_the_copy_is_a_copy() -> None:
    pspnet = PSPNetArchitecture(width_factor=WIDTH).build(3).state_dict()
    imported = transfer_backbone(pspnet, ICNetArchitecture(width_factor=WIDTH), num_classes=3, source="psp")
    name = "backbone.layer4.0.spatial.conv.weight"
    pspnet[name].zero_()
    assert imported.weights[name].abs().sum() > 0


def test_backbones_that_differ_are_refused() -> None:
    pspnet = PSPNetArchitecture(width_factor=WIDTH).build(3).state_dict()
    with pytest.raises(ValueError, match=r"psp: tensor backbone\.stem\.0\.conv\.weight has shape \(8, 3, 3, 3\)"):
        transfer_backbone(pspnet, ICNetArchitecture("plain", WIDTH), num_classes=3, source="psp")
    with pytest.raises(ValueError, match=r"tensor backbone\.stem\.0\.conv\.weight has shape"):
        transfer_backbone(pspnet, ICNetArchitecture(width_factor=0.25), num_classes=3, source="psp")


_BLOCKS, _REDUCED = (3, 4, 6, 3), (64, 128, 256, 512)


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    fields = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{field}": (channels,) for field in fields} | {f"{name}.num_batches_tracked": ()}


def _resnet50(stem: dict[str, tuple[int, ...]], before: int) -> dict[str, torch.Tensor]:
    shapes = dict(stem)
    for stage, (blocks, reduced) in enumerate(zip(_BLOCKS, _REDUCED, strict=True), start=1):
        for block in range(blocks):
            unit = f"layer{stage}.{block}"
            convolutions = ((reduced, before, 1), (reduced, reduced, 3), (4 * reduced, reduced, 1))
            for index, (after, channels, kernel) in enumerate(convolutions, start=1):
                shapes[f"{unit}.conv{index}.weight"] = (after, channels, kernel, kernel)
                shapes |= _norm(f"{unit}.bn{index}", after)
            if block == 0:
                shapes[f"{unit}.downsample.0.weight"] = (4 * reduced, before, 1, 1)
                shapes |= _norm(f"{unit}.downsample.1", 4 * reduced)
            before = 4 * reduced
    shapes |= {"fc.weight": (1000, 2048), "fc.bias": (1000,)}
    return {name: fill(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def torchvision_state() -> dict[str, torch.Tensor]:
    return _resnet50({"conv1.weight": (64, 3, 7, 7)} | _norm("bn1", 64), 64)


def test_the_plain_stem_takes_torchvisions_weights_one_to_one(torchvision_state: dict[str, torch.Tensor]) -> None:
    imported = import_resnet50(torchvision_state, ICNetArchitecture("plain"), num_classes=5, source="r50.pth")
    assert imported.dropped == ("fc.weight", "fc.bias")
    assert not any(name.startswith("backbone.") for name in imported.uninitialised)
    assert "classifier.weight" in imported.uninitialised
    backbone = [name for name in imported.weights if name.startswith("backbone.")]
    assert len(backbone) == len(torchvision_state) - 2
    for ours, theirs in (
        ("stem.0.conv.weight", "conv1.weight"),
        ("stem.0.norm.running_var", "bn1.running_var"),
        ("layer3.5.spatial.conv.weight", "layer3.5.conv2.weight"),
        ("layer4.2.expand.norm.bias", "layer4.2.bn3.bias"),
        ("layer2.0.downsample.norm.weight", "layer2.0.downsample.1.weight"),
    ):
        assert torch.equal(imported.weights[f"backbone.{ours}"], torchvision_state[theirs])


def test_a_deep_stem_takes_all_but_the_stem_and_what_reads_it(torchvision_state: dict[str, torch.Tensor]) -> None:
    imported = import_resnet50(torchvision_state, PSPNetArchitecture(), num_classes=5, source="r50.pth")
    norm = tuple(_norm("bn1", 64))
    behind = {"layer1.0.conv1.weight", "layer1.0.downsample.0.weight"}
    assert set(imported.dropped) == {"conv1.weight", *norm, *behind, "fc.weight", "fc.bias"}
    untouched = {name for name in imported.uninitialised if name.startswith("backbone.layer")}
    assert untouched == {"backbone.layer1.0.reduce.conv.weight", "backbone.layer1.0.downsample.conv.weight"}
    assert torch.equal(imported.weights["backbone.layer1.0.reduce.norm.bias"], torchvision_state["layer1.0.bn1.bias"])


def test_a_deep_stems_own_weights_fit_the_deep_stem() -> None:
    stem: dict[str, tuple[int, ...]] = {"conv1.0.weight": (64, 3, 3, 3)} | _norm("conv1.1", 64)
    stem |= {"conv1.3.weight": (64, 64, 3, 3)} | _norm("conv1.4", 64)
    stem |= {"conv1.6.weight": (128, 64, 3, 3)} | _norm("bn1", 128)
    state = _resnet50(stem, 128)
    imported = import_resnet50(state, ICNetArchitecture(), num_classes=5, source="v1s.pth")
    assert imported.dropped == ("fc.weight", "fc.bias")
    assert not any(name.startswith("backbone.") for name in imported.uninitialised)
    plain = import_resnet50(state, ICNetArchitecture("plain"), num_classes=5, source="v1s.pth")
    assert "conv1.0.weight" in plain.dropped and "layer1.0.conv1.weight" in plain.dropped


def test_another_width_is_refused(torchvision_state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"r50.pth: tensor conv1\.weight has shape \(64, 3, 7, 7\).*needs \(32, 3, 7"):
        import_resnet50(torchvision_state, ICNetArchitecture("plain", 0.5), num_classes=5, source="r50.pth")


def test_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vgg.pth holds nothing for ICNet; its names are features\.0\.weight"):
        import_resnet50({"features.0.weight": torch.zeros(1)}, ICNetArchitecture(), num_classes=5, source="vgg.pth")


@pytest.fixture(scope="module")
def semseg_state() -> dict[str, torch.Tensor]:
    data = json.loads((GOLDEN / "pspnet50.json").read_text())
    return {name: fill(name, shape) for name, shape in data["state"]}


def test_pspnet_logits_of_a_file_as_semseg_writes_it(semseg_state: dict[str, torch.Tensor]) -> None:
    file = {"epoch": 200, "state_dict": {f"module.{name}": value for name, value in semseg_state.items()}}
    imported = import_pspnet(reference_state(file, "psp.pth"), PSPNetArchitecture(), source="psp.pth")
    assert (imported.num_classes, imported.dropped, imported.uninitialised) == (19, (), ())
    network = imported.architecture.build(imported.num_classes)
    network.load_state_dict(dict(imported.weights))
    with torch.no_grad():
        logits = DeployedNetwork(network.eval())(golden_image(1234, (1, 3, *PSPNET_SIZE)))
    with np.load(GOLDEN / "pspnet50.npz") as expected:
        assert relative_error(logits[:, :, ::4, ::4], expected["eval_0_every_4"]) < 1e-4


def test_a_pspnet_file_without_the_auxiliary_head(semseg_state: dict[str, torch.Tensor]) -> None:
    partial = {name: value for name, value in semseg_state.items() if not name.startswith("aux.")}
    imported = import_pspnet(partial, PSPNetArchitecture(), source="psp.pth")
    assert imported.uninitialised and all(name.startswith("auxiliary_heads.8.") for name in imported.uninitialised)


def test_a_pspnet_of_another_stem_is_refused(semseg_state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"tensor layer0\.0\.weight has shape \(64, 3, 3, 3\).*needs \(64, 3, 7, 7\)"):
        import_pspnet(semseg_state, PSPNetArchitecture("plain"), source="psp.pth")


@pytest.fixture(scope="module")
def icnet_state() -> dict[str, torch.Tensor]:
    data = json.loads((GOLDEN / "icnet_resnet50_v1s.json").read_text())
    return {name: fill(name, shape) for name, shape in data["state"]}


@pytest.fixture(scope="module")
def imported(icnet_state: dict[str, torch.Tensor]) -> ImportedWeights[ICNetArchitecture]:
    return import_icnet(icnet_state, ICNetArchitecture(), source="icnet.pth")


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


def test_icnet_evaluation_logits(network: ICNet, expected: Mapping[str, np.ndarray]) -> None:
    image = golden_image(1234, (1, 3, *ICNET_SIZE))
    for dtype, tolerance in ((torch.float32, FLOAT32_TOLERANCE), (torch.float64, DOUBLE_TOLERANCE)):
        with torch.no_grad():
            main = network.eval().to(dtype)(image.to(dtype)).main
        for index, output in enumerate((resize_bilinear(main, ICNET_SIZE), main)):
            assert relative_error(output[:, :, ::4, ::4], expected[f"eval_{index}_every_4"]) < tolerance, index


def test_icnet_training_logits_of_all_outputs(network: ICNet, expected: Mapping[str, np.ndarray]) -> None:
    with torch.no_grad():
        logits = network.train().double()(golden_image(4321, (2, 3, *ICNET_SIZE)).double())
    outputs = (resize_bilinear(logits.main, ICNET_SIZE), logits.main, *logits.auxiliary)
    for index, output in enumerate(outputs):
        assert relative_error(output[:, :, ::4, ::4], expected[f"train_{index}_every_4"]) < DOUBLE_TOLERANCE, index


def test_an_icnet_of_another_stem_or_width_is_refused(icnet_state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"icnet.pth: tensor pretrained\.conv1\.0\.weight .*(stem|shape)"):
        import_icnet(icnet_state, ICNetArchitecture("plain"), source="icnet.pth")
    with pytest.raises(ValueError, match=r"has shape \(64, 3, 3, 3\), but backbone\.stem\.0\.conv\.weight needs \(32,"):
        import_icnet(icnet_state, ICNetArchitecture(width_factor=0.5), source="icnet.pth")


def test_another_network_than_icnet_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.pth has no tensor head\.conv_cls\.weight.*its names are cls\.0\.weight"):
        import_icnet({"cls.0.weight": torch.zeros(1)}, ICNetArchitecture(), source="a.pth")


def test_what_a_file_lacks_is_listed(icnet_state: dict[str, torch.Tensor]) -> None:
    partial = {name: value for name, value in icnet_state.items() if "cff_12.conv_low.1" not in name}
    imported = import_icnet(partial, ICNetArchitecture(), source="icnet.pth")
    assert imported.uninitialised == tuple(
        f"fusion8.low.norm.{field}" for field in ("weight", "bias", "running_mean", "running_var")
    )
    assert torch.equal(imported.weights["fusion8.low.norm.running_var"], torch.ones(128))
