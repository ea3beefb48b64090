"""Tiny autoencoders that are published as two plain state dicts, as modules of diffusers.

The encoder and the decoder are each a sequence of layers with keys such as ``3.conv.0.weight``.
diffusers' `AutoencoderTiny` is the same network, with two differences in the newer ones: the
bottleneck's blocks may have a branch that normalises over the whole picture (keys ``pool``), and
the decoder's clamp counts as a layer. Every size is read off the weights.

References
----------
Ollin Boer Bohan, TAESD, https://github.com/madebyollin/taesd
"""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from brainkit.errors import InputError, listed
from brainkit.features.weights import load_state, read_state
from brainkit.generators.latents import Autoencoder, LatentScale

GROUPS = 4  # of the group normalisation in the branch; the weights do not tell
_LAYER = re.compile(r"(\d+)\.(.+)")


class PooledBlock(nn.Module):
    """A block whose input is first changed by what the picture as a whole looks like.

    x ← block(x + W₂ relu(GroupNorm(W₁ x))), with 1×1 convolutions.
    """

    def __init__(self, block: nn.Module, width: int, hidden: int) -> None:
        super().__init__()
        self.block = block
        self.pool = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False),
            nn.GroupNorm(GROUPS, hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, width, 1, bias=False),
        )

    def forward(self, values: Tensor) -> Tensor:
        """Map (n, width, h, w) to the same shape."""
        result: Tensor = self.block(values + self.pool(values))
        return result


def tiny_autoencoder(encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> Any:
    """Build diffusers' `AutoencoderTiny` from two plain state dicts.

    Parameters
    ----------
    encoder, decoder : mapping
        From names such as ``"1.conv.0.weight"`` to tensors.

    Returns
    -------
    diffusers.AutoencoderTiny
        float32, in evaluation mode; images in −1..1, latents of unit scale.

    Raises
    ------
    InputError
        If the tensors are not those of such an autoencoder; the first few names are given.
    """
    from diffusers import AutoencoderTiny

    try:
        down, up = _stages(encoder, first=0), _stages(decoder, first=1)
        width = encoder["0.weight"].shape[0]
        channels = decoder["1.weight"].shape[1]
    except (KeyError, ValueError) as error:
        raise InputError(
            "These are not an encoder and a decoder of a tiny autoencoder: keys such as "
            f"'0.weight' and '1.conv.0.weight' are expected, got {listed(encoder, 4)} and "
            f"{listed(decoder, 4)}."
        ) from error
    module = AutoencoderTiny(
        encoder_block_out_channels=(width,) * len(down),
        decoder_block_out_channels=(width,) * len(up),
        num_encoder_blocks=down,
        num_decoder_blocks=up,
        latent_channels=channels,
    )
    _load(module.encoder.layers, encoder, shift=0)
    _load(module.decoder.layers, decoder, shift=1)  # the clamp is no layer in diffusers
    return module.eval().requires_grad_(False)


def load_tiny_autoencoder(
    encoder: str | Path, decoder: str | Path, scale: LatentScale | None = None
) -> Autoencoder:
    """Load a tiny autoencoder from two safetensors files.

    Parameters
    ----------
    encoder, decoder : path
        Files with plain state dicts, of any precision.
    scale : LatentScale, optional
        From its latents to a scheduler's; none by default.

    Returns
    -------
    Autoencoder
    """
    return Autoencoder(tiny_autoencoder(read_state(encoder), read_state(decoder)), scale)


def _stages(state: Mapping[str, Tensor], first: int) -> tuple[int, ...]:
    """Return how many blocks each stage has, from the numbers of the layers.

    A stage begins with a convolution that changes the resolution (three-by-three, no bias); the
    first and the last convolutions, which have one, begin and end the network.
    """
    numbers = sorted({int(_split(key)[0]) for key in state})
    blocks = {int(_split(key)[0]) for key in state if ".conv." in key}
    plain = [number for number in numbers if number not in blocks]
    if plain[0] != first or len(plain) < 3:
        raise ValueError("no stages")
    return tuple(
        sum(low < number < high for number in blocks) for low, high in itertools.pairwise(plain)
    )


def _split(key: str) -> tuple[str, str]:
    found = _LAYER.fullmatch(key)
    if found is None:
        raise ValueError(key)
    return found[1], found[2]


def _load(layers: nn.Sequential, state: Mapping[str, Tensor], shift: int) -> None:
    """Load one half, strictly; blocks with a branch are wrapped first."""
    branches = {
        int(_split(key)[0]) - shift: value.shape
        for key, value in state.items()
        if key.endswith("pool.0.weight")
    }
    for number, (hidden, width, *_) in branches.items():
        layers[number] = PooledBlock(layers[number], width, hidden)
    renamed = {}
    for key, value in state.items():
        text, rest = _split(key)
        number = int(text) - shift
        inside = "block." if number in branches and not rest.startswith("pool.") else ""
        renamed[f"{number}.{inside}{rest}"] = value.float()
    load_state(layers, renamed)
