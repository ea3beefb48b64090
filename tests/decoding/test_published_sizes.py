"""Published systems built at their full size on the meta device: what they hold and what they need.

Counts that papers or their code state are met within 1 %. Where none is stated, counts are those of
the arithmetic that is written beside them.
"""

import numpy as np
import pytest
import torch

from brainkit.alignment.person_units import PersonUnits
from brainkit.alignment.trained import (
    ClusterTokens,
    OuterTokens,
    PooledMaxima,
    PositionAttention,
    SubjectLayer,
)
from brainkit.decoding.brain_backbones import MLPMixer, PerTRLinear, ResidualGELU, ResidualMLP
from brainkit.decoding.brain_transformers import (
    Perceiver,
    SurfaceTransformer,
    TokenTransformer,
    VolumeTransformer,
)
from brainkit.decoding.contrastive_network import ImageSide
from brainkit.decoding.decoder_heads import (
    BrainDecoder,
    DirectHead,
    EmbeddingHead,
    MapHead,
    Projector,
    TokensHead,
)
from brainkit.decoding.diffusion_prior import DiffusionPrior
from brainkit.training import training_memory

VOXELS = {"subj01": 15_724, "subj02": 14_278, "subj05": 13_039, "subj07": 12_682}  # nsdgeneral
MILLION = 1e6


@pytest.fixture(autouse=True)
def meta():
    with torch.device("meta"):
        yield


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def people(alignment, subjects=tuple(VOXELS)):
    for subject in subjects:
        alignment.add_subject(subject, PersonUnits(VOXELS[subject]))
    return alignment


def linear(n_inputs, n_outputs):
    return n_inputs * n_outputs + n_outputs


# -- counts that are published ---------------------------------------------------------------------


def mindbridge(subjects):
    heads = {"image": TokensHead(2048, 257, 768), "text": TokensHead(2048, 77, 768)}
    return BrainDecoder(people(PooledMaxima(), subjects), ResidualMLP(2048, entry=False), heads)


def test_mindbridge():
    one, four = mindbridge(["subj01"]), mindbridge(list(VOXELS))
    person = one.alignment.people[0]
    assert count(person.embedder) == pytest.approx(18.9 * MILLION, rel=0.01)
    assert count(person.builder) == pytest.approx(18.9 * MILLION, rel=0.01)
    assert count(one.backbone) == pytest.approx(16.8 * MILLION, rel=0.01)
    assert count(one.heads["image"]) == pytest.approx(404.4 * MILLION, rel=0.001)
    assert count(one.heads["text"]) == pytest.approx(121.2 * MILLION, rel=0.001)
    assert count(one) == pytest.approx(580 * MILLION, rel=0.001)
    assert count(four) == pytest.approx(694 * MILLION, rel=0.001)
    own = dict(four.named_parameters())
    assert sum(own[n].numel() for n in four.of_subject("subj07")) == count(person)


def test_umbrae():
    decoder = BrainDecoder(
        people(OuterTokens()), Perceiver(), {"tokens": TokensHead(1024, 256, 1024, in_tokens=256)}
    )
    assert count(decoder.backbone) == pytest.approx(88.4 * MILLION, rel=0.001)
    assert count(decoder.alignment.people[0]) == pytest.approx(16.1 * MILLION, rel=0.01)


def mindeye2(subjects=("subj01",)):
    heads = {
        "tokens": TokensHead(4096, 256, 1664),
        "retrieval": Projector(1664),
        "look": MapHead(4096, contrast=512),
    }
    return BrainDecoder(people(SubjectLayer(4096), subjects),
                        MLPMixer(4096, form="published"), heads)  # fmt: skip


def test_mindeye2():
    decoder, prior = mindeye2(), DiffusionPrior(1664, 256, heads=32, head_width=52)
    assert count(decoder.alignment) == pytest.approx(64.4 * MILLION, rel=0.001)
    assert count(decoder.backbone, decoder.heads) == pytest.approx(1903 * MILLION, rel=0.001)
    assert count(prior) == pytest.approx(259.9 * MILLION, rel=0.01)
    assert count(decoder, prior) == pytest.approx(2227 * MILLION, rel=0.001)
    # of which what no gradient reaches, as the published mixer reads one token
    unused = count(decoder.backbone.over_width)
    assert unused == 4 * (2 * linear(4096, 4096) + 2 * 4096)
    assert unused == pytest.approx(134.3 * MILLION, rel=0.001)


