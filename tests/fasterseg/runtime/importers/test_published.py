import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fasterseg.networks.operators import OPERATOR_NAMES
from fasterseg.networks.presets import load_preset
from fasterseg.runtime.importers.published import import_architecture, import_published
from fasterseg.runtime.importers.restricted import load_foreign
from tests.released_student import released_student

CASES = json.loads((Path(__file__).resolve().parents[3] / "golden" / "decodes.json").read_text())
RELEASE = Path(__file__).resolve().parents[5] / "shared" / "fasterseg_release"
ENDS = {"32-16": (2, 1), "32-8": (2, 0)}


def drawn_parameters(case: dict[str, Any]) -> dict[str, object]:
    """An arch_1.pt's content with the parameters that the case was decoded from."""
    layers, draw = case["layers"], np.random.RandomState(case["seed"])
    shapes = {
        "alpha_1_0": (layers, 5), "alpha_1_1": (layers - 1, 5), "alpha_1_2": (layers - 2, 5),
        "beta_1_1": (layers - 2, 2), "beta_1_2": (layers - 3, 2),
        "ratio_1_0": (layers - 1, 5), "ratio_1_1": (layers - 1, 5), "ratio_1_2": (layers - 2, 5),
    }  # fmt: skip
    data: dict[str, object] = {}
    for name, shape in shapes.items():
        values = draw.standard_normal(shape).astype(np.float32)
        if name.startswith("alpha"):
            values[:, 0] += case["skip_bias"]
        data[name] = torch.nn.Parameter(torch.from_numpy(values))
    return data


@pytest.mark.parametrize("branches", ["32-16", "32-8"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['layers']}-{case['seed']}-{case['skip_bias']}")
def test_every_recorded_decode(case: dict[str, Any], branches: Any, tmp_path: Path) -> None:
    path = tmp_path / "arch_1.pt"
    torch.save(drawn_parameters(case), path, _use_new_zipfile_serialization=False)
    data = load_foreign(path)
    assert isinstance(data, dict)
    found = import_architecture(data, source=str(path), branches=branches)
    for branch, index in zip(found.branches, ENDS[branches], strict=True):
        assert [OPERATOR_NAMES.index(cell.operator) for cell in branch] == case["operators"][index]
        assert [cell.scale for cell in branch] == case["scales"][index]
        assert [round(12 * cell.width) for cell in branch[:-1]] == case["widths_of_12"][index]


def test_the_figures_in_the_file_choose_the_branches() -> None:
    data = drawn_parameters(CASES[-1])
    assert import_architecture(data, source="arch").ends == (32, 16)
    data |= {"mIoU12": np.float64(0.5), "mIoU02": np.float64(0.6), "latency12": 6.0, "latency02": 6.0}
    assert import_architecture(data, source="arch").ends == (32, 8)
    data["latency02"] = 6.0 * (0.5 / 0.6) ** (-1 / 0.07) * 1.01  # slower by just more than its mIoU is worth
    assert import_architecture(data, source="arch").ends == (32, 16)


def test_missing_and_misshapen_parameters_are_named() -> None:
    data = drawn_parameters(CASES[0])
    with pytest.raises(ValueError, match="arch: beta_1_2 has shape"):
        import_architecture(data | {"beta_1_2": torch.zeros(1, 2)}, source="arch")
    del data["ratio_1_1"]
    with pytest.raises(ValueError, match="arch: ratio_1_1 is nothing, expected a parameter"):
        import_architecture(data, source="arch")


def test_weights_of_another_architecture_name_the_tensor() -> None:
    with pytest.raises(ValueError, match="weights: tensor stem.0.conv.0.weight has shape"):
        import_published(
            {"stem.0.conv.0.weight": torch.zeros(1, 3, 3, 3), "heads8.conv_1x1.weight": torch.zeros(19, 64, 1, 1)},
            released_student(),
            source="weights",
        )
    with pytest.raises(ValueError, match=r"has no tensor heads8\.conv_1x1\.weight"):
        import_published({"a": torch.zeros(1)}, released_student(), source="weights")


@pytest.mark.skipif(not RELEASE.is_dir(), reason="the released arch_*.pt files are not on this machine")
def test_the_released_files_are_the_presets() -> None:
    for file, preset in (("arch_0.pt", "fasterseg-teacher"), ("arch_1.pt", "fasterseg-student")):
        data = load_foreign(RELEASE / file)
        assert isinstance(data, dict)
        assert import_architecture(data, source=file) == load_preset(preset)
