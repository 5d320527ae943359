import json
from pathlib import Path

import pytest
import torch

from fasterseg.networks import build_network, count_parameters, load_architecture, network_specs
from fasterseg.networks.families import architecture_from_dict
from fasterseg.networks.presets import PRESETS, architecture_path, load_preset, resolve_architecture
from tests.released_student import released_student


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_goes_through_its_file_and_lists_what_it_runs(name: str, tmp_path: Path) -> None:
    architecture = load_preset(name)
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps(architecture.to_dict()))
    assert load_architecture(path) == resolve_architecture(path) == architecture
    specs = network_specs(architecture, 7, input_size=(128, 256))
    with torch.device("meta"):
        network = build_network(architecture, 7)
    assert network.operator_specs((128, 256)) == specs
    assert network.num_classes == 7
    assert count_parameters(network) > 1e6


def test_the_student_preset_is_the_released_one() -> None:
    assert load_preset("fasterseg-student") == released_student()


def test_a_file_comes_before_a_preset_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert architecture_path("icnet").name == "icnet.json"
    Path("icnet").write_text("{}")
    assert architecture_path("icnet") == Path("icnet")
    with pytest.raises(ValueError, match="its format is None, expected one of fasterseg-architecture, icnet"):
        resolve_architecture("icnet")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no preset 'pspnet'; presets: .*pspnet50"):
        load_preset("pspnet")
    with pytest.raises(FileNotFoundError, match="no architecture at .*fasterseg import"):
        load_architecture(tmp_path / "a.json")
    with pytest.raises(ValueError, match="x is not an architecture: its format is None"):
        architecture_from_dict([], "x")
    (tmp_path / "a.json").write_bytes(b"\xff{")
    with pytest.raises(ValueError, match=r"a\.json:1: the byte 0xFF is not UTF-8"):
        load_architecture(tmp_path / "a.json")
