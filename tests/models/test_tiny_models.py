"""The shipped models: in their libraries' formats, small, and as good as their cards say.

Measured again on fewer scenes than the cards', of a world that no model was trained on.
"""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tiny_models import clip, judges
from tiny_models.scenes import TEST, describe_wholly
from tiny_models.scores import Scenes, judge_features, score_captioner, score_clip

from brainkit.arrays.files import share_folder
from brainkit.evaluation import identification
from brainkit.features import ModelLayer, extract
from brainkit.generators import Captioner, Generator
from brainkit.reconstruction import identification_among
from brainkit.world import SceneWorld

MODELS = share_folder("models") / "tiny"
NAMES = ("clip", "clip-transformers", "diffusion", "captioner", "judge-a", "judge-b")


@pytest.fixture(scope="module")
def scenes():
    return Scenes.paint(400)


def test_they_are_small_and_hold_no_pickle():
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    # In-context encoders have a limit of their own (test_in_context.py).
    shared = [path for path in files if not path.parent.name.startswith("in-context")]
    assert sum(path.stat().st_size for path in shared) <= 20e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md", ".txt"}
    assert {path.parent.name for path in files} >= set(NAMES)


def test_weights_are_in_half_precision():
    for path in MODELS.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        assert kinds <= {"F16", "I64"}, path


def test_the_cards_hold_the_figures_of_the_scores():
    scores = json.loads((MODELS / "scores.json").read_text())
    for name, found in scores.items():
        card = (MODELS / name / "README.md").read_text()
        assert "## Limits" in card
        for measure, score in found.items():
            value = score["value"] if isinstance(score, dict) else None
            assert measure.replace("_", " ") in card
            assert value is None or f"{value:.3f}" in card


def test_the_figures_reach_what_they_should():
    scores = json.loads((MODELS / "scores.json").read_text())
    drawn, said = scores["diffusion"], scores["captioner"]
    assert drawn["identified_among_50_by_judge-a_from_embedding"]["value"] >= 0.6
    assert abs(said["difference"]["value"]) <= 0.03
    assert scores["clip"]["caption_retrieval_top1_of_100"]["value"] >= 0.8
    assert scores["clip"]["zero_shot_category_single_object"]["value"] >= 0.95
    assert scores["clip"]["zero_shot_category_all"]["value"] >= 0.85


def test_the_clip_retrieves_classifies_and_equals_its_export(scenes):
    found = score_clip(MODELS, scenes, 0)
    assert found["caption_retrieval_top1_of_100"]["value"] >= 0.8
    assert found["zero_shot_category_single_object"]["value"] >= 0.95
    assert found["zero_shot_category_all"]["value"] >= 0.85
    assert found["largest_difference_to_transformers"] < 1e-5
    config = json.loads((MODELS / "clip/open_clip_config.json").read_text())
    assert config["model_cfg"]["text_cfg"]["vocab_size"] <= 2048


def test_the_tokenizers_of_both_formats_agree(scenes):
    from transformers import CLIPTokenizer

    _, ours = clip.load(MODELS / "clip")
    theirs = CLIPTokenizer.from_pretrained(MODELS / "clip-transformers")
    texts = [describe_wholly(scene) for scene in scenes.scenes[:50]]
    assert torch.equal(clip.tokenize(ours, texts), clip.tokenize(theirs, texts))
    assert ours.decode(ours(texts[0]).input_ids, skip_special_tokens=True).split() == [
        word for word in texts[0].replace(",", " ,").split()
    ]


def test_features_of_both_formats_agree(scenes):
    images = scenes.images[:20]
    first = extract("open_clip:tiny", images)
    second = extract("transformers:tiny@visual_projection", images)
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_captions_name_the_largest_object_as_often_as_the_clip_does(scenes):
    found = score_captioner(MODELS, scenes, 0)
    assert abs(found["difference"]["value"]) <= 0.03
    embeddings = ModelLayer("open_clip:tiny", pool=None).transform(scenes.images[:3])
    said = Captioner.from_pretrained("tiny").caption(image_embeds=embeddings)
    assert all(text.split()[0] in ("a", "an") for text in said)


def test_an_image_drawn_from_an_embedding_is_found_by_both_judges(scenes):
    shown = scenes.images[:50]
    embeddings = extract("open_clip:tiny", shown)
    generator = Generator.from_pretrained("tiny", device="cpu")
    assert generator.check_embeddings(shown[:10], embeddings[:10]) > 0.9999
    drawn = generator.generate(image_embeds=embeddings, seeds=range(50))
    assert drawn.shape == (50, 64, 64, 3)
    for name, least in (("judge-a", 0.5), ("judge-b", 0.4)):
        judge = judges.load(MODELS / name)
        truth, seen = (judge_features(judge, x) for x in (shown, np.rint(255 * drawn)))
        found = identification_among(seen, truth, "image_given_reconstruction")
        assert found.estimate.value > least
        assert identification(seen, truth, "image_given_reconstruction").mean() > 0.95


def test_the_pipeline_loads_as_it_is_in_diffusers():
    from diffusers import DiffusionPipeline, StableUnCLIPImg2ImgPipeline

    pipeline = DiffusionPipeline.from_pretrained(MODELS / "diffusion")
    assert isinstance(pipeline, StableUnCLIPImg2ImgPipeline)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        prompt="a plate of food",
        image_embeds=torch.zeros(1, 256),
        num_inference_steps=2,
        output_type="np",
    ).images
    assert made.shape == (1, 64, 64, 3)
    assert np.isfinite(made).all()


def test_the_autoencoder_keeps_the_picture(scenes):
    generator = Generator.from_pretrained("tiny", device="cpu")
    shown = scenes.images[:40].astype(np.float32) / 255
    back = generator.decode_latents(generator.encode_latents(shown))
    psnr = -10 * np.log10(np.mean((back - shown) ** 2, axis=(1, 2, 3)))
    assert psnr.mean() > 27


def test_the_judges_know_the_world(scenes):
    network = judges.load(MODELS / "judge-a")
    with torch.inference_mode():
        from tiny_models.scenes import as_tensor

        main = network(as_tensor(scenes.images))[:, : judges.WIDTHS["main"]].argmax(dim=1)
    truth = judges.targets(SceneWorld(TEST), len(scenes.scenes))["main"]
    assert (main == truth).float().mean() > 0.75
    labels = json.loads((MODELS / "judge-a/config.json").read_text())["label_names"]
    assert len(labels) == sum(judges.WIDTHS.values())
