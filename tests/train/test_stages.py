"""The baselines' recipes: what they start from, how they step, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fasterseg.base.experiment import load_experiment
from fasterseg.engine.checkpoint import load_network, load_state
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from pipeline import SECTIONS as PIPELINE_SECTIONS
from train import stages
from train.config import BASELINES, BaselineName, BaselinesConfig, ICNetConfig, PSPNetConfig
from train.recipe import build_optimizer
from train.stages import run_baseline
from train.start import start_fresh
from train.trainer import NetworkStage

WriteExperiment = Callable[..., Path]


def train(file: Path, name: BaselineName, out: Path, *overrides: str, start_from: Path | None = None) -> Path:
    experiment = load_experiment(file, [f"baselines.{name}.{text}" for text in overrides], stages.BASELINE_SECTIONS)
    return run_baseline(experiment, name, out=out, start_from=start_from)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_state(folder / "last.pt")["stage"]["network"]
    return tensors


def records(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def resnet50_state(channels: int = 8) -> dict[str, torch.Tensor]:
    """A state dict with torchvision's names, an eighth as wide."""
    network = PSPNetArchitecture(stem="plain", width_factor=channels / 64).build(3)
    state = {"fc.weight": torch.zeros(2, 2)}
    for name, value in network.backbone.state_dict().items():
        renamed = name.replace("stem.0.conv", "conv1").replace("stem.0.norm", "bn1")
        for index, layer in enumerate(("reduce", "spatial", "expand"), start=1):
            renamed = renamed.replace(f"{layer}.conv", f"conv{index}").replace(f"{layer}.norm", f"bn{index}")
        state[renamed.replace("downsample.conv", "downsample.0").replace("downsample.norm", "downsample.1")] = value
    return state


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_trains_in_the_stages_run_folder(
    write_experiment: WriteExperiment, tmp_path: Path, name: BaselineName
) -> None:
    best = train(write_experiment(epochs=2, memory_saving=True, accumulation=1), name, tmp_path / "out")
    checkpoint = load_network(best)
    assert checkpoint.architecture == {"icnet": ICNetArchitecture, "pspnet50": PSPNetArchitecture}[name](
        width_factor=0.125
    )
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["miou"] == checkpoint.scores["miou"] > 0
    assert json.loads((tmp_path / "out/architecture.json").read_text()) == checkpoint.architecture.to_dict()
    assert "peak memory" in (tmp_path / "out/log.txt").read_text()
    first = records(tmp_path / "out")[0]
    auxiliary = sum(value for key, value in first.items() if key.startswith("train/auxiliary"))
    assert first["train/loss"] == pytest.approx(first["train/main"] + 0.4 * auxiliary, rel=1e-5)


def test_a_cut_run_ends_as_an_uncut_one(
    write_experiment: WriteExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_experiment(epochs=2, iterations_per_epoch=2)
    train(file, "icnet", tmp_path / "whole")
    step = NetworkStage.step

    def cut(self: NetworkStage, batch: Any, position: Any) -> Any:
        if position.step == 3:
            raise KeyboardInterrupt
        return step(self, batch, position)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(NetworkStage, "step", cut)
        train(file, "icnet", tmp_path / "cut")
    train(file, "icnet", tmp_path / "cut")
    whole = weights(tmp_path / "whole")
    assert all(torch.equal(value, whole[name]) for name, value in weights(tmp_path / "cut").items())
    assert records(tmp_path / "cut") == records(tmp_path / "whole")


def test_rates_of_new_layers_are_ten_times_the_backbones() -> None:
    network = ICNetArchitecture(width_factor=0.125).build(3)
    backbone, new = build_optimizer(network, ICNetConfig()).param_groups
    assert (backbone.get("lr_factor", 1.0), new["lr_factor"]) == (1.0, 10.0)
    assert len(backbone["params"]) == len(list(network.backbone.parameters()))
    assert len(backbone["params"]) + len(new["params"]) == len(list(network.parameters()))


def test_parts_of_a_batch_and_saved_memory_step_alike(write_experiment: WriteExperiment, tmp_path: Path) -> None:
    file = write_experiment(epochs=1, iterations_per_epoch=2, batch_size=4, batch_norm="frozen", optimizer="sgd")
    train(file, "icnet", tmp_path / "whole")
    train(file, "icnet", tmp_path / "parts", "accumulation=4")
    train(file, "icnet", tmp_path / "saving", "memory_saving=true")
    whole = weights(tmp_path / "whole")
    for other in ("parts", "saving"):
        for name, value in weights(tmp_path / other).items():
            torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-6, msg=f"{other}: {name}")
    fresh = load_network(train(file, "icnet", tmp_path / "still", "lr=1e-12")).weights
    assert any(not torch.equal(value, fresh[name]) for name, value in whole.items())
    # frozen batch norms kept the statistics they started with
    assert all(torch.equal(value, fresh[name]) for name, value in whole.items() if "running" in name)