def test_mindeye1():
    decoder = BrainDecoder(
        people(SubjectLayer(4096), ["subj01"]),
        ResidualMLP(4096),
        {"tokens": TokensHead(4096, 257, 768), "retrieval": Projector(768, 2048)},
    )
    prior = DiffusionPrior(768, 257)
    assert count(decoder, prior) == pytest.approx(1000 * MILLION, rel=0.01)
    exact = linear(15_724, 4096) + 4 * (linear(4096, 4096) + 2 * 4096) + 2 * 4096
    exact += linear(4096, 257 * 768) + 2 * (768 + 2048 + 2048)
    exact += linear(768, 2048) + linear(2048, 2048) + linear(2048, 768)
    assert count(decoder) == exact


def test_dynadiff():
    def brain(subjects):
        layer = SubjectLayer(1552, start="normal", bias=False)
        return BrainDecoder(
            people(layer, subjects), PerTRLinear(), {"tokens": TokensHead(1552, 257, 768)}
        )

    shared = 6 * linear(1552, 1552) + 2 * 1552 + 7 + linear(1552, 257 * 768)
    assert count(brain(["subj01"])) == shared + 15_724 * 1552
    assert count(brain(list(VOXELS))) == shared + sum(VOXELS.values()) * 1552
    # "about 400 M" is published: 345 M with one person, 407 M with four
    assert count(brain(["subj01"])) == pytest.approx(345 * MILLION, rel=0.01)
    assert count(brain(list(VOXELS))) == pytest.approx(400 * MILLION, rel=0.025)


def brain_hive():
    eeg = SubjectLayer(1024)
    eeg.add_subject("sub-01", PersonUnits(17 * 250))  # channels by samples, one after the other
    side = BrainDecoder(eeg, ResidualGELU(1024), {"out": DirectHead(1024)})
    # of SynCLR, CLIP and an autoencoder, side by side: a linear map of each, summed
    return side, ImageSide(768 + 512 + 1024, 1024, residual=True, dropout=0.1)


def test_brain_hive():
    side, target = brain_hive()
    assert count(side) == linear(4250, 1024) + 2 * linear(1024, 1024) + 2 * 1024
    assert count(target) == linear(768 + 512 + 1024, 1024) + 2 * linear(1024, 1024)
    assert count(side, target) == pytest.approx(11 * MILLION, rel=0.01)


# -- counts by arithmetic --------------------------------------------------------------------------


def block(width):
    """Of a transformer block: attention, a network of four times the width, two LayerNorms."""
    return 12 * width**2 + 13 * width


def test_wave():
    """DiFuMo's 1024 parcels by 5 TR through a GPT of 4 layers, 12 heads and 768."""
    network = TokenTransformer(1024, 5, causal=True, time_tokens=True, summary="last")
    exact = linear(1024, 768) + 5 * 768 + 4 * block(768) + 2 * 768
    assert count(network) == exact
    assert count(network, EmbeddingHead(768, 768)) == exact + linear(768, 768)


def test_neuro_vision_to_language():
    """Cubes of 14 voxels, 16 layers of 768, CLS to two networks of two layers."""
    mask = np.zeros((83, 104, 81), dtype=bool)
    mask[20:60, :40, 20:50] = True
    network = VolumeTransformer(mask)
    # 20..59 touches cubes 1..4 of x, 0..39 cubes 0..2 of y, 20..49 cubes 1..3 of z
    n_cubes = 4 * 3 * 3
    exact = linear(14**3, 768) + (n_cubes + 1) * 768 + 768 + 16 * block(768) + 2 * 768
    assert network.cubes.shape == (n_cubes, 14**3)
    assert count(network) == exact


