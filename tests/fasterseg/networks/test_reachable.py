import random

import pytest

from fasterseg.networks import SpaceConfig, derived_specs
from fasterseg.networks.operator_specs import CellSpec
from fasterseg.networks.reachable import reachable_specs
from fasterseg.networks.sampling import random_architecture

SPACES = [
    SpaceConfig(layers=8, base_channels=4, widths=(0.5, 1.0), student_width=0.5),
    SpaceConfig(layers=9, base_channels=6, widths=(0.5, 0.75, 1.0), student_width=0.75, teacher_width=1.0),
    SpaceConfig(layers=8, base_channels=8, widths=(4 / 12, 8 / 12, 1.0), student_width=4 / 12),
]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("architecture_set", ["teacher", "student"])
def test_every_network_is_made_of_reachable_specs(space: SpaceConfig, architecture_set: str) -> None:
    size = (77, 130)
    reachable = set(reachable_specs(space, 5, input_size=size))
    generator = random.Random(0)
    for _ in range(200):
        architecture = random_architecture(space, architecture_set, generator)  # type: ignore[arg-type]
        assert set(derived_specs(architecture, 5, input_size=size)) <= reachable


def test_almost_every_reachable_spec_is_reached() -> None:
    """The table holds nothing that no network of the space uses, but for the expected latency's skips."""
    space = SPACES[0]
    reached = set()
    generator = random.Random(0)
    for _ in range(700):
        for architecture_set in ("teacher", "student"):
            architecture = random_architecture(space, architecture_set, generator)  # type: ignore[arg-type]
            reached |= set(derived_specs(architecture, 5, input_size=(64, 64)))
    unreached = set(reachable_specs(space, 5, input_size=(64, 64))) - reached
    assert {spec.operator for spec in unreached if isinstance(spec, CellSpec)} <= {"skip"}
    assert all(isinstance(spec, CellSpec) for spec in unreached)


def test_the_last_layer_has_skips_and_the_others_have_none() -> None:
    space = SPACES[0]
    skips = [
        spec
        for spec in reachable_specs(space, 5, input_size=(64, 64))
        if isinstance(spec, CellSpec) and spec.operator == "skip" and spec.stride == 1
    ]
    ends = {space.channels(stride, width) for stride in (8, 16, 32) for width in (0.5, 1.0)}
    assert skips and {spec.out_channels for spec in skips} <= ends


def test_specs_are_unique_by_key() -> None:
    specs = reachable_specs(SPACES[1], 5, input_size=(64, 64))
    assert len({spec.key for spec in specs}) == len(set(specs)) == len(specs)
