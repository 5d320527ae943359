from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, field_validator

from fasterseg.base.experiment import Section, dataset_num_classes, load_experiment


class Optimizer(Section):
    """A nested model."""

    lr: float = 0.01
    momentum: float = 0.9


class Student(Section):
    """A section."""

    epochs: int = 10
    crop_size_px: tuple[int, int] = (256, 512)
    optimizer: Optimizer = Optimizer()
    extra: Optimizer | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    @field_validator("crop_size_px")
    @classmethod
    def _divisible(cls, size: tuple[int, int]) -> tuple[int, int]:
        if size[0] % 32 or size[1] % 32:
            raise ValueError("a side is not divisible by 32")
        return size


class Target(Section):
    """A section with a field that must be set."""

    budget_ms: float


SECTIONS: dict[str, type[BaseModel]] = {"student": Student}


def write(tmp_path: Path, data: Any) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return path


def problems_of(path: Path, *overrides: str, sections: dict[str, type[BaseModel]] | None = None) -> str:
    with pytest.raises(ValueError, match=r"toy\.yaml has \d+ problem") as error:
        load_experiment(path, overrides, sections or SECTIONS)
    return str(error.value)


def test_a_section_is_read_and_defaults_fill_in(tmp_path: Path) -> None:
    path = write(tmp_path, {"name": "trial", "seed": 4, "student": {"epochs": 3}, "teacher": {"anything": 1}})
    experiment = load_experiment(path, [], SECTIONS)
    student = experiment.section("student", Student)
    assert (experiment.name, experiment.seed, experiment.source) == ("trial", 4, path)
    assert (student.epochs, student.crop_size_px, student.optimizer.lr) == (3, (256, 512), 0.01)
    assert experiment.stage_folder("student") == Path("runs/trial/student")
    assert experiment.raw["teacher"] == {"anything": 1}


def test_an_empty_file_is_an_experiment_of_defaults(tmp_path: Path) -> None:
    experiment = load_experiment(write(tmp_path, ""), [], SECTIONS)
    assert (experiment.name, experiment.seed) == ("toy", 0)
    assert experiment.section("student", Student) == Student()


def test_the_nearest_valid_key_is_offered_at_every_depth(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"studnet": {}, "student": {"epoch": 3, "optimizer": {"zzz": 1, "momentun": 0}, "extra": {"lrr": 1}}},
    )
    message = problems_of(path)
    assert "toy.yaml has 5 problem(s)" in message
    assert "studnet: unknown key; did you mean 'student'?" in message
    assert "student.epoch: unknown key; did you mean 'epochs'?" in message
    assert "student.optimizer.zzz: unknown key; expected one of lr, momentum" in message
    assert "student.optimizer.momentun: unknown key; did you mean 'momentum'?" in message
    assert "student.extra.lrr: unknown key; did you mean 'lr'?" in message


def test_all_problems_stand_in_one_message(tmp_path: Path) -> None:
    path = write(
        tmp_path, {"seed": -1, "name": "a/b", "student": {"epochs": "many", "crop_size_px": [500, 512]}, "x": 1}
    )
    message = problems_of(path, "student", sections={**SECTIONS, "target": Target})
    assert "toy.yaml has 7 problem(s)" in message
    for text in (
        "--set student: expected section.field=value",
        "x: unknown key; expected one of name, seed, dataset",
        "name: got 'a/b', expected a plain word",
        "seed: got -1, expected a whole number of at least 0",
        "student.epochs: got 'many'",
        "student.crop_size_px: got [500, 512]: a side is not divisible by 32",
        "target.budget_ms: required, but not set",
    ):
        assert text in message


@pytest.mark.parametrize("name", ["", ".", "..", 3, "a\\b"])
def test_names_that_cannot_name_a_folder(tmp_path: Path, name: object) -> None:
    assert f"name: got {name!r}" in problems_of(write(tmp_path, {"name": name}))


@pytest.mark.parametrize("seed", [True, 1.5, "one"])
def test_seeds_are_whole_numbers(tmp_path: Path, seed: object) -> None:
    assert f"seed: got {seed!r}" in problems_of(write(tmp_path, {"seed": seed}))


def test_an_override_of_a_yaml_alias_leaves_the_other_sections_alone(tmp_path: Path) -> None:
    file = tmp_path / "aliased.yaml"
    file.write_text("teacher: &training {epochs: 2, device: {threads: 1}}\nstudent: *training\n")
    experiment = load_experiment(file, ["student.epochs=9", "student.device.threads=2"], {})
    assert experiment.raw["teacher"] == {"epochs": 2, "device": {"threads": 1}}
    assert experiment.raw["student"] == {"epochs": 9, "device": {"threads": 2}}


def test_overrides_win_in_order(tmp_path: Path) -> None:
    path = write(tmp_path, {"student": {"epochs": 3}})
    overrides = [
        "student.epochs=5",
        "student.epochs=7",
        "student.crop_size_px=[64, 96]",
        "student.optimizer.lr=1.0e-3",
        "seed=9",
        "name=a=b",
        "student.extra.lr=2",
    ]
    experiment = load_experiment(path, overrides, SECTIONS)
    student = experiment.section("student", Student)
    assert (student.epochs, student.crop_size_px, student.optimizer.lr) == (7, (64, 96), 0.001)
    assert (experiment.seed, experiment.name) == (9, "a=b")
    assert student.extra is not None and student.extra.lr == 2
    assert experiment.raw["student"]["optimizer"] == {"lr": 0.001}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("student.epochs", "--set student.epochs: expected section.field=value"),
        ("=3", "--set =3: expected section.field=value"),
        ("student..epochs=3", "expected section.field=value"),
        ("student.epochs=[1", "the value is not valid YAML"),
        ("student.epochs.more=1", "student.epochs is 3, not a section"),
        ("studnet.epochs=1", "studnet: unknown key; did you mean 'student'?"),
        ("student.epohcs=1", "student.epohcs: unknown key; did you mean 'epochs'?"),
    ],
)
def test_wrong_overrides_are_refused(tmp_path: Path, override: str, message: str) -> None:
    assert message in problems_of(write(tmp_path, {"student": {"epochs": 3}}), override)


