"""Backbones, heads and the decoder that holds them: closed forms, shapes and bad input."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from brainkit.alignment.person_units import PersonUnits
from brainkit.alignment.trained import ClusterTokens, OuterTokens, PooledMaxima, SubjectLayer
from brainkit.decoding.brain_backbones import (
    BACKBONES,
    LinearBackbone,
    MLPMixer,
    PerTRLinear,
    ResidualGELU,
    ResidualMLP,
    make_backbone,
)
from brainkit.decoding.brain_transformers import (
    Perceiver,
    SurfaceTransformer,
    TokenTransformer,
    TransformerBlock,
    VolumeTransformer,
)
from brainkit.decoding.contrastive_network import ImageSide
from brainkit.decoding.decoder_heads import (
    HEADS,
    BrainDecoder,
    DirectHead,
    EmbeddingHead,
    MapHead,
    Projector,
    TokensHead,
    make_head,
)
from brainkit.errors import InputError, UnknownNameError

MASK = np.zeros((5, 7, 4), dtype=bool)
MASK[0, 0, 0] = MASK[4, 6, 3] = MASK[4, 5, 1] = True


def backbone(name):
    torch.manual_seed(0)
    settings = {
        "linear": {"n_inputs": 6, "width": 8},
        "residual-mlp": {"width": 8, "depth": 2},
        "residual-gelu": {"width": 8},
        "mlp-mixer": {"width": 8, "n_tokens": 3, "depth": 2},
        "token-transformer": {"n_inputs": 6, "in_tokens": 5, "width": 8, "depth": 2, "heads": 2},
        "perceiver": {"in_tokens": 5, "width": 8, "n_latents": 3, "depth": 2, "heads": 2,
                      "head_width": 3},
        "vit3d": {"mask": MASK, "patch": 3, "width": 8, "depth": 2, "heads": 2},
        "surface-vit": {"size": 8, "patch": 4, "width": 8, "depth": 2, "heads": 2},
        "per-tr-linear": {"width": 8, "n_times": 4},
    }  # fmt: skip
    return make_backbone(name, **settings[name])


INPUTS = {
    "linear": (6,),
    "residual-mlp": (8,),
    "residual-gelu": (8,),
    "mlp-mixer": (3, 8),
    "token-transformer": (5, 6),
    "perceiver": (5, 8),
    "vit3d": (5, 7, 4),
    "surface-vit": (1, 8, 8),
    "per-tr-linear": (8, 4),
}
OUTPUTS = {
    "mlp-mixer": (3, 8),
    "token-transformer": (5, 8),
    "perceiver": (3, 8),
    "surface-vit": (5, 8),
}


def numbers(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# -- what holds for all backbones ------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
def test_shapes_are_those_that_a_backbone_says(name):
    module = backbone(name).eval()
    out = module(numbers(2, *INPUTS[name]))
    expected = (module.width,) if module.n_tokens is None else (module.n_tokens, module.width)
    assert out.shape == (2, *expected) == (2, *OUTPUTS.get(name, (8,)))


@pytest.mark.parametrize("name", BACKBONES)
def test_rows_are_independent_and_evaluation_is_deterministic(name):
    module = backbone(name).eval()
    values = numbers(3, *INPUTS[name])
    out = module(values)
    assert torch.equal(out, module(values))
    torch.testing.assert_close(out[1:2], module(values[1:2]))


@pytest.mark.parametrize("name", BACKBONES)
def test_gradients_reach_every_parameter(name):
    module = backbone(name).eval()
    out = module(numbers(4, *INPUTS[name]))
    (out * numbers(*out.shape, seed=2)).sum().backward()
    without = [
        n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert without == []


@pytest.mark.parametrize("name", BACKBONES)
def test_other_shapes_are_refused(name):
    module = backbone(name)
    for shape in ((2, 99), (2, *INPUTS[name][:-1], 99), (2,), (2, 1, 1, 1, 1)):
        with pytest.raises(InputError, match="takes"):
            module(numbers(*shape))


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'mlp-mixer'"):
        make_backbone("mlp-mixxer")
    with pytest.raises(InputError, match=r"ResidualMLP\(width.*unexpected keyword.*layers"):
        make_backbone("residual-mlp", layers=3)
    with pytest.raises(InputError, match=r"missing a required argument: 'n_inputs'"):
        make_backbone("linear", width=3)
    with pytest.raises(UnknownNameError, match="direct, embedding, tokens, map, projector"):
        make_head("depth")
    with pytest.raises(InputError, match="missing a required argument"):
        make_head("tokens", n_inputs=3)
    assert isinstance(make_head("embedding", n_inputs=3, width=2), HEADS["embedding"])


# -- vectors ---------------------------------------------------------------------------------------


def test_a_residual_mlp_by_hand():
    module = backbone("residual-mlp").eval()
    x = numbers(3, 8)
    expected = functional.gelu(functional.layer_norm(x, (8,)))
    for linear, norm, _, _ in module.residual.layers:
        expected = expected + functional.gelu(norm(linear(expected)))
    torch.testing.assert_close(module(x), expected)
    without = ResidualMLP(8, 2, entry=False).eval()
    without.residual.load_state_dict(module.residual.state_dict())
    torch.testing.assert_close(without(functional.gelu(functional.layer_norm(x, (8,)))), expected)


@pytest.mark.parametrize("norm", [True, False])
def test_a_residual_gelu_by_hand(norm):
    torch.manual_seed(0)
    module = ResidualGELU(8, norm=norm).eval()
    x = numbers(3, 8)
    first, _, second, _ = module.inner
    expected = x + second(functional.gelu(first(x)))
    expected = functional.layer_norm(expected, (8,)) if norm else expected
    torch.testing.assert_close(module(x), expected)


def test_each_volume_has_its_own_layer_and_merging_first_equals_merging_last():
    module = backbone("per-tr-linear").eval()
    x = numbers(3, 8, 4)
    weight, bias = module.per_time.weight.view(4, 8, 8), module.per_time.bias.view(4, 8)
    hidden = torch.stack([x[..., t] @ weight[t].T + bias[t] for t in range(4)], dim=1)
    hidden = functional.gelu(functional.layer_norm(hidden, (8,)))
    a, c = module.over_time.weight[0], module.over_time.bias
    torch.testing.assert_close(module(x), torch.einsum("ntw,t->nw", hidden, a) + c)
    # As published, the head W, b comes first: its constant is then b sum(a), and c stands alone.
    head = nn.Linear(8, 5)
    published = torch.einsum("ntw,t->nw", head(hidden), a) + c
    constant = head.bias * a.sum() + c - head.weight.sum(dim=1) * c
    torch.testing.assert_close(module(x) @ head.weight.T + constant, published)


def test_the_order_of_volumes_matters():
    module = backbone("per-tr-linear").eval()
    x = numbers(3, 8, 4)
    assert not torch.allclose(module(x), module(x.flip(2)))


def test_the_published_mixer_of_one_token_adds_a_constant_and_nothing_else():
    torch.manual_seed(0)
    module = MLPMixer(8, depth=4, form="published").eval()
    x = numbers(5, 8)
    added = module(x) - x
    torch.testing.assert_close(added, added[:1, :1].expand(5, 8))
    assert added.abs().max() > 0
    (module(x) * numbers(5, 8, seed=2)).sum().backward()
    of_width = [p.grad for n, p in module.named_parameters() if n.startswith("over_width")]
    assert of_width
    assert all(grad is None or not grad.any() for grad in of_width)


def test_the_mended_mixer_of_one_token_is_no_constant_and_is_trained():
    torch.manual_seed(0)
    module = MLPMixer(8, depth=2).eval()
    x = numbers(5, 8)
    expected = x
    for mixing in module.over_width:
        expected = expected + mixing(expected)
    torch.testing.assert_close(module(x), expected)
    assert (module(x) - x).std() > 0.05
    (module(x) * numbers(5, 8, seed=2)).sum().backward()
    assert all(p.grad.any() for p in module.parameters())


def test_mixers_of_several_tokens_by_hand():
    for form in ("mended", "published"):
        torch.manual_seed(0)
        module = MLPMixer(6, 3, depth=2, form=form).eval()
        tokens = first = second = numbers(2, 3, 6)
        for f, g in zip(module.over_width, module.over_tokens, strict=True):
            if form == "published":
                first = first + f(tokens)
                tokens = second = second + g(first.transpose(1, 2)).transpose(1, 2)
            else:
                tokens = tokens + f(tokens)
                tokens = tokens + g(tokens.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(module(numbers(2, 3, 6)), tokens)


# -- tokens ----------------------------------------------------------------------------------------


def test_a_block_equals_torchs_encoder_layer():
    torch.manual_seed(0)
    block = TransformerBlock(8, 2).eval()
    peer = nn.TransformerEncoderLayer(
        8, 2, 32, dropout=0, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    with torch.no_grad():
        peer.self_attn.in_proj_weight.copy_(torch.cat([block.query.weight, block.key_value.weight]))
        peer.self_attn.in_proj_bias.copy_(torch.cat([block.query.bias, block.key_value.bias]))
    peer.self_attn.out_proj.load_state_dict(block.out.state_dict())
    peer.linear1.load_state_dict(block.expand.state_dict())
    peer.linear2.load_state_dict(block.contract.state_dict())
    tokens = numbers(3, 5, 8)
    torch.testing.assert_close(block(tokens), peer(tokens))


def test_a_causal_transformer_sees_no_later_volume():
    torch.manual_seed(0)
    module = TokenTransformer(6, 5, 8, 2, 2, causal=True, time_tokens=True, summary="tokens").eval()
    x = numbers(2, 6, 5)
    later = x.clone()
    later[..., 3:] += 1
    before, after = module(x), module(later)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])
    last = TokenTransformer(6, 5, 8, 2, 2, causal=True, time_tokens=True, summary="last").eval()
    last.load_state_dict(module.state_dict())
    assert torch.equal(last(x), before[:, -1])
    assert last.n_tokens is None


def test_a_transformer_reads_the_order_of_its_tokens():
    module = backbone("token-transformer").eval()
    x = numbers(2, 5, 6)
    backwards = module(x.flip(1)).flip(1)
    assert not torch.allclose(module(x), backwards)
    with torch.no_grad():  # by their positions alone
        module.trunk.positions.zero_()
    torch.testing.assert_close(module(x), module(x.flip(1)).flip(1))


@pytest.mark.parametrize(("summary", "shape"), [("tokens", (2, 7, 8)), ("mean", (2, 8))])
def test_queries_of_output_locations(summary, shape):
    torch.manual_seed(0)
    module = TokenTransformer(6, 5, 8, 1, 2, n_queries=7, query_depth=2, summary=summary, dropout=0)
    assert module(numbers(2, 5, 6)).shape == shape
    module(numbers(2, 5, 6)).square().sum().backward()
    assert module.queries.grad.any()


def test_queries_that_are_alike_read_alike():
    torch.manual_seed(0)
    module = TokenTransformer(6, 5, 8, 1, 2, n_queries=3).eval()
    with torch.no_grad():
        module.queries[2] = module.queries[0]
    out = module(numbers(2, 5, 6))
    torch.testing.assert_close(out[:, 2], out[:, 0])
    assert not torch.allclose(out[:, 1], out[:, 0])


def test_the_order_of_a_perceivers_tokens_makes_no_difference():
    module = backbone("perceiver").eval()
    x = numbers(2, 5, 8)
    torch.testing.assert_close(module(x), module(x[:, [3, 1, 4, 0, 2]]))


def test_a_perceiver_layer_by_hand():
    module = backbone("perceiver").eval()
    layer, x = module.layers[0], numbers(2, 5, 8)
    latents = numbers(2, 3, 8, seed=2)
    seen = torch.cat([functional.layer_norm(x, (8,)), functional.layer_norm(latents, (8,))], dim=1)
    q = functional.layer_norm(latents, (8,)) @ layer.query.weight.T
    k, v = (seen @ layer.key_value.weight.T).chunk(2, dim=-1)
    heads = [
        (a @ b.transpose(1, 2) / 3**0.5).softmax(-1) @ c
        for a, b, c in zip(q.split(3, -1), k.split(3, -1), v.split(3, -1), strict=True)
    ]
    after = latents + torch.cat(heads, -1) @ layer.out.weight.T
    torch.testing.assert_close(layer(x, latents), after + layer.feed(after))


# -- images of the brain ---------------------------------------------------------------------------


def test_cubes_are_those_that_the_mask_touches():
    module = backbone("vit3d")
    # 5 × 7 × 4 in cubes of 3 is 2 × 3 × 2; the mask touches the first, (1, 2, 1) and (1, 1, 0).
    assert module.cubes.shape == (3, 27)
    volume = torch.arange(5 * 7 * 4).reshape(5, 7, 4)
    assert torch.equal(module.cubes[0], volume[:3, :3, :3].flatten())
    behind = functional.pad(volume, (0, 2, 0, 2, 0, 1), value=5 * 7 * 4)
    assert torch.equal(module.cubes[1], behind[3:6, 3:6, 0:3].flatten())
    assert torch.equal(module.cubes[2], behind[3:6, 6:9, 3:6].flatten())


def test_voxels_of_the_mask_equal_the_volume_that_they_fill():
    module = backbone("vit3d").eval()
    voxels = numbers(2, 3)
    volume = torch.zeros(2, 5, 7, 4)
    volume[:, torch.from_numpy(MASK)] = voxels
    assert torch.equal(module(voxels), module(volume))


def test_cubes_beside_the_mask_are_not_read():
    module = backbone("vit3d").eval()
    volume = numbers(2, 5, 7, 4)
    changed = volume.clone()
    changed[:, 0:3, 3:6, 0:3] += 5  # a cube without a voxel of the mask
    assert torch.equal(module(volume), module(changed))
    changed[:, 1, 1, 1] += 5  # beside the mask, in a cube that it touches
    assert not torch.allclose(module(volume), module(changed))


def test_summaries_of_tokens():
    given = {}
    for summary in ("tokens", "first", "mean"):
        torch.manual_seed(0)
        given[summary] = SurfaceTransformer(8, 4, 8, 2, 2, summary=summary).eval()(
            numbers(2, 1, 8, 8)
        )
    assert given["tokens"].shape == (2, 5, 8)
    assert torch.equal(given["first"], given["tokens"][:, 0])
    assert torch.equal(given["mean"], given["tokens"].mean(dim=1))


# -- heads -----------------------------------------------------------------------------------------


def test_a_direct_head_gives_what_the_backbone_gives():
    module = decoder()
    backbone_, alignment = module.backbone, module.alignment
    direct = BrainDecoder(
        alignment, backbone_, {"out": DirectHead(8), "seen": Projector(8, of="out")}
    )
    x = numbers(2, 13)
    assert torch.equal(direct.eval()(x, "b")["out"], backbone_(alignment(x, "b")))
    assert DirectHead(8, in_tokens=3)(numbers(2, 3, 8)).shape == (2, 3, 8)


def test_linear_heads_equal_their_maps():
    torch.manual_seed(0)
    x, tokens = numbers(3, 6), numbers(3, 4, 6)
    head = EmbeddingHead(6, 5)
    torch.testing.assert_close(head(x), x @ head.linear.weight.T + head.linear.bias)
    mean = EmbeddingHead(6, 5, in_tokens=4)
    torch.testing.assert_close(mean(tokens), mean.linear(tokens.mean(dim=1)))
    head = TokensHead(6, 3, 5)
    assert head(x).shape == (3, 3, 5)
    torch.testing.assert_close(head(x).flatten(1), head.linear(x))
    head = TokensHead(6, 4, 5, in_tokens=4)
    assert head.over_tokens is None
    torch.testing.assert_close(head(tokens)[:, 2], head.linear(tokens[:, 2]))


def test_tokens_change_their_number():
    torch.manual_seed(0)
    tokens = numbers(3, 4, 6)
    head = TokensHead(6, 7, 5, in_tokens=4, token_hidden=2, norm=True)
    first, second = head.over_tokens
    mixed = second(first(tokens.transpose(1, 2))).transpose(1, 2)
    expected = functional.layer_norm(head.linear(mixed), (5,))
    torch.testing.assert_close(head(tokens), expected)
    assert TokensHead(6, 7, 5, in_tokens=4)(tokens).shape == (3, 7, 5)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"hidden": 4}, (2, 4, 28, 28)),
        ({"hidden": 4, "channels": 1, "size": 64, "start": 8}, (2, 1, 64, 64)),
        ({"hidden": 4, "channels": 3, "size": 8, "start": 8, "bounded": True}, (2, 3, 8, 8)),
        ({"flat": True, "size": 5}, (2, 4, 5, 5)),
        ({"in_tokens": 3, "hidden": 4}, (2, 4, 28, 28)),
    ],
)
def test_maps_have_their_size(settings, shape):
    torch.manual_seed(0)
    head = MapHead(6, **settings).eval()
    features = numbers(2, 3, 6) if "in_tokens" in settings else numbers(2, 6)
    out = head(features)
    assert out.shape == shape
    if settings.get("bounded"):
        assert ((out > 0) & (out < 1)).all()
    (out * numbers(*out.shape, seed=2)).sum().backward()
    assert all(p.grad.any() for p in head.parameters())


def test_a_flat_map_is_the_linear_layer():
    head = MapHead(6, size=5, flat=True)
    x = numbers(2, 6)
    torch.testing.assert_close(head(x).flatten(1), head.linear(x))


def test_the_contrast_of_a_map_is_one_vector_a_pixel_of_the_small_map():
    torch.manual_seed(0)
    head = MapHead(6, start=7, hidden=4, contrast=9).eval()
    out = head.outputs(numbers(2, 6))
    assert {name: tuple(value.shape) for name, value in out.items()} == {
        "": (2, 4, 28, 28),
        "contrast": (2, 49, 9),
    }
    assert torch.equal(out[""], head(numbers(2, 6)))


def test_a_projector_by_hand():
    torch.manual_seed(0)
    head = Projector(6, 9, 5)
    expected = tokens = numbers(2, 3, 6)
    for width, linear in zip((6, 9, 9), head.layers[2::3], strict=True):
        expected = linear(functional.gelu(functional.layer_norm(expected, (width,))))
    torch.testing.assert_close(head(tokens), expected)
    assert head(tokens).shape == (2, 3, 5)


# -- the decoder -----------------------------------------------------------------------------------


def decoder(alignment=None):
    torch.manual_seed(0)
    alignment = SubjectLayer(8) if alignment is None else alignment
    for subject, n_units in (("a", 11), ("b", 13)):
        alignment.add_subject(subject, PersonUnits(n_units))
    heads = {
        "retrieval": Projector(4, 6, of="tokens"),
        "tokens": TokensHead(8, 3, 4),
        "look": MapHead(8, hidden=4, contrast=5),
        "depth": MapHead(8, 1, 14, hidden=2, bounded=True),
    }
    return BrainDecoder(alignment, ResidualMLP(8, 2), heads).eval()


def test_a_decoder_is_its_parts_one_after_the_other():
    module = decoder()
    x = numbers(2, 13)
    out = module(x, "b")
    assert list(out) == ["retrieval", "tokens", "look", "look.contrast", "depth"]
    features = module.backbone(module.alignment(x, "b"))
    tokens = module.heads["tokens"](features)
    torch.testing.assert_close(out["tokens"], tokens)
    torch.testing.assert_close(out["retrieval"], module.heads["retrieval"](tokens))
    shared = module.align(x, "b")
    again = module.decode(shared, ["depth"])
    assert list(again) == ["depth"]
    assert torch.equal(again["depth"], out["depth"])
    assert list(module(x, "b", heads=["retrieval"])) == ["retrieval"]
    assert torch.equal(module(x, "b", heads=["retrieval"])["retrieval"], out["retrieval"])


def test_a_decoder_knows_whose_parameters_are_whose():
    module = decoder()
    assert module.of_subject("b") == ["alignment.people.1.weight", "alignment.people.1.bias"]
    assert module.extra_losses(numbers(2, 13), "b", module.align(numbers(2, 13), "b")) == {}
    pooled = decoder(PooledMaxima(6, 8, rank=2))
    shared = pooled.align(numbers(2, 13), "b")
    assert set(pooled.extra_losses(numbers(2, 13), "b", shared)) == {"rec", "cyc"}


def test_decoders_of_tokens_of_time_and_of_images():
    tokens = OuterTokens(3, 8)
    tokens.add_subject("a", PersonUnits(11))
    one = BrainDecoder(tokens, Perceiver(3, 8, 4, 1, heads=2, head_width=4),
                       {"text": TokensHead(8, 7, 5, in_tokens=4)})  # fmt: skip
    assert one(numbers(2, 11), "a")["text"].shape == (2, 7, 5)
    in_time = SubjectLayer(8)
    in_time.add_subject("a", PersonUnits(11))
    two = BrainDecoder(in_time, PerTRLinear(8, 4), {"out": EmbeddingHead(8, 5)})
    assert two(numbers(2, 11, 4), "a")["out"].shape == (2, 5)
    volumes = VolumeTransformer(MASK, 3, 8, 1, 2)
    three = BrainDecoder(None, volumes, {"out": EmbeddingHead(8, 5)})
    assert three(numbers(2, 5, 7, 4))["out"].shape == (2, 5)
    assert three.of_subject("a") == []
    assert three.extra_losses(numbers(1), "a", numbers(1)) == {}


def test_a_decoder_refuses_what_it_has_not():
    module = decoder()
    x = numbers(2, 13)
    with pytest.raises(UnknownNameError, match="retrieval, tokens, look, depth"):
        module(x, "b", heads=["colour"])
    with pytest.raises(UnknownNameError, match="there are a, b"):
        module(x, "c")
    with pytest.raises(InputError, match="Give the subject"):
        module(x)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({}, "got none"),
        ({"a.b": EmbeddingHead(8, 2)}, "no dot"),
        ({"": EmbeddingHead(8, 2)}, "no dot"),
        ({"out": EmbeddingHead(7, 2)}, r"gives vectors of 8 and the head 'out' takes vectors of 7"),
        ({"out": EmbeddingHead(8, 2, in_tokens=3)}, "takes 3 tokens of 8"),
        ({"out": Projector(8)}, "Unknown head 'tokens'"),
        ({"x": Projector(8, of="y"), "y": Projector(8, of="x")}, "x, y, x"),
        ({"tokens": TokensHead(8, 2, 4), "out": Projector(5)}, r"of 4 numbers.*takes 5"),
    ],
)
def test_heads_that_do_not_fit_are_refused(heads, message):
    with pytest.raises(InputError, match=message):
        BrainDecoder(SubjectLayer(8), LinearBackbone(8, 8), heads)


def test_alignment_and_backbone_have_to_fit():
    head = {"out": EmbeddingHead(8, 2)}
    with pytest.raises(InputError, match="gives vectors of 6 and LinearBackbone takes vectors of"):
        BrainDecoder(SubjectLayer(6), LinearBackbone(8, 8), head)
    with pytest.raises(InputError, match="gives 5 tokens of 8 and LinearBackbone takes vectors"):
        BrainDecoder(ClusterTokens(5, 8), LinearBackbone(8, 8), head)
    with pytest.raises(InputError, match="takes images of the brain"):
        BrainDecoder(SubjectLayer(8), VolumeTransformer(MASK, 3, 8, 1, 2), head)


def test_a_subject_layer_under_linear_parts_is_one_linear_map():
    torch.manual_seed(0)
    alignment = SubjectLayer(6)
    alignment.add_subject("a", PersonUnits(11))
    module = BrainDecoder(alignment, LinearBackbone(6, 5), {"out": EmbeddingHead(5, 4)})
    weight = module.heads["out"].linear.weight @ module.backbone.linear.weight
    weight = weight @ alignment.people[0].weight
    x, y = numbers(2, 3, 11).unbind()
    difference = module(x, "a")["out"] - module(y, "a")["out"]
    torch.testing.assert_close(difference, (x - y) @ weight.T)


# -- targets that are trained beside ---------------------------------------------------------------


def test_a_fused_target_is_the_sum_of_linear_maps_of_its_embeddings():
    torch.manual_seed(0)
    target = ImageSide(8, 6, residual=True, dropout=0.5).eval()
    nn.init.normal_(target.linear.weight)
    vit, vae = numbers(4, 5), numbers(4, 3)
    first, second = target.linear.weight.split([5, 3], dim=1)
    summed = vit @ first.T + vae @ second.T + target.linear.bias
    both = torch.cat([vit, vae], dim=1)
    torch.testing.assert_close(target(both), target.residual(summed))
    target(both).mul(numbers(4, 6)).sum().backward()
    assert all(p.grad.any() for p in target.parameters())


def test_fused_target_and_brain_learn_from_each_other():
    """A contrast with both sides trained finds what brain and two embeddings have in common."""
    torch.manual_seed(0)
    latent = numbers(200, 4)
    vit, vae = latent @ numbers(4, 12, seed=3), latent @ numbers(4, 6, seed=4)
    brain = latent @ numbers(4, 15, seed=5) + 0.3 * numbers(200, 15, seed=6)
    target, layer = ImageSide(18, 16, residual=True, dropout=0.1), nn.Linear(15, 16)
    side = nn.Sequential(layer, ResidualGELU(16))
    optimiser = torch.optim.Adam([*target.parameters(), *side.parameters()], 3e-3)

    def logits(rows):
        seen = target(torch.cat([vit[rows], vae[rows]], dim=1))
        return side(brain[rows]) @ seen.T / 4

    for _ in range(150):
        optimiser.zero_grad()
        functional.cross_entropy(logits(slice(0, 150)), torch.arange(150)).backward()
        optimiser.step()
    target.eval(), side.eval()
    with torch.no_grad():
        rank = logits(slice(150, 200)).argmax(dim=1)
    assert (rank == torch.arange(50)).float().mean() > 0.4  # chance is .02


# -- bad settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda: LinearBackbone(0, 4),
        lambda: ResidualMLP(8, 0),
        lambda: ResidualMLP(8, entry_dropout=1),
        lambda: ResidualGELU(8, dropout=-1),
        lambda: PerTRLinear(8, 0),
        lambda: MLPMixer(8, form="honest"),
        lambda: TokenTransformer(4, 5, 8, 1, 3),
        lambda: TokenTransformer(4, 5, 8, 1, 2, summary="first"),
        lambda: TokenTransformer(4, 5, 8, 1, 2, n_queries=2, query_depth=0),
        lambda: Perceiver(4, 8, 0),
        lambda: VolumeTransformer(np.zeros((4, 4, 4), bool)),
        lambda: VolumeTransformer(np.ones((4, 4, 4))),
        lambda: VolumeTransformer(np.ones((4, 4), bool)),
        lambda: VolumeTransformer(MASK, 3, 8, 1, 2, summary="cls"),
        lambda: SurfaceTransformer(10, 4),
        lambda: TokensHead(4, 3, 2, token_hidden=2),
        lambda: TokensHead(4, 0, 2),
        lambda: MapHead(4, size=30),
        lambda: MapHead(4, hidden=3),
        lambda: MapHead(4, flat=True, contrast=3),
        lambda: MapHead(4, contrast=0),
        lambda: Projector(0),
    ],
)
def test_bad_settings_are_refused(build):
    with pytest.raises(InputError):
        build()


def test_names_of_backbones_are_all_different_classes():
    kinds = [type(backbone(name)) for name in BACKBONES]
    assert not any(a is b for a, b in itertools.combinations(kinds, 2))
