import copy
from collections import Counter
from unittest import mock

import pytest
import torch

from fasterseg.networks import SpaceConfig
from fasterseg.networks.operators import ZoomedOperator, operator_class
from fasterseg.networks.slimmable import PLAIN, SlimmableConv2d, SlimmableLayers
from fasterseg.networks.space import ArchitectureSet
from search.cells import CellInput, MixedOperator
from search.parameters import ArchitectureParameters, choice_entropies
from search.supernet import Pass, Supernet
from search.training import frozen
from search.widths import WidthMode, choose_widths


@pytest.fixture
def supernet(space: SpaceConfig) -> Supernet:
    torch.manual_seed(0)
    return Supernet(space, 3)


IMAGE = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["max", "min", "random", "sampled", "most_probable"])
@pytest.mark.parametrize("architecture_set", ["teacher", "student"])
def test_every_pass_gives_five_heads_at_stride_8(
    supernet: Supernet, architecture_set: ArchitectureSet, mode: WidthMode
) -> None:
    heads = supernet(IMAGE, architecture_set, mode)
    assert [tuple(logits.shape) for logits in heads] == [(2, 3, 8, 12)] * 5


@pytest.mark.parametrize("size", [(65, 97), (70, 110)])
def test_odd_sizes_run(supernet: Supernet, size: tuple[int, int]) -> None:
    heads = supernet.eval()(torch.randn(1, 3, *size), "student", "max")
    assert all(logits.shape[2:] == (-(-size[0] // 8), -(-size[1] // 8)) for logits in heads)


def test_sampled_pass_reaches_every_parameter_of_its_set_only(supernet: Supernet) -> None:
    torch.manual_seed(1)
    sum(logits.square().mean() for logits in supernet(IMAGE, "student", "sampled")).backward()
    student, teacher = (supernet.architecture(name) for name in ("student", "teacher"))
    assert all(parameter.grad.abs().sum() > 0 for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is None for parameter in supernet.parts["teacher"].parameters())


def test_frozen_weights_get_no_gradient_and_the_architecture_the_same(supernet: Supernet) -> None:
    supernet.double()

    def architecture_gradients() -> list[torch.Tensor]:
        supernet.zero_grad(set_to_none=True)
        sum(logits.square().mean() for logits in supernet(IMAGE.double(), "student", "max")).backward()
        return [
            parameter.grad.clone()
            for name, parameter in supernet.architecture("student").named_parameters()
            if "width" not in name
        ]

    free = architecture_gradients()
    with frozen(supernet.weights()):
        held = architecture_gradients()
        assert all(weight.grad is None for weight in supernet.weights())
    assert all(weight.requires_grad for weight in supernet.weights())
    for first, second in zip(free, held, strict=True):
        torch.testing.assert_close(first, second)


def test_gates_are_one_and_carry_the_gradient(space: SpaceConfig) -> None:
    parameters = ArchitectureParameters(space, "student")
    widths = choose_widths(parameters, space, architecture_set="student", mode="sampled")
    gates = [choice.gate for choice in widths.values()]
    assert all(gate.item() == pytest.approx(1.0) for gate in gates)
    sum(gates).backward()
    assert all(rows.grad is not None for rows in parameters.width_logits.values())


def test_sampling_follows_the_probabilities(space: SpaceConfig) -> None:
    parameters = ArchitectureParameters(space, "student")
    with torch.no_grad():
        for rows in parameters.width_logits.values():
            rows[:, 0] = 2.0
            rows[:, 1] = 0.0
    torch.manual_seed(0)
    draws = [
        choice.width
        for _ in range(200)
        for choice in choose_widths(parameters, space, architecture_set="student", mode="sampled").values()
    ]
    assert draws.count(0.5) / len(draws) == pytest.approx(torch.sigmoid(torch.tensor(2.0)).item(), abs=0.02)
    best = choose_widths(parameters, space, architecture_set="student", mode="most_probable")
    assert {choice.width for choice in best.values()} == {0.5}


def test_teacher_samples_full_width_and_starts_undecided(space: SpaceConfig) -> None:
    parameters = ArchitectureParameters(space, "teacher")
    widths = choose_widths(parameters, space, architecture_set="teacher", mode="sampled")
    assert {choice.width for choice in widths.values()} == {1.0}
    assert choice_entropies(parameters) == pytest.approx({"operators": 1.0, "parents": 1.0})


def test_zoomed_operators_share_the_half_map(space: SpaceConfig) -> None:
    mixed = MixedOperator(16, 32, stride=2, operators=space.operators, layers=SlimmableLayers(space.widths))
    source = CellInput([torch.randn(2, 16, 8, 12)])
    half = source.half
    mixed(source, torch.full((1, 5), 0.2))
    assert source.half is half
    zoomed = [operator for operator in mixed.operators if isinstance(operator, ZoomedOperator)]
    assert len(zoomed) == 2


def test_an_operator_in_the_supernet_is_the_operator_of_a_derived_network(space: SpaceConfig) -> None:
    """Same class, and on the first channels of the weights the same output."""
    for name in space.operators:
        slim = operator_class(name)(16, 32, stride=2, layers=SlimmableLayers(space.widths)).double().eval()
        slim.set_out_channels(16)
        plain = operator_class(name)(8, 16, stride=2, layers=PLAIN).double().eval()
        assert type(slim) is type(plain)
        state = slim.state_dict()
        for key, value in plain.state_dict().items():
            source = state.get(key)
            if source is None:
                module, _, leaf = key.rpartition(".")
                source = state[f"{module}.norms.16.{leaf}"]
            value.copy_(source[tuple(slice(size) for size in value.shape)])
        feature = torch.randn(2, 8, 8, 12, dtype=torch.float64)
        torch.testing.assert_close(slim(feature), plain(feature))


def test_a_decided_supernet_is_a_plain_chain_of_operators(space: SpaceConfig) -> None:
    supernet = Supernet(space, 3).double().eval()
    parameters = supernet.architecture("student")
    index = space.operators.index("conv")
    with torch.no_grad():
        for rows in parameters.operator_logits.values():
            rows[:, index] = 60.0
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    feature = supernet.parts["student"].stem(image)
    for layer in range(space.layers):
        keep = supernet.cells[f"layer{layer}_stride8"].keep
        width = space.student_width if layer == space.layers - 1 else 1.0
        keep.select(space.channels(8, width), (index,))
        feature = keep.operators[index](feature)
    expected = supernet.parts["student"].head_8(feature)
    torch.testing.assert_close(supernet(image, "student", "max").branch_8, expected)


@pytest.mark.parametrize(
    "passes",
    [
        (Pass("teacher", "sampled"), Pass("student", "max")),
        (Pass("teacher", "sampled"), Pass("student", "min")),  # nowhere as wide as each other
        (Pass("student", "max"), Pass("student", "max"), Pass("teacher", "min")),
    ],
)
def test_passes_that_run_together_are_the_passes_one_by_one(space: SpaceConfig, passes: tuple[Pass, ...]) -> None:
    torch.manual_seed(0)
    together = Supernet(space, 3).double().train()
    one_by_one = copy.deepcopy(together)
    image = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    counts = Counter(each.architecture_set for each in passes)
    stems = {name: together.stem(image, name, passes=count) for name, count in counts.items()}
    all_logits = [together.run_together(stems, passes), [one_by_one(image, *each) for each in passes]]
    for logits in all_logits:
        sum(head.square().mean() for heads in logits for head in heads).backward()
    for both in zip(*all_logits, strict=True):
        for head, other in zip(*both, strict=True):
            torch.testing.assert_close(head, other)
    for (name, value), other in zip(together.named_parameters(), one_by_one.parameters(), strict=True):
        assert (value.grad is None) == (other.grad is None), name
        if value.grad is not None:
            torch.testing.assert_close(value.grad, other.grad, msg=name)
    for (name, value), other in zip(together.named_buffers(), one_by_one.buffers(), strict=True):
        torch.testing.assert_close(value, other, msg=name)


def test_passes_of_full_width_share_their_convolutions(space: SpaceConfig) -> None:
    supernet = Supernet(space, 3).train()
    image = torch.randn(2, 3, 64, 64)
    passes = (Pass("teacher", "sampled"), Pass("student", "max"))
    assert all(supernet.is_full_width(each) for each in passes)
    assert not supernet.is_full_width(Pass("student", "sampled"))
    stems = {name: supernet.stem(image, name) for name in ("teacher", "student")}
    counts = []
    for runs in ([passes], [(each,) for each in passes]):
        with mock.patch.object(SlimmableConv2d, "forward", autospec=True, side_effect=SlimmableConv2d.forward) as conv:
            for run in runs:
                supernet.run_together(stems, run)
        counts.append(conv.call_count)
    # the first layer, which the stems enter, and the widths that leave the last one are each set's own
    assert counts[1] / 2 < counts[0] < 0.75 * counts[1]