@pytest.mark.parametrize("name", BASELINES)
def test_imagenet_weights_go_into_the_backbone(
    write_experiment: WriteExperiment, tmp_path: Path, name: BaselineName
) -> None:
    state = resnet50_state()
    file = tmp_path / "resnet50.pth"
    torch.save(state, file)
    overrides = ("stem=plain", f"imagenet_weights={file}", "lr=1e-12", "weight_decay=0")
    experiment = write_experiment(epochs=1)
    best = train(experiment, name, tmp_path / "out", *overrides)
    found = load_network(best).weights
    torch.testing.assert_close(found["backbone.stem.0.conv.weight"], state["conv1.weight"])
    torch.testing.assert_close(found["backbone.layer4.2.expand.conv.weight"], state["layer4.2.conv3.weight"])
    with pytest.raises(FileNotFoundError, match=r"no ImageNet weights at .*none\.pth.*download torchvision's ResNet50"):
        train(experiment, name, tmp_path / "missing", f"imagenet_weights={tmp_path}/none.pth")


def test_icnet_starts_from_pspnets_backbone_and_from_itself(write_experiment: WriteExperiment, tmp_path: Path) -> None:
    file = write_experiment(epochs=1)
    still = ("lr=1e-12", "weight_decay=0")
    pspnet = train(file, "pspnet50", tmp_path / "pspnet")
    icnet = train(file, "icnet", tmp_path / "icnet", *still, start_from=pspnet)
    given, taken = load_network(pspnet).weights, load_network(icnet).weights
    shared = [name for name in given if name.startswith("backbone.") and name.endswith("conv.weight")]
    assert len(shared) > 50
    for name in shared:
        torch.testing.assert_close(taken[name], given[name])
    again = load_network(train(file, "icnet", tmp_path / "again", *still, start_from=icnet)).weights
    torch.testing.assert_close(again["classifier.weight"], taken["classifier.weight"])
    with pytest.raises(ValueError, match="holds a network of ICNetArchitecture, which pspnet50 cannot start from"):
        train(file, "pspnet50", tmp_path / "other", start_from=icnet)
    with pytest.raises(ValueError, match=r"set baselines.icnet.stem and width_factor to those of the checkpoint"):
        train(file, "icnet", tmp_path / "wider", "width_factor=0.25", start_from=icnet)


def test_the_defaults_are_the_published_recipes() -> None:
    pspnet, icnet = PSPNetConfig(), ICNetConfig()
    assert (pspnet.lr, pspnet.batch_size, pspnet.crop_size_px, pspnet.schedule) == (0.01, 16, (768, 768), "poly")
    assert pspnet.epochs * pspnet.iterations_per_epoch == 120_000
    assert (icnet.lr, icnet.new_layer_lr_factor, icnet.batch_size, icnet.crop_size_px) == (0.01, 10, 7, (960, 960))
    assert icnet.epochs * icnet.iterations_per_epoch == 85_000
    assert (icnet.auxiliary_weight, icnet.weight_decay, icnet.scales[0], icnet.scales[-1]) == (0.4, 1e-4, 0.5, 2.0)
    assert (icnet.ohem.threshold, icnet.ohem.min_kept_fraction, icnet.shrink_labels) == (1.0, 0.0, True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["icnet.crop_size_px=[32, 64]"],
            "crop_size_px 32x64 is below the smallest .* train at; use 64",
        ),
        (["icnet.width_factor=1.5"], "baselines.icnet.width_factor: got 1.5"),
        (["icnet.epoch=3"], "baselines.icnet.epoch: unknown key; did you mean 'epochs'"),
        (["icnet.accumulation=3"], "accumulation is 3, which does not divide batch_size 7"),
        (["pspnet50.accumulation=16", "pspnet50.batch_norm=local"], "leaves one image at a time"),
        (["icnet.start_from=a", "icnet.imagenet_weights=b"], "are both set; keep one"),
    ],
)
def test_what_cannot_be_trained_is_named_before_anything_runs(
    tmp_path: Path, settings: list[str], message: str
) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text("name: small\n")
    with pytest.raises(ValueError, match=message):
        load_experiment(file, [f"baselines.{text}" for text in settings], {"baselines": BaselinesConfig})


def test_the_pipeline_reads_the_section_too(write_experiment: WriteExperiment) -> None:
    file = write_experiment()
    with pytest.raises(ValueError, match="baselines.icnets: unknown key; did you mean 'icnet'"):
        load_experiment(file, ["baselines.icnets.lr=1"], PIPELINE_SECTIONS)


def test_memory_saving_is_refused_where_there_is_nothing_to_recompute(
    write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path
) -> None:
    experiment = load_experiment(write_experiment(memory_saving=True), [], stages.TEACHER_SECTIONS)
    with pytest.raises(ValueError, match="memory_saving is not available for DerivedNetwork"):
        stages.run_teacher(experiment, out=tmp_path / "out", start=start_fresh(architecture_path))
