import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.alignment.cka import linear_cka
from fedmosaic.alignment.moments import JointMoments


def rows(n, widths, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(n, width, generator=draw) + index for index, width in enumerate(widths)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(0, 100))
def test_streaming_equals_one_batch(sizes, seed):
    widths = [3, 5]
    features = rows(sum(sizes), widths, seed)
    weights = torch.rand(sum(sizes), generator=torch.Generator().manual_seed(seed)) + 0.1
    streamed, whole = JointMoments(widths), JointMoments(widths)
    start = 0
    for size in sizes:
        streamed.add([f[start : start + size] for f in features], weights[start : start + size])
        start += size
    whole.add(features, weights)
    torch.testing.assert_close(streamed.covariance(), whole.covariance(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(streamed.mean(1), whole.mean(1), atol=1e-6, rtol=1e-6)
    assert streamed.count == whole.count == sum(sizes)


def test_moments_are_the_textbook_ones():
    x, y = rows(200, [3, 4])
    moments = JointMoments([3, 4])
    moments.add([x, y])
    torch.testing.assert_close(moments.covariance().float(), torch.cov(torch.cat([x, y], 1).T, correction=0))
    torch.testing.assert_close(moments.block(0, 1), moments.covariance()[:3, 3:])
    torch.testing.assert_close(moments.block(1, 0, centred=False).float(), y.T @ x / 200)


def test_a_weight_of_two_is_a_row_given_twice():
    features = rows(10, [2, 3])
    weighted, repeated = JointMoments([2, 3]), JointMoments([2, 3])
    weighted.add(features, torch.tensor([2.0] * 4 + [1.0] * 6))
    repeated.add([torch.cat([f[:4], f]) for f in features])
    torch.testing.assert_close(weighted.covariance(), repeated.covariance(), atol=1e-6, rtol=1e-6)


def test_cka_equals_the_kernel_definition_and_ignores_rotation_and_scale():
    x, y = rows(60, [4, 6])
    rotated = 3 * x @ torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(5))).Q + 1
    moments = JointMoments([4, 6, 4])
    moments.add([x, y, rotated])
    centre = torch.eye(60) - 1 / 60
    k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    expected = float((k * m).sum() / (k.norm() * m.norm()))
    assert abs(linear_cka(moments, 0, 1) - expected) < 1e-5
    assert abs(linear_cka(moments, 0, 2) - 1) < 1e-5