def test_neuropictor():
    """A ViT-L on one channel of 256 pixels, and its text head 257 → 128 → 77."""
    network = SurfaceTransformer()
    assert network.n_tokens == 257
    exact = linear(16 * 16, 1024) + 257 * 1024 + 1024 + 24 * block(1024) + 2 * 1024
    assert count(network) == exact
    head = TokensHead(1024, 77, 1024, in_tokens=257, token_hidden=128, norm=True)
    assert count(head) == linear(257, 128) + linear(128, 77) + linear(1024, 1024) + 2 * 1024


def test_brain_it():
    """128 clusters of 512; a new person brings embeddings of 40,000 voxels and nothing else."""
    tokens = ClusterTokens()
    assert count(tokens) == 128 * 512 + 2 * 512**2
    clusters = np.arange(40_000) % 128
    tokens.add_subject("subj01", PersonUnits(40_000, clusters=clusters))
    assert count(tokens.people[0]) == 40_000 * 512
    network = TokenTransformer(512, 128, 512, 4, 8, n_queries=256)
    exact = linear(512, 512) + 128 * 512 + 5 * block(512) + 2 * 512 + 256 * 512 + 2 * 2 * 512
    assert count(network) == exact
    BrainDecoder(tokens, network, {"tokens": TokensHead(512, 256, 1664, in_tokens=256)})


def test_mindllm():
    """1024 queries of rank 128, four residual layers, 128 tokens of 1024; nothing a person."""
    network = PositionAttention()
    attending = linear(2 * 192, 128) + linear(128, 128) + 1024 * 128
    exact = attending + 4 * (linear(1024, 1024) + 2 * 1024) + linear(1024, 128 * 1024)
    assert count(network) == exact
    network.add_subject("subj01", PersonUnits(15_724, positions=np.zeros((15_724, 3))))
    assert count(network) == exact


# -- what a step needs -----------------------------------------------------------------------------


def test_mindeye2_needs_16_bytes_a_parameter_and_its_activations_beside():
    decoder = mindeye2()
    needed = training_memory(decoder, [torch.empty(24, 15_724), "subj01"])
    assert needed.parameters + needed.gradients + needed.moments == 16 * count(decoder)
    assert needed.total == pytest.approx(32e9, rel=0.05)
    # Products of vectors cost 6 operations a parameter and row, forward and backward, but for the
    # first layer's 4: nobody asks for the gradient of responses. All else comes on top.
    least = 24 * (6 * count(decoder.heads["tokens"]) + 4 * count(decoder.alignment))
    assert needed.flops > 0.999 * least


def test_the_prior_of_mindeye2_costs_more_than_the_rest_of_a_step():
    """Its 260 M parameters work on 513 tokens a row, the 1.97 billion of the decoder on one."""
    prior = DiffusionPrior(1664, 256, heads=32, head_width=52)
    tokens = torch.empty(24, 256, 1664)
    needed = training_memory(prior, [tokens, tokens, torch.Generator("cpu")])
    assert needed.gradients + needed.moments == 12 * count(prior)
    blocks = 24 * 513 * 6 * count(prior.blocks)
    assert blocks < needed.flops < 1.3 * blocks
    decoder = training_memory(mindeye2(), [torch.empty(24, 15_724), "subj01"])
    assert needed.flops > 25 * decoder.flops


def test_brain_hive_is_trained_in_29_teraflop():
    """25 epochs of 16,540 averaged trials in batches of 1024 are 425 steps."""
    side, target = brain_hive()
    brain = training_memory(side, [torch.empty(1024, 4250), "sub-01"])
    image = training_memory(target, [torch.empty(1024, 768 + 512 + 1024)])
    steps = 25 * -(-16_540 // 1024)
    assert steps == 425
    # the rule of 6 operations a parameter and row gives 28.5; the first layers need 4 of them
    rule = 6 * count(side, target) * 1024 * steps
    assert rule == pytest.approx(29e12, rel=0.02)
    assert 0.7 * rule < (brain.flops + image.flops) * steps < rule
