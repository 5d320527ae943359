import json
from typing import Any

import pytest

from fasterseg.networks.baseline import BaselineArchitecture
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pspnet import PSPNetArchitecture


@pytest.mark.parametrize("architecture", [ICNetArchitecture("plain", 0.5), PSPNetArchitecture()])
def test_plain_data_both_ways(architecture: BaselineArchitecture) -> None:
    data = json.loads(json.dumps(architecture.to_dict()))
    assert type(architecture).from_dict(data, "file") == architecture


def test_the_format_tells_the_family() -> None:
    assert ICNetArchitecture().to_dict() == {
        "format": "icnet-architecture",
        "version": 1,
        "stem": "deep",
        "width_factor": 1.0,
    }
    with pytest.raises(ValueError, match=r"a\.json is not an architecture of format 'pspnet-architecture'"):
        PSPNetArchitecture.from_dict(ICNetArchitecture().to_dict(), "a.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "has version 2, this release reads version 1"),
        ({"stem": "wide"}, "a.json: stem is 'wide', expected one of deep, plain"),
        ({"width_factor": 1.5}, r"width_factor is 1.5, expected a multiplier in \(0, 1\]"),
        ({"width_factor": 0}, "width_factor is 0.0, expected"),
        ({"width_factor": float("nan")}, "width_factor is nan, expected"),
        ({"width_factor": "1"}, "width_factor is '1', expected a number"),
        ({"width_factor": True}, "width_factor is True, expected a number"),
        ({"depth": 50}, "has fields depth, stem, width_factor; expected stem, width_factor"),
    ],
)
def test_other_data_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ICNetArchitecture.from_dict({**ICNetArchitecture().to_dict(), **change}, "a.json")


@pytest.mark.parametrize("data", [None, [], {"format": "icnet-architecture", "version": 1}])
def test_incomplete_data_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"a\.json (is not|has fields)"):
        ICNetArchitecture.from_dict(data, "a.json")
