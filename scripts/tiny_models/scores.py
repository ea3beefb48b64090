"""How good the tiny models are, on scenes that they were not trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch.nn import functional

from brainkit.arrays.seeds import rng
from brainkit.evaluation import bootstrap_ci
from brainkit.reconstruction import identification_among, names_category, words_for
from brainkit.world import SceneWorld
from brainkit.world.scenes import SYNONYMS, Scene
from tiny_models import clip, diffusion, judges
from tiny_models.scenes import SIZE, TEST, as_tensor, describe_wholly

AMONG, GALLERY, DRAWS = 50, 100, 20
Score = dict[str, Any]


@dataclass(frozen=True)
class Scenes:
    """Test scenes: what they show, and their pictures."""

    scenes: list[Scene]
    images: np.ndarray

    @classmethod
    def paint(cls, count: int) -> Self:
        """Paint the first `count` scenes of the test world."""
        world = SceneWorld(TEST, SIZE)
        return cls([world.scene(n) for n in range(count)], world.paint(range(count)))

    @property
    def categories(self) -> np.ndarray:
        """The category of each scene's largest object."""
        return np.array([scene.objects[0].category for scene in self.scenes])

    @property
    def single(self) -> np.ndarray:
        """Which scenes hold one object."""
        return np.array([len(scene.objects) == 1 for scene in self.scenes])


def share(hits: np.ndarray) -> Score:
    """Return a share with its 95 % interval (scenes drawn anew)."""
    found = bootstrap_ci(np.asarray(hits, dtype=float), seed=0)
    return {"value": found.value, "ci": [found.low, found.high], "n": found.n}


def score_clip(models: Path, test: Scenes, generated: int) -> Score:
    """Caption retrieval among 100, zero-shot category, and agreement with the export."""
    model, tokenizer = clip.load(models / clip.NAME)
    images = clip.embed(model, test.images)
    captions = [describe_wholly(scene) for scene in test.scenes]
    with torch.inference_mode():
        texts = model.encode_text(clip.tokenize(tokenizer, captions), normalize=True)
    hits = np.concatenate([_retrieved(images, texts, draw) for draw in range(DRAWS)])
    guess = np.array(clip.zero_shot(model, tokenizer, test.images)) == test.categories
    return {
        "caption_retrieval_top1_of_100": share(hits),
        "zero_shot_category_all": share(guess),
        "zero_shot_category_single_object": share(guess[test.single]),
        "largest_difference_to_transformers": _export_difference(models, model, tokenizer, test),
    }


def _retrieved(images: torch.Tensor, texts: torch.Tensor, draw: int) -> np.ndarray:
    """Tell for 100 scenes drawn at random whether each finds its own caption first."""
    rows = rng(0, "gallery", draw).choice(len(images), GALLERY, replace=False)
    nearest = (images[rows] @ texts[rows].T).argmax(dim=1)
    return (nearest == torch.arange(GALLERY)).numpy()


def _export_difference(models: Path, model: Any, tokenizer: Any, test: Scenes) -> float:
    from transformers import CLIPModel

    twin = CLIPModel.from_pretrained(models / f"{clip.NAME}-transformers", dtype=torch.float32)
    pixels = as_tensor(test.images[:100])
    captions = [describe_wholly(scene) for scene in test.scenes[:100]]
    tokens = clip.tokenize(tokenizer, captions)
    with torch.inference_mode():
        pairs = [
            (model.encode_image(pixels), twin.get_image_features(pixel_values=pixels)),
            (model.encode_text(tokens), twin.get_text_features(input_ids=tokens)),
        ]
    return max(float((a - getattr(b, "pooler_output", b)).abs().max()) for a, b in pairs)


