"""Every registered operator through one base tester, in all the forms in which it is searched, timed and exported."""

import pytest
import torch
from torch import nn

from fasterseg.networks import Architecture, CellChoice, DerivedNetwork, OperatorSpec
from fasterseg.networks.channels import make_divisible
from fasterseg.networks.operator_specs import CellSpec, random_input
from fasterseg.networks.operators import Operator, operator_class, register_operator, registered_operators
from fasterseg.networks.slimmable import SlimmableLayers
from fasterseg.runtime.export import onnx_bytes
from fasterseg.runtime.onnx_session import OnnxSession

WIDTHS = (0.5, 0.75, 1.0)
FULL_CHANNELS = 32
CHANNELS = [make_divisible(FULL_CHANNELS * width) for width in WIDTHS]
SIZES = [(8, 16), (7, 11), (8, 5), (3, 2)]
OPERATORS = [(name, stride) for name in registered_operators() for stride in (1, 2)]


def randomize(module: nn.Module) -> None:
    """Gives batch norms statistics and affines that matter."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight.data, norm.running_var):
                assert tensor is not None
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            for tensor in (norm.bias.data, norm.running_mean):
                assert tensor is not None
                tensor.copy_(torch.randn(tensor.shape, generator=generator))


def slimmable_operator(name: str, stride: int) -> Operator:
    torch.manual_seed(0)
    operator = operator_class(name)(FULL_CHANNELS, FULL_CHANNELS, stride=stride, layers=SlimmableLayers(WIDTHS))
    randomize(operator)
    return operator.eval()


def plain_twin(slimmable: Operator, in_channels: int, out_channels: int) -> Operator:
    """A plain operator with the first channels of a slimmable one's weights."""
    plain = operator_class(slimmable.name)(in_channels, out_channels, stride=slimmable.stride)
    source = slimmable.state_dict()
    for name, target in plain.state_dict().items():
        module, _, leaf = name.rpartition(".")
        if name in source:
            target.copy_(source[name][tuple(slice(size) for size in target.shape)])
        else:
            target.copy_(source[f"{module}.norms.{out_channels}.{leaf}"])
    return plain.eval()


