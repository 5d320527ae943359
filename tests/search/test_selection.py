import pytest

from fasterseg.networks import Architecture, CellChoice, SpaceConfig
from search.fitting import FittedArchitecture
from search.selection import derive_teacher, rank_students
from search.supernet import Supernet


def student(derived_ms: float) -> FittedArchitecture:
    cell = CellChoice("conv", scale=8, stride=1, width=0.5)
    architecture = Architecture(8, 0.5, 0.5, ((cell,),))
    return FittedArchitecture(architecture, predicted_ms=min(derived_ms, 8.3), derived_ms=derived_ms)


def test_pairs_are_ranked_by_the_published_score() -> None:
    fitted = {(32, 16): student(8.3), (32, 8): student(16.6)}
    miou = {"branches_32_16": 0.50, "branches_32_8": 0.52}
    ranked = rank_students(fitted, miou=miou, budget_ms=8.3, exponent=-0.07)
    assert [candidate.pair for candidate in ranked] == [(32, 16), (32, 8)]
    assert ranked[0].score == pytest.approx(0.50)
    assert ranked[1].score == pytest.approx(0.52 * 2**-0.07)
    by_miou = rank_students(fitted, miou=miou, budget_ms=8.3, exponent=0.0)
    assert by_miou[0].pair == (32, 8)


def test_teacher_takes_the_pair_with_the_better_head(space: SpaceConfig) -> None:
    supernet = Supernet(space, 3)
    teacher, miou = derive_teacher(supernet, {"branches_32_16": 0.4, "branches_32_8": 0.5})
    assert teacher.ends == (32, 8)
    assert miou == 0.5
    assert all(cell.width == 1.0 for branch in teacher.branches for cell in branch)
