"""Settings of teacher and student: the published defaults, and what is refused."""

from pathlib import Path

import pytest

from fasterseg.base.experiment import load_experiment
from train.config import StudentConfig, TeacherConfig


def test_defaults_are_the_published_schedule() -> None:
    config = StudentConfig()
    assert (config.epochs, config.iterations_per_epoch, config.batch_size) == (600, 1000, 12)
    assert (config.lr, config.lr_decay, config.momentum, config.weight_decay) == (0.01, 0.992, 0.9, 5e-4)
    assert (config.optimizer, config.schedule, config.crop_size_px) == ("sgd", "exponential", (512, 1024))
    assert (config.auxiliary_weight, config.distillation_weight, config.label_stride) == (0.2, 1.0, 1)
    assert (config.ohem.threshold, config.ohem.min_kept_fraction) == (0.7, 1 / 16)


def test_a_crop_that_strides_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="crop_size_px height 500 is not divisible by 32; use 480 or 512"):
        TeacherConfig(crop_size_px=(500, 1024))
    with pytest.raises(ValueError, match="crop_size_px width 16 is less than 32; use 32 or more"):
        TeacherConfig(crop_size_px=(64, 16))


def test_an_unknown_key_gets_the_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text("student: {epoch: 3, ohem: {treshold: 0.5}}")
    with pytest.raises(ValueError, match="2 problem") as error:
        load_experiment(file, [], {"student": StudentConfig})
    assert "student.epoch: unknown key; did you mean 'epochs'?" in str(error.value)
    assert "student.ohem.treshold: unknown key; did you mean 'threshold'?" in str(error.value)


@pytest.mark.parametrize(
    "setting",
    ["lr=0", "epochs=0", "lr_decay=1.5", "momentum=1", "split=val", "predict_test_every=-1", "distillation_weight=-1"],
)
def test_values_out_of_range_are_named(tmp_path: Path, setting: str) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text("")
    with pytest.raises(ValueError, match=f"student.{setting.split('=')[0]}: got"):
        load_experiment(file, [f"student.{setting}"], {"student": StudentConfig})