@pytest.mark.parametrize(("name", "stride"), OPERATORS)
class TestEveryOperator:
    @pytest.mark.parametrize("size", SIZES)
    def test_shape_rounds_up(self, name: str, stride: int, size: tuple[int, int]) -> None:
        operator = operator_class(name)(8, 16, stride=stride)
        output = operator(torch.randn(2, 8, *size))
        assert output.shape == (2, 16, *(-(-side // stride) for side in size))
        assert torch.isfinite(output).all()

    def test_gradients_reach_every_parameter(self, name: str, stride: int) -> None:
        torch.manual_seed(0)
        operator = operator_class(name)(8, 16, stride=stride)
        image = torch.randn(2, 8, 8, 8, requires_grad=True)
        output = operator(image)
        (output * torch.randn_like(output)).sum().backward()
        gradients = {"input": image.grad, **{key: value.grad for key, value in operator.named_parameters()}}
        assert [key for key, value in gradients.items() if value is None or not value.abs().sum() > 0] == []

    @pytest.mark.parametrize("in_channels", CHANNELS)
    @pytest.mark.parametrize("out_channels", CHANNELS)
    def test_slimmable_equals_plain_at_every_width(
        self, name: str, stride: int, in_channels: int, out_channels: int
    ) -> None:
        slimmable = slimmable_operator(name, stride).double()
        slimmable.set_out_channels(out_channels)
        image = torch.randn(1, in_channels, 7, 10, dtype=torch.float64)
        with torch.no_grad():
            expected = plain_twin(slimmable, in_channels, out_channels).double()(image)
            found = slimmable(image)
        assert found.shape[1] == out_channels
        torch.testing.assert_close(found, expected)

    def test_a_width_leaves_the_other_widths_statistics_alone(self, name: str, stride: int) -> None:
        slimmable = slimmable_operator(name, stride).train()
        before = {key: value.clone() for key, value in slimmable.state_dict().items()}
        slimmable.set_out_channels(CHANNELS[0])
        slimmable(torch.randn(2, FULL_CHANNELS, 8, 8))
        changed = {key for key, value in slimmable.state_dict().items() if not torch.equal(value, before[key])}
        assert changed
        assert all(f".norms.{CHANNELS[0]}." in key for key in changed)

    def test_specification_round_trip(self, name: str, stride: int) -> None:
        spec = CellSpec(operator=name, in_channels=8, out_channels=16, stride=stride, height=7, width=11)
        assert OperatorSpec.from_dict(spec.to_dict()) == spec
        assert spec.build()(random_input(spec)).shape[1] == 16

    def test_timed_trained_and_exported_are_the_same(self, name: str, stride: int) -> None:
        """What the table times, what a derived network trains, what the supernet shares and what ONNX runs."""
        network = DerivedNetwork(architecture_with(name, stride), num_classes=3)
        cells = network.branches[0]
        assert isinstance(cells, nn.ModuleList)
        trained = cells[0]
        assert isinstance(trained, Operator)
        (spec,) = [
            spec
            for spec in network.operator_specs((72, 88))
            if isinstance(spec, CellSpec) and (spec.operator, spec.stride, spec.height) == (name, stride, 9)
        ][:1]
        timed = spec.build()
        assert type(timed) is type(trained) is operator_class(name)
        assert isinstance(timed, Operator)
        assert (timed.in_channels, timed.out_channels) == (trained.in_channels, trained.out_channels)

        slimmable = operator_class(name)(
            trained.in_channels, trained.out_channels, stride=stride, layers=SlimmableLayers((1.0,))
        )
        randomize(slimmable)
        for plain in (timed, trained):
            plain.load_state_dict(plain_twin(slimmable, plain.in_channels, plain.out_channels).state_dict())
        image = random_input(spec)
        with torch.no_grad():
            outputs = [module.eval()(image) for module in (timed, trained, slimmable)]
        session = OnnxSession(onnx_bytes(timed, spec.input_shape()))
        outputs.append(torch.from_numpy(session.run(image.numpy())))
        for output in outputs[1:]:
            torch.testing.assert_close(output, outputs[0], rtol=1e-4, atol=1e-5)


def architecture_with(name: str, stride: int) -> Architecture:
    cells = [CellChoice(name, 8, stride, 0.5), CellChoice("conv", 8 * stride, 1, 1.0)]
    return Architecture(base_channels=4, stem_width=1.0, head_width=1.0, branches=(tuple(cells),))


def test_unknown_operator_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown operator 'conv9'.*skip, conv, conv_downup"):
        operator_class("conv9")


def test_stride_other_than_one_or_two_is_refused() -> None:
    with pytest.raises(ValueError, match="stride 3 of operator 'conv'"):
        operator_class("conv")(8, 8, stride=3)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'conv' is already registered by Conv"):
        register_operator("conv")(Operator)


def test_the_five_operators_stand_in_the_published_order() -> None:
    assert registered_operators()[:5] == ("skip", "conv", "conv_downup", "conv_2x", "conv_2x_downup")


def test_strided_skip_joins_two_shifted_halves() -> None:
    skip = operator_class("skip")(2, 2, stride=2).eval()
    state = skip.state_dict()
    for half, channel in (("conv1", 0), ("conv2", 1)):
        state[f"{half}.weight"].zero_()[0, channel] = 1.0
    image = torch.arange(2 * 4 * 6, dtype=torch.float32).reshape(1, 2, 4, 6)
    with torch.no_grad():
        output = skip(image)
    scale = 1 / (1 + skip.norm.eps) ** 0.5
    torch.testing.assert_close(output[0, 0], image[0, 0, ::2, ::2] * scale)
    torch.testing.assert_close(output[0, 1], image[0, 1, 1::2, 1::2] * scale)
