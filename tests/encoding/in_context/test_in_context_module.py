"""The network: order does not matter, attention is scaled by ln(length), short cuts are exact."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from brainkit.encoding.in_context.module import (
    Architecture,
    Block,
    InContextNetwork,
    hyper_weights,
)
from brainkit.errors import InputError
from brainkit.training import set_networks


def make(layers=3, seed=0):
    torch.manual_seed(seed)
    network = InContextNetwork(Architecture(12, width=32, layers=layers, heads=4, hidden=24))
    images = functional.normalize(torch.randn(300, 12) + 1, dim=1)
    network.set_space(images)
    for parameter in network.parameters():  # nothing may hide behind small first weights
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval(), images[:20], torch.randn(20, 7)


def test_the_order_of_the_support_images_does_not_matter():
    network, images, responses = make()
    order = torch.randperm(20)
    plain = hyper_weights(network, images, responses)
    turned = hyper_weights(network, images[order], responses[order])
    torch.testing.assert_close(turned.coef, plain.coef, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(turned.intercept, plain.intercept, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(turned.attention, plain.attention[:, order], atol=1e-5, rtol=1e-4)


def test_a_voxel_does_not_depend_on_those_read_with_it():
    network, images, responses = make()
    together = hyper_weights(network, images, responses)
    alone = hyper_weights(network, images, responses[:, 3:4], n_tokens=1)
    torch.testing.assert_close(alone.coef[0], together.coef[3], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(alone.attention[0], together.attention[3], atol=1e-5, rtol=1e-4)


def test_reading_leaves_the_inputs_as_they_are():
    network, images, responses = make()
    before = images.clone(), responses.clone(), network.registers.clone()
    hyper_weights(network, images, responses[:, :1])
    for now, then in zip((images, responses, network.registers), before, strict=True):
        assert torch.equal(now, then)


def test_in_place_and_with_gradients_the_values_are_the_same():
    network, images, responses = make()
    kept = network(network.encode_images(images), responses)
    fast = hyper_weights(network, images, responses)
    torch.testing.assert_close(fast.coef, kept.coef.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fast.attention, kept.attention.detach(), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_added_in_place_where_no_gradient_is_kept(bias):
    torch.manual_seed(3)
    linear, part, total = nn.Linear(12, 5, bias=bias), torch.randn(4, 3, 12), torch.randn(4, 3, 5)
    kept, before = part.clone(), total.clone()
    expected = (total + linear(part)).detach()
    with torch.no_grad():
        torch.testing.assert_close(set_networks.add_linear(total.clone(), part, linear), expected)
    with_gradients = set_networks.add_linear(total, part, linear)
    torch.testing.assert_close(with_gradients.detach(), expected)
    assert with_gradients.requires_grad
    assert torch.equal(total, before)
    assert torch.equal(part, kept)


@pytest.mark.parametrize("length", [5, 104])
def test_attention_is_scaled_by_the_logarithm_of_the_length(length):
    torch.manual_seed(1)
    block = Block(16, 2, 8)
    tokens = torch.randn(3, length, 16)
    with torch.no_grad():
        normed = block.attention_norm(tokens)
        query, key, value = (
            part.view(3, length, 2, 8).transpose(1, 2)
            for part in block.in_projection(normed).chunk(3, dim=-1)
        )
        attention = torch.softmax(math.log(length) * query @ key.mT / math.sqrt(8), dim=-1)
        mixed = (attention @ value).transpose(1, 2).reshape(3, length, 16)
        middle = tokens + block.out_projection(mixed)
        squashed, gated = block.gate(block.feed_norm(middle)).chunk(2, dim=-1)
        expected = middle + block.down(functional.silu(squashed) * gated)
        found = block(tokens.clone())
        first, weights = block.read_first(tokens.clone())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(first, expected[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights, attention[:, :, 0].mean(dim=1), atol=1e-6, rtol=1e-4)


def test_the_length_counts_registers():
    block = Block(16, 2, 8)
    assert block.scale(104) == pytest.approx(math.log(104) / math.sqrt(8))


def test_tokens_of_the_product_form_hold_the_product_of_image_and_response():
    network, images, responses = make()
    tokens, width = network.tokens, 32
    with torch.no_grad():
        standard = (images - network.centre) @ network.axes
        alone, gated = tokens.image(standard).split(width, dim=1)
        total = alone[4] + responses[4, 2] * gated[4]
        normed = functional.layer_norm(total, (width,), tokens.norm.weight, tokens.norm.bias)
        expected = total + tokens.mix.weight @ functional.leaky_relu(normed, 0.1)
        found = tokens(network.encode_images(images), responses)[2, 4]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_weights_are_turned_back_to_the_embedding():
    network, images, responses = make()
    with torch.no_grad():
        written = network(network.encode_images(images), responses)
        registers = network.registers.expand(7, -1, -1)
        own = network.tokens(network.encode_images(images), responses)
        own = torch.cat([registers, own], dim=1)
        for block in network.blocks[:-1]:
            own = block(own)
        inner = network.readout(network.blocks[-1].read_first(own)[0])
        standard = (images - network.centre) @ network.axes
        expected = standard @ inner[:, :-1].T + inner[:, -1]
    torch.testing.assert_close(
        images @ written.coef.T + written.intercept, expected, atol=1e-4, rtol=1e-4
    )


def test_the_space_is_standardised_half_way_and_strange_embeddings_stand_out():
    torch.manual_seed(2)
    mixing = torch.randn(6, 6) @ torch.diag(torch.tensor([3.0, 2, 1, 0.5, 0.2, 0.1]))
    images = functional.normalize(torch.randn(50_000, 6) @ mixing.T + 4, dim=1)
    network = InContextNetwork(Architecture(6, width=8, layers=1, heads=2, hidden=4))
    network.set_space(images)
    standard = (images - network.centre) @ network.axes
    covariance = torch.cov(standard.T)
    assert (covariance - torch.diag(covariance.diag())).abs().max() < 1e-3
    raw = torch.linalg.eigvalsh(torch.cov(images.T)).sqrt()
    torch.testing.assert_close(
        covariance.diag().sqrt(), (raw / raw.mean()).sqrt(), atol=1e-2, rtol=1e-2
    )
    assert network.strangeness(images) == pytest.approx(1, abs=0.01)
    assert network.strangeness(images[:, [3, 4, 5, 0, 1, 2]]) > 5


def test_sizes_that_cannot_be():
    with pytest.raises(InputError, match="multiple of the heads"):
        Architecture(8, width=10, heads=4)
    with pytest.raises(InputError, match="layers must be a whole number"):
        Architecture(8, layers=0)
    with pytest.raises(InputError, match="'paper': there are product, published"):
        Architecture(8, form="paper")
    with pytest.raises(InputError, match="dropout is a share from 0 to below 1; got 1"):
        Architecture(8, dropout=1.0)


def test_published_size():
    with torch.device("meta"):
        network = InContextNetwork(Architecture(512, form="published", dropout=0.5))
        ours = InContextNetwork(Architecture(512))
        written = network(network.encode_images(torch.empty(30, 512)), torch.empty(30, 3))
    assert [tuple(part.shape) for part in written] == [(3, 512), (3,), (3, 30)]
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == published_count(embedding=512, width=560, layers=20, hidden=2048)
    assert count == 97_074_852  # "about 97.2 M"
    assert count == pytest.approx(97.2e6, rel=0.002)
    assert sum(parameter.numel() for parameter in ours.parameters()) == 96_331_153


def published_count(embedding, width, layers, hidden, registers=4):
    """Count the weights of the published network, layer by layer."""

    def linear(inputs, outputs):
        return inputs * outputs + outputs

    def residual(inputs, outputs):
        inner = 2 * width
        return (
            2 * inputs
            + linear(inputs, inner)
            + 2 * inner
            + linear(inner, outputs)
            + linear(inputs, outputs)
        )

    block = 2 * 2 * width + linear(width, 3 * width) + linear(width, width)
    block += linear(width, 2 * hidden) + linear(hidden, width)
    ends = residual(embedding + 1, width) + residual(width, embedding + 1)
    return layers * block + ends + registers * width


class Published(nn.Module):
    """The published network from torch's own layers, written from its description."""

    def __init__(self, embedding, width, layers, heads, hidden, registers):
        super().__init__()

        def residual(inputs, outputs):
            inner = nn.Sequential(
                nn.LayerNorm(inputs), nn.LeakyReLU(0.1), nn.Linear(inputs, 2 * width),
                nn.LayerNorm(2 * width), nn.LeakyReLU(0.1), nn.Linear(2 * width, outputs),
            )  # fmt: skip
            return nn.ModuleDict({"inner": inner, "bypass": nn.Linear(inputs, outputs)})

        self.early, self.late = residual(embedding + 1, width), residual(width, embedding + 1)
        self.registers = nn.Parameter(torch.zeros(registers, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.attention = nn.ModuleList(
            nn.MultiheadAttention(width, heads, batch_first=True) for _ in range(layers)
        )
        self.up = nn.ModuleList(nn.Linear(width, 2 * hidden) for _ in range(layers))
        self.down = nn.ModuleList(nn.Linear(hidden, width) for _ in range(layers))

    def forward(self, images, responses):
        """Give weights and constants for one voxel at a time."""
        found, looked = [], []
        for voxel in responses.T:
            x = torch.cat([images, voxel[:, None]], dim=1)
            x = self.early["inner"](x) + self.early["bypass"](x)
            x = torch.cat([self.registers, x])[None]
            for number, attend in enumerate(self.attention):
                normed = self.norms[2 * number](x)
                mixed, weights = attend(math.log(x.shape[1]) * normed, normed, normed)
                x = x + mixed
                gate, value = self.up[number](self.norms[2 * number + 1](x)).chunk(2, dim=-1)
                x = x + self.down[number](functional.silu(gate) * value)
            first = x[0, 0]
            found.append(self.late["inner"](first) + self.late["bypass"](first))
            looked.append(weights[0, 0, len(self.registers) :])
        written = torch.stack(found)
        return written[:, :-1], written[:, -1], torch.stack(looked)


def copied(network):
    """Return the peer with the weights of a network of the published form."""
    a = network.architecture
    peer = Published(a.embedding, a.width, a.layers, a.heads, a.hidden, a.registers)
    pairs = [(peer.registers, network.registers)]
    for block, ours in ((peer.early, network.tokens.block), (peer.late, network.readout)):
        inner = block["inner"]
        for theirs, own in (
            (inner[0], ours.first_norm), (inner[2], ours.first), (inner[3], ours.second_norm),
            (inner[5], ours.second), (block["bypass"], ours.bypass),
        ):  # fmt: skip
            pairs += [(theirs.weight, own.weight), (theirs.bias, own.bias)]
    for number, block in enumerate(network.blocks):
        attend = peer.attention[number]
        pairs += [
            (attend.in_proj_weight, block.in_projection.weight),
            (attend.in_proj_bias, block.in_projection.bias),
        ]
        for theirs, own in (
            (attend.out_proj, block.out_projection),
            (peer.norms[2 * number], block.attention_norm),
            (peer.norms[2 * number + 1], block.feed_norm),
            (peer.up[number], block.gate), (peer.down[number], block.down),
        ):  # fmt: skip
            pairs += [(theirs.weight, own.weight), (theirs.bias, own.bias)]
    with torch.no_grad():
        for theirs, own in pairs:
            theirs.copy_(own)
    assert sum(p.numel() for p in peer.parameters()) == sum(p.numel() for p in network.parameters())
    return peer.eval()


SIZES = {
    "small": (Architecture(12, width=32, layers=3, heads=4, hidden=24, form="published"), 20),
    # Two blocks of the published widths; all twenty are the same.
    "published": (Architecture(512, layers=2, form="published"), 30),
}


@pytest.mark.parametrize("size", SIZES)
def test_the_published_form_is_the_published_network(size):
    architecture, n_images = SIZES[size]
    torch.manual_seed(4)
    network = InContextNetwork(architecture)
    images = functional.normalize(torch.randn(n_images, architecture.embedding) + 1, dim=1)
    network.set_space(images)
    for name, parameter in network.named_parameters():  # constants too
        torch.nn.init.normal_(parameter, std=0.3 if "norm" in name else 0.05)
    network.eval()
    responses = torch.randn(n_images, 3)
    with torch.no_grad():
        expected = copied(network)(images, responses)
    found = hyper_weights(network, images, responses)
    kept = network(network.encode_images(images), responses)
    for ours, slow, theirs in zip(found, kept, expected, strict=True):
        assert theirs.abs().max() > 0.01
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-4)
        torch.testing.assert_close(slow.detach(), theirs, atol=2e-5, rtol=2e-4)


@pytest.mark.parametrize("form", ["product", "published"])
def test_dropout_is_in_training_alone_and_in_every_place(form):
    architecture = Architecture(12, width=32, layers=2, heads=4, hidden=24, form=form, dropout=0.5)
    torch.manual_seed(5)
    network = InContextNetwork(architecture)
    without = InContextNetwork(dataclasses.replace(architecture, dropout=0.0))
    without.load_state_dict(network.state_dict())
    images, responses = functional.normalize(torch.randn(20, 12), dim=1), torch.randn(20, 3)
    steady = hyper_weights(network.eval(), images, responses)
    for one, other in zip(steady, hyper_weights(without.eval(), images, responses), strict=True):
        assert torch.equal(one, other)
    network.train()
    drawn = [network(network.encode_images(images), responses).coef for _ in range(2)]
    assert not torch.allclose(*drawn)
    places = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    assert {place.p for place in places} == {0.5}
    assert len(places) == 1 + 2 + 2  # tokens; first and last residual block; each block
    for place in places:  # each alone changes what comes out
        for other in places:
            other.p = 0.5 if other is place else 0.0
        alone = network(network.encode_images(images), responses).coef
        assert not torch.allclose(alone, steady.coef, atol=1e-4)


def test_what_read_first_gives_in_training_is_the_first_token_of_forward():
    """Constants of values count as often as attention that dropout has left."""
    torch.manual_seed(6)
    block = Block(16, 2, 8, bias=True, dropout=0.5).train()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    tokens = torch.randn(4000, 5, 16)
    with torch.no_grad():
        first = block.read_first(tokens.clone())[0].mean(dim=0)
        whole = block(tokens.clone())[:, 0].mean(dim=0)
    torch.testing.assert_close(first, whole, atol=0.25, rtol=0.05)
