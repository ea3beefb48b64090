"""The parts of attention routing against plain torch, loops and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from brainkit.encoding.routing.encoder import layer_weights
from brainkit.encoding.routing.network import (
    Attention,
    RegionReadout,
    RoutingDecoder,
    RowwiseReadout,
    sine_positions,
)
from brainkit.encoding.routing.regions import read_regions
from brainkit.errors import InputError


def decoder(n_features=8, n_queries=3, *, width=8, n_heads=2, grid=(2, 3), n_targets=5, seed=0):
    torch.manual_seed(seed)
    membership = np.zeros((n_queries, n_targets), dtype=bool)
    membership[np.arange(n_targets) % n_queries, np.arange(n_targets)] = True
    readout = RegionReadout(membership, width)
    module = RoutingDecoder(
        grid, n_features, readout, n_queries, width=width, n_heads=n_heads, hidden=16, dropout=0.0
    )
    for parameter in module.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.3)
    return module.eval()


def torch_attention(module):
    """Give torch's own attention the same weights."""
    width = module.key.weight.shape[0]
    theirs = nn.MultiheadAttention(width, module.n_heads, batch_first=True).eval()
    weights = [module.query.weight, module.key.weight, module.value.weight]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat(weights))
        theirs.in_proj_bias.zero_()
        theirs.in_proj_bias[:width] = module.query.bias
        theirs.out_proj.weight.copy_(module.out.weight)
        theirs.out_proj.bias.copy_(module.out.bias)
    return theirs


def detr_layer(module, tokens):
    """Compute the layer as its papers write it down: project, attend, normalise, feed forward."""
    x = tokens if module.project is None else module.project(tokens)
    queries = module.queries.expand(len(x), -1, -1)
    found, weights = torch_attention(module)(
        queries, x + module.position, x, average_attn_weights=False
    )
    inner = module.contract(torch.relu(module.expand(module.norm(found))))
    return module.final(found + inner), weights


@pytest.mark.parametrize("n_features", [64, 40, 96])
@pytest.mark.parametrize(("n_queries", "folds"), [(3, True), (40, False)])
def test_the_layer_is_that_of_plain_torch(n_features, n_queries, folds):
    module = decoder(n_features, n_queries, width=64, n_heads=8, n_targets=40)
    tokens = torch.randn(4, 6, n_features)
    assert module._attention()[0].is_folded() == folds
    with torch.no_grad():
        expected, weights = detr_layer(module, tokens)
        torch.testing.assert_close(module.vectors(tokens), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(module.attention(tokens), weights, rtol=1e-4, atol=1e-6)


def test_both_orders_of_attention_agree_with_their_gradients():
    torch.manual_seed(0)
    tokens, drive = torch.randn(3, 7, 6).double(), torch.randn(3, 4, 8).double()
    shapes = [(4, 8), (8, 6), (8, 6), (7, 8)]
    leaves = [torch.randn(shape).double().requires_grad_() for shape in shapes]
    attention = Attention(*leaves, n_heads=4)
    gradients = []
    for mix in (attention._fold, attention._project):
        mixed = mix(tokens)
        gradients.append([mixed, *torch.autograd.grad((mixed * drive).sum(), leaves)])
    for folded, projected in zip(*gradients, strict=True):
        torch.testing.assert_close(folded, projected)


def test_attention_to_one_token_returns_its_value():
    torch.manual_seed(0)
    attention = Attention(
        torch.randn(2, 4), torch.randn(4, 3), torch.randn(4, 3), torch.zeros(1, 4), n_heads=2
    )
    token = torch.randn(5, 1, 3)
    torch.testing.assert_close(attention.mix(token), (token @ attention.value.T).expand(5, 2, 4))
    assert attention.weights(token).eq(1).all()


def test_positions_are_those_of_the_equation():
    height, width, features = 3, 4, 12
    found = sine_positions(height, width, features)
    assert found.shape == (12, 12)
    assert found.dtype == torch.float32
    for row in range(height):
        for column in range(width):
            y, x = 2 * math.pi * (row + 1) / height, 2 * math.pi * (column + 1) / width
            expected = [
                wave(angle / 10_000 ** (i / 3))
                for angle in (y, x)
                for i in range(3)
                for wave in (math.sin, math.cos)
            ]
            np.testing.assert_allclose(found[row * width + column], expected, atol=1e-6)


def test_positions_differ_at_the_paper_size():
    found = sine_positions(31, 31, 768)
    distances = torch.cdist(found, found) + 10 * torch.eye(961)
    assert distances.min() > 0.5


@pytest.mark.parametrize(("height", "width", "features"), [(2, 2, 6), (2, 2, 0), (0, 2, 8)])
def test_positions_need_a_map_and_four_numbers(height, width, features):
    with pytest.raises(InputError, match=r"multiple of 4|one row"):
        sine_positions(height, width, features)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 30))
