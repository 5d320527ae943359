import pytest
import torch

from fasterseg.networks.channels import StemKind
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.runtime.importers.backbone import transfer_backbone

WIDTH = 0.125


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
