import numpy as np

from dataset_tools.doctor.dataset_checks import nearest_hashes


def test_nearest_is_that_of_all_pairs() -> None:
    generator = np.random.default_rng(0)
    others = [generator.bytes(16) for _ in range(150)]
    queries = [generator.bytes(16) for _ in range(130)] + [others[77]]
    found = list(nearest_hashes(queries, others))
    assert len(found) == len(queries)
    assert found[-1] == (77, 0)
    for query, (position, bits) in zip(queries, found, strict=True):
        every = [(int.from_bytes(query) ^ int.from_bytes(other)).bit_count() for other in others]
        assert bits == min(every)
        assert position == every.index(bits)