def test_a_target_reads_the_sum_of_its_regions(seed, n_regions, n_targets):
    rng = np.random.default_rng(seed)
    membership = rng.random((n_regions, n_targets)) < 0.5
    torch.manual_seed(seed % 1000)
    readout = RegionReadout(membership, 4)
    nn.init.normal_(readout.bias)
    vectors = torch.randn(3, n_regions, 4)
    with torch.no_grad():
        found, weights = readout(vectors).numpy(), readout.target_weights().numpy()
    for target in range(n_targets):
        token = vectors.numpy()[:, membership[:, target]].sum(axis=1)
        expected = token @ weights[target] + readout.bias[target].item()
        np.testing.assert_allclose(found[:, target], expected, rtol=1e-4, atol=1e-5)


def test_a_target_alone_reads_its_own_vector():
    torch.manual_seed(0)
    readout = RowwiseReadout(6, 4)
    nn.init.normal_(readout.bias)
    vectors = torch.randn(3, 6, 4)
    with torch.no_grad():
        found = readout(vectors)
        for target in range(6):
            expected = vectors[:, target] @ readout.weight[target] + readout.bias[target]
            torch.testing.assert_close(found[:, target], expected)


def test_only_a_regions_own_targets_move_its_query():
    module = decoder(n_queries=3, n_targets=6)
    module(torch.randn(2, 6, 8))[:, 1].sum().backward()
    moved = module.queries.grad.abs().sum(dim=1) > 0
    assert moved.tolist() == [False, True, False]


class Largest(TorchDispatchMode):
    """Watches for the largest tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple | list) else [made]:
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return made


@pytest.mark.parametrize("kind", ["region", "voxel"])
def test_no_product_of_targets_with_targets_is_ever_made(kind):
    n_targets, width = 600, 4
    if kind == "voxel":
        n_queries, readout = n_targets, RowwiseReadout(n_targets, width)
    else:
        membership = np.arange(n_targets)[None] % 50 == np.arange(50)[:, None]
        n_queries, readout = 50, RegionReadout(membership, width)
    module = RoutingDecoder(
        (2, 2), 4, readout, n_queries, width=width, n_heads=2, hidden=8, dropout=0.1
    )
    with Largest() as watch:
        module(torch.randn(2, 4, 4)).square().mean().backward()
    assert 0 < watch.numel <= 2 * n_targets * 16 < n_targets**2 / 10


def test_the_best_layer_of_a_target_counts_most():
    scores = np.array([[0.5, 0.1, np.nan], [0.4, 0.1, 0.2]])
    found = layer_weights(scores, 40.0)
    expected = np.exp(40 * np.array([[0.5, 0.1, 0.0], [0.4, 0.1, 0.2]]))
    np.testing.assert_allclose(found, expected / expected.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(layer_weights(scores, 0.0), 0.5)
    np.testing.assert_allclose(layer_weights([[1.0], [-1.0]], 1e6), [[1.0], [0.0]])


LABELS = ["FFA", "V1", "", "FFA"]
MATRIX = [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize(
    ("given_regions", "names"),
    [
        (LABELS, ("FFA", "V1", "rest")),
        (np.array(LABELS), ("FFA", "V1", "rest")),
        (np.array(LABELS, dtype=object), ("FFA", "V1", "rest")),
        (np.array(MATRIX), ("0", "1", "2")),
        (np.array(MATRIX, dtype=bool)[:2], ("0", "1", "rest")),
        ({"FFA": MATRIX[0], "V1": np.array(MATRIX[1]) > 0}, ("FFA", "V1", "rest")),
    ],
)
def test_regions_are_read_in_every_form(given_regions, names):
    found = read_regions(given_regions, 4)
    assert found.names == names
    np.testing.assert_array_equal(found.membership, np.array(MATRIX, dtype=bool))


def test_without_regions_there_is_one():
    found = read_regions(None, 3)
    assert found.names == ("all",)
    assert found.membership.tolist() == [[True] * 3]


@pytest.mark.parametrize(
    ("given_regions", "match"),
    [
        (["V1", "V2"], r"shape \(2,\); for 4 targets"),
        (np.ones((2, 3)), r"shape \(2, 3\); for 4 targets"),
        (np.ones((1, 2, 4)), "one label for each"),
        ({"V1": [1, 0, 0]}, r"region 'V1' has shape \(3,\)"),
        ({"V1": [1, 0, 2, 0]}, "other values than true and false"),
        (np.array([[1, 0, 0, 0.5]]), "other values than true and false"),
        ({"V1": [1, 1, 1, 1], "V2": [0, 0, 0, 0]}, "No target is in V2"),
        ({"rest": [1, 0, 0, 0]}, "3 targets are in no region"),
        ("V1", "one label for each"),
    ],
)
def test_regions_that_fit_no_targets_are_refused(given_regions, match):
    with pytest.raises(InputError, match=match):
        read_regions(given_regions, 4)


def test_heads_divide_the_width():
    with pytest.raises(InputError, match="multiple of the number of heads; got 8 and 3"):
        decoder(n_heads=3)
