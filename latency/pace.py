"""The pace of the machine: a fixed small network, timed in turn with everything else.

Clocks, shared caches and neighbours on the same hardware make a machine several percent faster or slower from one
moment to the next, for everything alike. A time in units of the reference, measured in the same moment, is what can be
compared with times of other moments; a table holds its operators' times at one pace.
"""

from torch import nn

from latency.runners.base import Runner, Session, Shape

_CHANNELS, _CONVOLUTIONS = 32, 4
_SHAPES: dict[str, Shape] = {"cpu": (1, _CHANNELS, 32, 64), "cuda": (1, _CHANNELS, 256, 512)}


def reference_session(runner: Runner) -> Session:
    """The reference network, ready to be timed by that runner: half a millisecond of 3×3 convolutions or so."""
    layers: list[nn.Module] = []
    for _ in range(_CONVOLUTIONS):
        layers += [nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), nn.ReLU()]
    return runner.prepare(nn.Sequential(*layers).eval(), _SHAPES[runner.device])
