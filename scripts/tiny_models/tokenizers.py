"""The tokenizers: byte-pair encoding for the CLIP's text tower, whole words for the captioner.

Both are made from the world's own captions, in their libraries' own formats.
"""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from brainkit.world import SceneWorld
from tiny_models.scenes import SIZE, TRAINING, describe, describe_wholly

CONTEXT = 48
CAPTIONS = 6000


def corpus() -> list[str]:
    """Return captions of the training world that show all of its vocabulary."""
    world, generator = SceneWorld(TRAINING, SIZE), np.random.default_rng(0)
    scenes = [world.scene(number) for number in range(CAPTIONS)]
    return [describe(s, generator) for s in scenes] + [describe_wholly(s) for s in scenes]


def clip_tokenizer() -> "CLIPTokenizer":  # noqa: F821
    """Make the byte-pair tokenizer: bytes, bytes that end a word, and merges of common words."""
    from open_clip.tokenizer import bytes_to_unicode
    from transformers import CLIPTokenizer

    letters = list(bytes_to_unicode().values())
    counts = Counter(word for text in corpus() for word in re.findall(r"[a-z]+", text))
    merges = learn_merges(counts)
    vocabulary = letters + [f"{letter}</w>" for letter in letters]
    vocabulary += ["".join(merge) for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(vocabulary)},
        merges=merges,
        pad_token="!",
        model_max_length=CONTEXT,
    )


def learn_merges(counts: Counter[str]) -> list[tuple[str, str]]:
    """Learn byte-pair merges (Sennrich, Haddow and Birch 2016) until every word is one token."""
    words = {(*word[:-1], f"{word[-1]}</w>"): count for word, count in counts.items()}
    merges: list[tuple[str, str]] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for parts, count in words.items():
            for pair in pairwise(parts):
                pairs[pair] += count
        if not pairs:
            return merges
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = {_merged(parts, best): count for parts, count in words.items()}


def _merged(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return tuple(joined)


def word_tokenizer(texts: Iterable[str]) -> "PreTrainedTokenizerFast":  # noqa: F821
    """Make a tokenizer of whole words and commas, for the captioner."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in texts for word in re.findall(r"[a-z]+|,", text)})
    special = ["<pad>", "<end>", "<unknown>"]
    vocabulary = {word: number for number, word in enumerate(special + words)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unknown>",
        model_max_length=CONTEXT,
    )