def score_diffusion(models: Path, test: Scenes, generated: int) -> Score:
    """Round trips, and images from the embeddings of unseen scenes, identified by the judges."""
    from brainkit.generators import Generator

    generator = Generator.from_pretrained(models / diffusion.NAME, device="cpu")
    shown = test.images[:generated].astype(np.float32) / 255
    back = generator.decode_latents(generator.encode_latents(shown))
    psnr = -10 * np.log10(np.mean((back - shown) ** 2, axis=(1, 2, 3)))
    model, tokenizer = clip.load(models / clip.NAME)
    embeddings = clip.embed(model, test.images[:generated], normalize=False).numpy()
    captions = [describe_wholly(scene) for scene in test.scenes[:generated]]
    seeds = list(range(generated))
    made = {
        "embedding": generator.generate(image_embeds=embeddings, seeds=seeds),
        "embedding and text": generator.generate(
            image_embeds=embeddings, text=captions, seeds=seeds
        ),
        "text": generator.generate(text=captions, seeds=seeds),
        "nothing": generator.generate(seeds=seeds),
        "autoencoder": back,
    }
    found: Score = {"autoencoder_psnr_db": share(psnr)}
    for judge in judges.ARCHITECTURES:
        if not (models / judge).is_dir():
            continue
        network = judges.load(models / judge)
        truth = judge_features(network, test.images[:generated])
        for source, images in made.items():
            seen = judge_features(network, np.rint(images * 255).astype(np.uint8))
            hits = identification_among(seen, truth, "image_given_reconstruction", n=AMONG).scores
            found[f"identified_among_50_by_{judge}_from_{source.replace(' ', '_')}"] = share(hits)
    guesses = {
        source: np.array(clip.zero_shot(model, tokenizer, np.rint(images * 255).astype(np.uint8)))
        for source, images in made.items()
    }
    for source, guess in guesses.items():
        right = guess == test.categories[:generated]
        found[f"clip_sees_the_category_from_{source.replace(' ', '_')}"] = share(right)
    return found


def judge_features(network: Any, images: np.ndarray, batch: int = 250) -> np.ndarray:
    """Return a judge's features before its last layer, pooled, (n, width)."""
    with torch.inference_mode():
        parts = [
            network.forward_head(
                network.forward_features(as_tensor(images[start : start + batch])), pre_logits=True
            )
            for start in range(0, len(images), batch)
        ]
    return torch.cat(parts).numpy()


def score_captioner(models: Path, test: Scenes, generated: int) -> Score:
    """Whether captions name the largest object's category, beside the CLIP's own zero-shot."""
    from brainkit.generators import Captioner

    model, tokenizer = clip.load(models / clip.NAME)
    embeddings = clip.embed(model, test.images, normalize=False).numpy()
    captioner = Captioner.from_pretrained(models / "captioner", device="cpu")
    said = captioner.caption(image_embeds=embeddings)
    words = words_for(list(SYNONYMS), list(SYNONYMS.values()))
    named = names_category(said, list(test.categories), words)
    guess = np.array(clip.zero_shot(model, tokenizer, test.images)) == test.categories
    whole = np.array(
        [_plain(a) == _plain(describe_wholly(b)) for a, b in zip(said, test.scenes, strict=True)]
    )
    return {
        "names_the_largest_category": share(named),
        "zero_shot_of_the_clip": share(guess),
        "difference": share(named - guess.astype(float)),
        "whole_caption_right": share(whole),
    }


def _plain(text: str) -> list[str]:
    return text.lower().replace(",", " ").split()


def score_judge(name: str) -> Callable[[Path, Scenes, int], Score]:
    """Return the scorer of a judge."""

    def scorer(models: Path, test: Scenes, generated: int) -> Score:
        network = judges.load(models / name)
        with torch.inference_mode():
            logits = torch.cat(
                [network(as_tensor(part)) for part in np.array_split(test.images, 8)]
            )
        if name == "judge-b":
            return _same_scene_again(network, test)
        parts = dict(zip(judges.HEADS, logits.split(list(judges.WIDTHS.values()), 1), strict=True))
        truth = judges.targets(SceneWorld(TEST, SIZE), len(test.scenes))
        return {
            head: share((parts[head].argmax(dim=1) == truth[head]).numpy())
            for head in ("main", "kind", "colour", "background")
        }

    return scorer


def _same_scene_again(network: Any, test: Scenes) -> Score:
    generator = torch.Generator().manual_seed(0)
    shown = as_tensor(test.images[:500])
    with torch.inference_mode():
        first, second = (
            functional.normalize(network(judges.changed(shown, generator))) for _ in range(2)
        )
    found = (first @ second.T).argmax(dim=1) == torch.arange(len(shown))
    return {"same_scene_found_among_500_after_changes": share(found.numpy())}


SCORERS: dict[str, Callable[[Path, Scenes, int], Score]] = {
    "clip": score_clip,
    "judge-a": score_judge("judge-a"),
    "judge-b": score_judge("judge-b"),
    "captioner": score_captioner,
    "diffusion": score_diffusion,
}
