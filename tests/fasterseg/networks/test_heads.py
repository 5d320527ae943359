import torch

from fasterseg.networks.heads import BranchFusion, Head, Stem, fused_channels, head_channels, stem_channels


def test_stem_widths_round_plainly() -> None:
    assert stem_channels(12, 8 / 12) == (32, 64, 64)
    assert stem_channels(12, 1.0) == (48, 96, 96)
    assert Stem(12, 8 / 12)(torch.randn(2, 3, 65, 64)).shape == (2, 64, 9, 8)


def test_a_head_halves_only_above_256_channels() -> None:
    assert [head_channels(count) for count in (16, 256, 384)] == [16, 256, 192]
    assert Head(16, 5)(torch.randn(2, 16, 9, 8)).shape == (2, 5, 9, 8)


def test_fusion_climbs_from_the_deepest_map() -> None:
    assert fused_channels(12, 8 / 12, steps=2) == (128, 64)
    fusion = BranchFusion(12, 8 / 12, map_channels=[256, 40, 24])
    maps = [torch.randn(2, 256, 3, 4), torch.randn(2, 40, 5, 7), torch.randn(2, 24, 9, 13)]
    assert fusion(maps).shape == (2, 64, 9, 13)


def test_a_branch_at_stride_8_passes_through() -> None:
    feature = torch.randn(1, 24, 4, 4)
    assert BranchFusion(12, 1.0, map_channels=[24])([feature]) is feature
