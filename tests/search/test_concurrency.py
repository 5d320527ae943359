import threading

import pytest
import torch
from torch import nn

from search.concurrency import Part, run_side_by_side, threads_for_parts
from search.supernet import Supernet

Tensors = tuple[torch.Tensor, ...]


class Recorder(nn.Module):
    """A linear layer that notes its thread and the modes it ran in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.threads: list[str] = []
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, *inputs: torch.Tensor) -> Tensors:
        self.threads.append(threading.current_thread().name)
        self.modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return tuple(self.layer(each) for each in inputs)


def test_parts_give_what_they_give_one_after_the_other(two_threads: None) -> None:
    torch.manual_seed(0)
    parts = [Recorder(), Recorder()]
    shared, own = torch.randn(2, 3), torch.randn(2, 3)
    results = []
    for threads in (2, 1):
        torch.set_num_threads(threads)
        inputs = [each.clone().requires_grad_() for each in (shared, own)]
        outputs = run_side_by_side([Part(parts[0], tuple(inputs)), Part(parts[1], (inputs[0],))])
        assert [len(each) for each in outputs] == [2, 1]
        for part in parts:
            part.zero_grad()
        sum(output.square().sum() for each in outputs for output in each).backward()
        gradients = [each.grad for each in (*inputs, *parts[0].parameters(), *parts[1].parameters())]
        results.append([*(output.detach() for each in outputs for output in each), *gradients])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second)
    assert all("part" in part.threads[0] and "part" not in part.threads[1] for part in parts)


def test_lent_threads_are_for_parts_and_come_back(two_threads: None) -> None:
    parts = [Recorder(), Recorder()]
    with threads_for_parts():
        assert torch.get_num_threads() == 1
        feature = torch.randn(1, 3, requires_grad=True)
        (first,), (second,) = run_side_by_side([Part(part, (feature,)) for part in parts])
        (first + second).sum().backward()
    assert torch.get_num_threads() == 2
    assert all("part" in part.threads[0] for part in parts)
    with pytest.raises(RuntimeError, match="stop"), threads_for_parts():
        raise RuntimeError("stop")
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("one_thread")
def test_one_thread_has_none_to_lend() -> None:
    part = Recorder()
    with threads_for_parts():
        run_side_by_side([Part(part, (torch.randn(1, 3),))] * 2)
    assert all("part" not in name for name in part.threads)


def test_an_input_without_gradient_gets_none(two_threads: None) -> None:
    parts = [Recorder(), Recorder()]
    free, held = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
    (first,), (second,) = run_side_by_side([Part(parts[0], (free,)), Part(parts[1], (held,))])
    (first.sum() + second.sum()).backward()
    assert free.grad is not None and held.grad is None
    assert parts[1].layer.weight.grad is not None


def test_without_any_input_that_asks_for_a_gradient_weights_still_get_theirs(two_threads: None) -> None:
    parts = [Recorder(), Recorder()]
    outputs = run_side_by_side([Part(part, (torch.randn(2, 3),)) for part in parts])
    sum(each[0].sum() for each in outputs).backward()
    assert all(part.layer.weight.grad is not None for part in parts)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_hold_in_the_threads(two_threads: None, mode: type[torch.no_grad]) -> None:
    parts = [Recorder(), Recorder()]
    with mode():
        outputs = run_side_by_side([Part(part, (torch.randn(2, 3),)) for part in parts])
    assert all("part" in part.threads[0] for part in parts)
    assert all(part.modes == [(False, mode is torch.inference_mode)] for part in parts)
    assert not outputs[0][0].requires_grad


def test_a_part_that_fails_says_so(two_threads: None) -> None:
    def fail(feature: torch.Tensor) -> Tensors:
        raise ValueError("no such width")

    with pytest.raises(ValueError, match="no such width"):
        run_side_by_side([Part(Recorder(), (torch.randn(1, 3),)), Part(fail, (torch.randn(1, 3, requires_grad=True),))])


def test_a_pass_of_the_supernet_is_the_same_with_threads(two_threads: None, space: object) -> None:
    torch.manual_seed(0)
    supernet = Supernet(space, 3).double()  # type: ignore[arg-type]  # or a rounding decides about a ReLU
    image = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    results = []
    for threads in (2, 1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        supernet.zero_grad(set_to_none=True)
        heads = supernet(image, "student", "sampled")
        sum(logits.square().mean() for logits in heads).backward()
        gradients = {name: each.grad.clone() for name, each in supernet.named_parameters() if each.grad is not None}
        results.append((heads, gradients))
    (threaded, first), (serial, second), (again, third) = results
    for one, other in zip(threaded, serial, strict=True):
        torch.testing.assert_close(one, other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], third[name]) for name in first)
    norms = [torch.cat([each.flatten() for each in group.values()]) for group in (first, second)]
    assert (norms[0] - norms[1]).norm() < 1e-9 * norms[1].norm()
