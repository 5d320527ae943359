import pytest
import torch

from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.runtime.importers.torchvision import import_resnet50
from tests.golden_fill import fill

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