def test_digest_follows_the_seed_and_the_named_sections_only(tmp_path: Path) -> None:
    sections = {**SECTIONS, "target": Target}
    path = write(tmp_path, {"target": {"budget_ms": 5}})

    def digest(*overrides: str) -> str:
        return load_experiment(path, overrides, sections).digest("student")

    assert digest() == digest("target.budget_ms=6") == digest("name=other") == digest("student.epochs=10")
    assert len({digest(), digest("seed=1"), digest("student.epochs=11")}) == 3


def test_files_that_are_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file at .*absent\.yaml; configs/ holds examples"):
        load_experiment(tmp_path / "absent.yaml", [], SECTIONS)
    with pytest.raises(ValueError, match=r"toy\.yaml is not valid YAML"):
        load_experiment(write(tmp_path, "student: ["), [], SECTIONS)
    with pytest.raises(ValueError, match=r"toy\.yaml holds a list, expected sections"):
        load_experiment(write(tmp_path, "- 1"), [], SECTIONS)
    (tmp_path / "toy.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"toy\.yaml:1: the byte 0x00 is not UTF-16-LE"):
        load_experiment(tmp_path / "toy.yaml", [], SECTIONS)


class TestDatasetClassCount:
    def load(self, tmp_path: Path, data: Any) -> int:
        return dataset_num_classes(load_experiment(write(tmp_path, data), [], {}))

    def test_it_is_read_from_the_dataset(self, tmp_path: Path) -> None:
        (tmp_path / "dataset.yaml").write_text("classes: [{name: road}, {name: sky}]")
        assert self.load(tmp_path, {"dataset": {"root": str(tmp_path)}}) == 2

    @pytest.mark.parametrize("dataset", [None, {}, {"root": 3}])
    def test_no_root(self, tmp_path: Path, dataset: object) -> None:
        with pytest.raises(ValueError, match=r"toy\.yaml: dataset\.root is not set"):
            self.load(tmp_path, {"dataset": dataset})

    def test_no_dataset_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no .*dataset\.yaml; make the dataset first .*synthesize"):
            self.load(tmp_path, {"dataset": {"root": str(tmp_path / "absent")}})

    @pytest.mark.parametrize("classes", ["[]", "3", ""])
    def test_no_classes(self, tmp_path: Path, classes: str) -> None:
        (tmp_path / "dataset.yaml").write_text(f"classes: {classes}")
        with pytest.raises(ValueError, match=r"dataset\.yaml: classes is .*expected a list of at least one"):
            self.load(tmp_path, {"dataset": {"root": str(tmp_path)}})


@pytest.mark.parametrize("value", [False, "", [], 0, "all"])
@pytest.mark.parametrize("section", ["student", "teacher"])
def test_a_section_is_a_group_of_fields_whether_it_is_read_or_not(tmp_path: Path, section: str, value: object) -> None:
    assert f"{section}: got {value!r}, expected fields" in problems_of(write(tmp_path, {section: value}))


def test_an_empty_section_is_one_of_defaults(tmp_path: Path) -> None:
    assert load_experiment(write(tmp_path, "student:\n"), [], SECTIONS).section("student", Student) == Student()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ("epochs: true", "student.epochs: got True: expected no true or false"),
        ("epochs: off", "student.epochs: got False"),
        ("crop_size_px: [yes, 64]", "student.crop_size_px: got [True, 64]"),
        ("optimizer: {lr: .inf}", "student.optimizer.lr: got inf: expected a finite number"),
        ("optimizer: {lr: inf}", "student.optimizer.lr: got 'inf': expected a finite number"),
        ("optimizer: {momentum: .nan}", "student.optimizer.momentum: got nan"),
        ("scales: [1, -.inf]", "student.scales: got [1, -inf]"),
        ("extra: true", "student.extra: got True"),
    ],
)
def test_truth_values_and_endless_numbers_are_no_numbers(tmp_path: Path, settings: str, field: str) -> None:
    assert field in problems_of(write(tmp_path, f"student: {{{settings}}}"))


def test_a_field_of_true_or_false_takes_them(tmp_path: Path) -> None:
    file = write(tmp_path, "student: {flip: yes}")
    assert load_experiment(file, [], SECTIONS).section("student", Student).flip


def test_an_alias_that_repeats_itself_is_one_message(tmp_path: Path) -> None:
    file = write(tmp_path, "student: &again {extra: *again}")
    with pytest.raises(ValueError, match=r"toy.yaml, line 1: \*again stands inside of what it repeats"):
        load_experiment(file, [], SECTIONS)
    with pytest.raises(ValueError, match="--set student.scales=.*: the value, line 1: nested more than"):
        load_experiment(write(tmp_path, ""), ["student.scales=" + "[" * 100], SECTIONS)
