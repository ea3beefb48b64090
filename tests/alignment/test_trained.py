"""Alignment that a decoder trains: closed forms, what is a person's own, and bad input."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture
from torch.nn import functional

from brainkit.alignment.person_units import PersonUnits, fit_clusters
from brainkit.alignment.trained import (
    ClusterTokens,
    OuterTokens,
    PooledMaxima,
    PositionAttention,
    ResidualLayers,
    SubjectLayer,
)
from brainkit.errors import InputError, UnknownNameError

N_UNITS = {"a": 23, "b": 31}


def person(name, *, width=None):
    rng = np.random.default_rng(sum(map(ord, name)))
    n_units = N_UNITS.get(name, 19)
    return PersonUnits(
        n_units,
        positions=rng.uniform(-70, 70, (n_units, 3)),
        clusters=rng.integers(0, 5, n_units),
        embeddings=None if width is None else rng.standard_normal((n_units, width)),
    )


def responses(name, n=4, *, times=None, seed=0):
    shape = (n, N_UNITS.get(name, 19), *([times] if times else []))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


KINDS = {
    "subject layer": lambda: SubjectLayer(6),
    "normal subject layer": lambda: SubjectLayer(6, bias=False, start="normal"),
    "outer tokens": lambda: OuterTokens(3, 6),
    "pooled": lambda: PooledMaxima(12, 6, rank=2, dropout=0.5),
    "cluster tokens": lambda: ClusterTokens(6, 8),
    "position attention": lambda: PositionAttention(
        10, 4, n_tokens=3, width=6, n_frequencies=5, depth=2
    ),
}


def built(kind, people=("a", "b")):
    torch.manual_seed(0)
    module = KINDS[kind]()
    for name in people:
        module.add_subject(name, person(name))
    return module


# -- what holds for all ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_times(kind):
    module = built(kind).eval()
    tokens = [] if module.n_tokens is None else [module.n_tokens]
    for name in ("a", "b"):
        assert module(responses(name), name).shape == (4, *tokens, module.width)
        in_time = responses(name, times=3)
        out = module(in_time, name)
        assert out.shape == (4, *tokens, module.width, 3)
        for t in range(3):  # each time point alone
            torch.testing.assert_close(out[..., t], module(in_time[..., t], name))


@pytest.mark.parametrize("kind", KINDS)
def test_adding_a_person_leaves_all_other_weights_bit_identical(kind):
    module = built(kind).eval()
    before = copy.deepcopy(module.state_dict())
    out = module(responses("a"), "a")
    module.add_subject("c", person("c"))
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(module(responses("a"), "a"), out)
    new = set(dict(module.named_parameters())) - set(before)
    assert set(module.of_subject("c")) == new
    assert bool(new) == (kind != "position attention")


@pytest.mark.parametrize("kind", KINDS)
def test_a_persons_parameters_alone_change_when_they_alone_are_trained(kind):
    module = built(kind)
    named = dict(module.named_parameters())
    mine = set(module.of_subject("b"))
    assert not mine & set(module.of_subject("a"))
    shared_names = set(named) - mine - set(module.of_subject("a"))
    assert not any(name.startswith("people.") for name in shared_names)
    if not mine:
        return
    for name, parameter in named.items():
        parameter.requires_grad_(name in mine)
    before = {name: value.detach().clone() for name, value in named.items()}
    shared = module(responses("b"), "b")
    loss = shared.square().sum() + sum(module.extra_losses(responses("b"), "b", shared).values())
    optimiser = torch.optim.SGD([p for p in named.values() if p.requires_grad], 0.1)
    loss.backward()
    optimiser.step()
    assert {n for n, v in named.items() if not torch.equal(v, before[n])} <= mine
    assert not all(torch.equal(named[n], before[n]) for n in mine)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    module = built(kind).eval()
    with torch.no_grad():  # the low-rank bypass starts at zero, behind which nothing is learned
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    total = torch.zeros(())
    for name in ("a", "b"):
        shared = module(responses(name), name)
        weights = torch.randn(shared.shape, generator=torch.Generator().manual_seed(1))
        extra = module.extra_losses(responses(name), name, shared)
        total = total + (shared * weights).sum() + sum(extra.values())
    total.backward()
    without = [
        name
        for name, p in module.named_parameters()
        if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert without == []


@pytest.mark.parametrize("kind", KINDS)
def test_states_come_back(kind):
    module, other = built(kind).eval(), built(kind)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.eval()(responses("b"), "b"), module(responses("b"), "b"))


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_people_and_wrong_shapes_are_refused(kind):
    module = built(kind)
    with pytest.raises(UnknownNameError, match="there are a, b"):
        module(responses("a"), "c")
    with pytest.raises(UnknownNameError, match="there are a, b"):
        module.of_subject("c")
    with pytest.raises(UnknownNameError, match="there are a, b"):
        module.extra_losses(responses("a"), "c", responses("a"))
    with pytest.raises(InputError, match=r"must be \(n, 31\).*got \(4, 23\)"):
        module(responses("a"), "b")
    with pytest.raises(InputError, match=r"got \(23,\)"):
        module(responses("a")[0], "a")
    with pytest.raises(InputError, match="already"):
        module.add_subject("a", person("a"))
    assert module.subjects == ("a", "b")


def test_a_new_person_has_the_type_of_the_others():
    module = built("pooled").double()
    module.add_subject("c", person("c"))
    assert {p.dtype for p in module.parameters()} == {torch.float64}


# -- each kind -------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["uniform", "normal"])
def test_a_subject_layer_is_a_linear_map(start):
    torch.manual_seed(0)
    module = SubjectLayer(6, start=start)
    module.add_subject("a", person("a"))
    weight, bias = (dict(module.named_parameters())[n] for n in module.of_subject("a"))
    with torch.no_grad():
        bias.normal_()
    X = responses("a")
    torch.testing.assert_close(module(X, "a"), X @ weight.T + bias)


def test_first_weights_of_a_subject_layer():
    torch.manual_seed(0)
    for start, deviation in (("uniform", 400**-0.5 / 3**0.5), ("normal", 400**-0.5)):
        module = SubjectLayer(500, start=start)
        module.add_subject("a", PersonUnits(400))
        weight = module.people[0].weight
        assert float(weight.std()) == pytest.approx(deviation, rel=0.01)
    assert not module.people[0].bias.any()


def test_outer_tokens_equal_two_linear_layers_one_after_the_other():
    module = built("outer tokens")
    person_ = module.people[0]
    X = responses("a")
    spread = person_["spread"](X[..., None]).transpose(1, 2)  # (n, tokens, units)
    torch.testing.assert_close(module(X, "a"), person_["read"](spread))
    differences = (module(X, "a") - module(X[:1], "a")).detach()[1:]
    for sample in differences:  # what the brain says is the same in all tokens
        assert torch.linalg.matrix_rank(sample, tol=1e-5) == 1


def test_pooled_values_by_hand():
    module = PooledMaxima(3, 4, rank=1)
    X = torch.tensor([[1.0, 5, 2, 0, -1, -7, 3]])
    # stretches of seven in three: 0-2, 2-4, 4-6
    assert module.pool(X).tolist() == [[5.0, 2.0, 3.0]]
    assert module.pool(torch.tensor([[1.0, 2.0]])).tolist() == [[1.0, 2.0, 2.0]]


def test_the_stretches_of_pooling_are_those_that_the_docstring_gives():
    module = PooledMaxima(8, 4)
    X = responses("b")
    edges = [(i * 31 // 8, -(-(i + 1) * 31 // 8)) for i in range(8)]
    expected = torch.stack([X[:, low:high].amax(dim=1) for low, high in edges], dim=1)
    assert torch.equal(module.pool(X), expected)


def test_pooled_starts_as_a_linear_layer_and_its_losses_are_the_equations():
    module = built("pooled").eval()
    X = responses("a")
    a, b = module.people
    shared = module(X, "a")
    _, linear, norm, *_ = a.embedder
    expected = functional.gelu(norm(linear(module.pool(X))))
    torch.testing.assert_close(shared, expected)
    losses = module.extra_losses(X, "a", shared)
    assert set(losses) == {"rec", "cyc"}
    torch.testing.assert_close(losses["rec"], (a.builder(shared) - module.pool(X)).square().mean())
    around = b.embedder(b.builder(shared))
    torch.testing.assert_close(losses["cyc"], (around - shared).square().mean())


def test_pooled_losses_of_one_person_and_in_time():
    alone = built("pooled", ["a"]).eval()
    X = responses("a", times=3)
    losses = alone.extra_losses(X, "a", alone(X, "a"))
    assert set(losses) == {"rec"}
    parts = [alone.extra_losses(x, "a", alone(x, "a"))["rec"] for x in X.unbind(dim=2)]
    torch.testing.assert_close(losses["rec"], torch.stack(parts).mean())


def test_cluster_attention_sums_to_one_within_a_cluster_and_is_the_softmax():
    module = built("cluster tokens")
    X, clusters = responses("a"), person("a").clusters
    attention = module.attention(X, "a")
    embeddings = module.people[0].embeddings
    keys = (X[..., None] * embeddings) @ module.key.weight.T
    for c in range(6):
        units = np.flatnonzero(clusters == c)
        if not len(units):
            continue
        torch.testing.assert_close(attention[:, units].sum(dim=1), torch.ones(4))
        scores = keys[:, units] @ module.queries[c] / 8**0.5
        torch.testing.assert_close(attention[:, units], scores.softmax(dim=1))
        values = (X[..., None] * embeddings)[:, units] @ module.value.weight.T
        token = (attention[:, units, None] * values).sum(dim=1)
        torch.testing.assert_close(module(X, "a")[:, c], token)


def test_a_token_ignores_units_of_other_clusters():
    module = built("cluster tokens")
    X, clusters = responses("a"), person("a").clusters
    changed = X.clone()
    changed[:, clusters == 2] += 5
    before, after = module(X, "a"), module(changed, "a")
    others = [c for c in range(6) if c != 2]
    assert torch.equal(before[:, others], after[:, others])
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_a_cluster_without_units_gives_zeros():
    module = built("cluster tokens")  # of six clusters; nobody has units in the last
    token = module(responses("a"), "a")[:, 5]
    assert not token.any()


def test_a_loaded_state_brings_its_clusters():
    module, one = built("cluster tokens", ["a"]), person("a")
    other = KINDS["cluster tokens"]()
    other.add_subject("a", PersonUnits(23, clusters=(one.clusters + 1) % 5))
    above = torch.nn.ModuleList([other])
    above.load_state_dict({f"0.{n}": v for n, v in module.state_dict().items()})
    X = responses("a")
    assert torch.equal(other(X, "a"), module(X, "a"))


def test_units_of_full_size_are_counted_in_numpys_integers():
    assert PersonUnits(np.int64(7)).n_units == 7


def test_embeddings_start_at_those_given():
    module = ClusterTokens(6, 8)
    one = person("a", width=8)
    module.add_subject("a", one)
    np.testing.assert_array_equal(module.people[0].embeddings.detach(), one.embeddings)
    assert module.of_subject("a") == ["people.0.embeddings"]
    with torch.no_grad():
        module.people[0].embeddings.zero_()
    assert one.embeddings.any()  # nothing of the caller's was changed


def test_clusters_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, 5)) * 3
    people = {
        name: centres[rng.integers(4, size=n)] + rng.standard_normal((n, 5)) * [1, 0.5, 1, 0.3, 1]
        for name, n in (("a", 300), ("b", 200))
    }
    shared = fit_clusters(people, 4, seed=3)
    units = np.concatenate(list(people.values())).astype(np.float32).astype(float)
    peer = GaussianMixture(4, covariance_type="diag", random_state=3).fit(units)
    np.testing.assert_allclose(shared.means, peer.means_)
    assert shared.weights.sum() == pytest.approx(1)
    fresh = rng.standard_normal((500, 5)) * 3
    np.testing.assert_array_equal(shared.assign(fresh), peer.predict(fresh))


def test_clusters_find_what_people_have_in_common():
    rng = np.random.default_rng(0)
    centres = 6 * np.eye(5)
    labels = {name: rng.integers(5, size=200) for name in ("a", "b")}
    people = {n: centres[which] + rng.standard_normal((200, 5)) for n, which in labels.items()}
    shared = fit_clusters(people, 5)
    assigned = np.concatenate([shared.assign(people[n]) for n in people])
    kinds = np.concatenate([labels[n] for n in people])
    table = np.array([np.bincount(kinds[assigned == c], minlength=5) for c in range(5)])
    assert table.max(axis=1).sum() >= 0.95 * table.sum()  # a cluster is a kind of unit
    assert sorted(table.argmax(axis=1)) == [0, 1, 2, 3, 4]


def test_position_attention_is_one_linear_map_of_a_person():
    module = built("position attention").eval()
    A = module.attention("a")
    torch.testing.assert_close(A.sum(dim=1), torch.ones(10))
    X = responses("a")
    expected = module.tokens(module.residual(X @ A.T)).unflatten(1, (3, 6))
    torch.testing.assert_close(module(X, "a"), expected)
    phases = 2 * torch.pi * torch.from_numpy(person("a").positions) / 200 @ module.frequencies
    keys = module.key(torch.cat([phases.sin(), phases.cos()], dim=1))
    torch.testing.assert_close(A, (module.queries @ keys.T / 4**0.5).softmax(dim=1))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**16))
def test_the_order_of_units_makes_no_difference(seed):
    module = built("position attention", ["a"]).eval()
    one, order = person("a"), np.random.default_rng(seed).permutation(23)
    module.add_subject("permuted", PersonUnits(23, positions=one.positions[order]))
    X = responses("a")
    torch.testing.assert_close(
        module(X[:, order], "permuted"), module(X, "a"), atol=1e-5, rtol=1e-5
    )


def test_frozen_attention_gives_the_same_and_follows_what_is_loaded_or_added():
    module = built("position attention").eval()
    X = responses("a")
    before = module(X, "a")
    module.freeze_attention()
    assert torch.equal(module.people[0].attention, module.attention("a").detach())
    torch.testing.assert_close(module(X, "a"), before)
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"residual", "tokens"}
    module.add_subject("c", person("c"))
    torch.testing.assert_close(module.people[2].attention, module.attention("c").detach())
    torch.manual_seed(9)
    other = KINDS["position attention"]()
    for name in ("a", "b", "c"):
        other.add_subject(name, person(name))
    above = torch.nn.ModuleDict({"aligner": module})
    above.load_state_dict({f"aligner.{k}": v for k, v in other.state_dict().items()})
    torch.testing.assert_close(module(X, "a"), other.eval()(X, "a"))
    module.requires_grad_(True)
    with torch.no_grad():
        module.queries.add_(1 + torch.randn_like(module.queries))
    A = module.attention("a")
    torch.testing.assert_close(
        module(X, "a"), module.tokens(module.residual(X @ A.T)).unflatten(1, (3, 6))
    )


def test_residual_layers_by_hand():
    torch.manual_seed(0)
    layers = ResidualLayers(5, 2, 0.5).eval()
    x = torch.randn(3, 5)
    expected = x
    for linear, norm, _, _ in layers.layers:
        expected = expected + functional.gelu(norm(linear(expected)))
    torch.testing.assert_close(layers(x), expected)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_units": 0}, "1 or more"),
        ({"n_units": 2.5}, "1 or more"),
        ({"n_units": True}, "1 or more"),
        ({"n_units": "many"}, "1 or more"),
        ({"n_units": 4, "positions": np.zeros((4, 2))}, r"positions.*\(4, 3\)"),
        ({"n_units": 4, "positions": np.full((4, 3), np.nan)}, "NaN"),
        ({"n_units": 4, "embeddings": np.zeros((3, 9))}, r"embeddings.*\(4, any\)"),
        ({"n_units": 4, "embeddings": np.array([["a"]] * 4)}, "real numbers"),
        ({"n_units": 4, "clusters": np.zeros(4)}, "whole numbers from 0"),
        ({"n_units": 4, "clusters": np.zeros(3, int)}, "whole numbers from 0"),
        ({"n_units": 4, "clusters": np.full(4, -1)}, "whole numbers from 0"),
    ],
)
def test_what_is_known_of_units_is_checked(arguments, message):
    with pytest.raises(InputError, match=message):
        PersonUnits(**arguments)


def test_what_each_kind_needs_is_said():
    bare = PersonUnits(19)
    with pytest.raises(InputError, match=r"clusters=fit_clusters"):
        ClusterTokens(5, 8).add_subject("c", bare)
    with pytest.raises(InputError, match="positions="):
        PositionAttention(4, 4, 2, 2).add_subject("c", bare)
    with pytest.raises(InputError, match="go up to 4; here are 3"):
        ClusterTokens(3, 8).add_subject("c", person("c"))
    with pytest.raises(InputError, match=r"9 wide and the tokens 8"):
        ClusterTokens(6, 8).add_subject("c", person("c", width=9))


@pytest.mark.parametrize(
    "build",
    [
        lambda: SubjectLayer(0),
        lambda: SubjectLayer(2.5),
        lambda: OuterTokens(0, 4),
        lambda: PooledMaxima(n_pooled=0),
        lambda: PooledMaxima(dropout=1),
        lambda: ClusterTokens(True),
        lambda: PositionAttention(rank=0),
        lambda: PositionAttention(4, 4, 2, 2, sigma=0),
        lambda: PositionAttention(4, 4, 2, 2, dropout=-0.1),
        lambda: fit_clusters({"a": np.zeros((3, 2)), "b": np.zeros((3, 4))}, 2),
        lambda: fit_clusters({"a": np.zeros((3, 2))}, 4),
        lambda: fit_clusters({}, 4),
        lambda: fit_clusters({"a": np.full((5, 2), np.inf)}, 2),
        lambda: fit_clusters({"a": np.random.default_rng(0).random((9, 2))}, 2).assign([[1, 2, 3]]),
    ],
)
def test_bad_settings_are_refused(build):
    with pytest.raises(InputError):
        build()


def test_an_unknown_start_lists_those_that_are():
    with pytest.raises(UnknownNameError, match="uniform, normal"):
        SubjectLayer(4, start="zeros")
