from fasterseg.networks.channels import cell_channels, fusion_channels, make_divisible


def test_channel_rounding() -> None:
    # 8·8·4/12 = 21.3 rounds to 24; 8·1·1.2 = 9.6 would become 8, less than 90 % of it
    assert cell_channels(8, 8, 4 / 12) == 24
    assert [make_divisible(value) for value in (1, 8, 9.6, 11.9, 12, 35)] == [8, 8, 16, 16, 16, 32]
    assert fusion_channels(8, 12, 8 / 12) == 64
    assert fusion_channels(1, 1, 0.2) == 1
