from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.data.splitting import split_disjoint


def hang_together(traces: list[set[int]]) -> list[set[int]]:
    """Groups of samples that share traces, by brute force."""
    groups: list[set[int]] = []
    for i, own in enumerate(traces):
        near = [group for group in groups if any(traces[j] & own for j in group)]
        groups = [group for group in groups if group not in near] + [{i}.union(*near)]
    return groups


@given(st.lists(st.sets(st.integers(0, 30), max_size=3), max_size=40), st.floats(0, 1))
def test_what_hangs_together_is_never_cut(traces: list[set[int]], share: float) -> None:
    samples = list(range(len(traces)))
    kept, cut = split_disjoint(samples, traces, share)
    assert sorted(kept + cut) == samples
    assert list(kept) == sorted(kept)
    assert len(cut) <= share * len(samples)
    for group in hang_together(traces):
        assert group <= set(kept) or group <= set(cut)
        if group <= set(kept):  # nothing that would still fit is left
            assert len(cut) + len(group) > share * len(samples)
    assert (kept, cut) == split_disjoint(samples, traces, share)


def test_samples_that_share_images_stay_together() -> None:
    traces = [(f"k{i // 4}", f"k{i // 4 + 100}") for i in range(80)]
    kept, cut = split_disjoint(range(80), traces, 0.1)
    assert (len(kept), len(cut)) == (72, 8)
    chained = [(f"k{i}", f"k{i + 1}") for i in range(20)]
    assert split_disjoint(range(20), chained, 0.1) == (tuple(range(20)), ())
