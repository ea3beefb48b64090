"""The network: order does not matter, attention is scaled by ln(length), short cuts are exact."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from brainkit.encoding.in_context import products
from brainkit.encoding.in_context.module import (
    Architecture,
    Block,
    InContextNetwork,
    hyper_weights,
)
from brainkit.errors import InputError


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


@pytest.mark.parametrize("by_onednn", [True, False])
def test_products_are_those_of_torch_with_onednn_and_without(by_onednn, monkeypatch):
    if not by_onednn:
        monkeypatch.setattr(products, "_ONEDNN", None)
    torch.manual_seed(3)
    linear, part, total = nn.Linear(12, 5, bias=False), torch.randn(4, 3, 12), torch.randn(4, 3, 5)
    kept = part.clone(), linear.weight.detach().clone()
    with torch.no_grad():
        plain, sum_ = functional.linear(part, linear.weight), total + linear(part)
        turned = part.transpose(0, 1)
        torch.testing.assert_close(products.product(part, linear.weight), plain)
        torch.testing.assert_close(products.product(turned, linear.weight), plain.transpose(0, 1))
        torch.testing.assert_close(products.add_product(total.clone(), part, linear), sum_)
        assert products.product(part[:0], linear.weight).shape == (0, 3, 5)
    assert torch.equal(part, kept[0])
    assert torch.equal(linear.weight, kept[1])
    before = total.clone()
    with_gradients = products.add_product(total, part, linear)
    torch.testing.assert_close(with_gradients.detach(), sum_)
    assert with_gradients.requires_grad
    assert torch.equal(total, before)


def test_without_onednn_hyper_weights_are_the_same(monkeypatch):
    network, images, responses = make()
    fast = hyper_weights(network, images, responses)
    monkeypatch.setattr(products, "_ONEDNN", None)
    plain = hyper_weights(network, images, responses)
    torch.testing.assert_close(fast.coef, plain.coef, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast.intercept, plain.intercept, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast.attention, plain.attention, atol=1e-6, rtol=1e-5)


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


def test_tokens_are_the_published_residual_on_image_and_response():
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


def test_published_size():
    with torch.device("meta"):
        network = InContextNetwork(Architecture(512))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(97.2e6, rel=0.02)
