"""Recipes that reconstruct: names, files of a run, what is saved, and mistakes told in time."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import brainkit
from brainkit.arrays.atomic import plain
from brainkit.data.preparing import prepare
from brainkit.decoding import InContextDecoder
from brainkit.errors import (
    DownloadError,
    InputError,
    LeakError,
    MissingFileError,
    SplitError,
    UnknownNameError,
)
from brainkit.evaluation.presets import PRESETS
from brainkit.jobs import read_recipe, run_job
from brainkit.jobs.decode import DecodeRecipe
from brainkit.jobs.pipeline import ImageReconstructor
from brainkit.jobs.reconstruct import ReconstructRecipe, build_tools
from brainkit.reconstruction.nulls import CAPTION_NULLS, IMAGE_NULLS
from brainkit.world import SceneWorld, write_nsd

LATENTS = {
    "kind": "embedding-decoder",
    "alphas": {"low": 10, "high": 1000, "count": 2},
    "cv": 3,
    "settings": {"renormalise": False},
}


@pytest.fixture(scope="module")
def run(models, nsd, make_recipe, tmp_path_factory):
    """Run the small recipe on one subject, once."""
    out = tmp_path_factory.mktemp("run") / "run"
    path = make_recipe(generator={"name": f"{models}/unclip", "device": "cpu", "latents": LATENTS})
    return out, run_job("reconstruct", "nsd", out=out, root=nsd, subject="1", recipe_name=str(path))


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_run_folder(run):
    out, metrics = run
    assert {path.name for path in out.iterdir()} == {
        "captions.json",
        "embeddings-true-embedding.npy",
        "embeddings.npy",
        "estimator",
        "images.npz",
        "items.parquet",
        "manifest.json",
        "metrics.json",
        "report.html",
        "retrieval_items.parquet",
    }
    assert read(out / "metrics.json") == plain(metrics)
    assert {
        "pixel_correlation",
        "identification_image_given_reconstruction_top1[judge]",
        "identification_reconstruction_given_image_top1[judge]",
        "retrieval_image_from_brain_top1",
        "retrieval_brain_from_image_top1",
        "caption_names_category",
    } <= set(metrics)
    assert not [path for path in out.rglob("*") if path.suffix in (".pkl", ".pt", ".bin")]


def test_images_sentences_and_embeddings_are_of_the_items(run, nsd):
    out, _ = run
    items = pd.read_parquet(out / "items.parquet")
    assert len(items) == 6
    stimuli = brainkit.load("nsd", nsd, 1).stimuli
    rows = items["stimulus"].to_numpy()
    with np.load(out / "images.npz", allow_pickle=False) as images:
        kinds = {"shown", "reconstruction", "true_embedding", "low_level", *IMAGE_NULLS}
        assert set(images) == kinds
        for values in images.values():
            assert values.shape == (6, 32, 32, 3)
            assert values.dtype == np.uint8
    captions = read(out / "captions.json")
    assert set(captions) == {"id", "shown", "reconstruction", "true_embedding", *CAPTION_NULLS}
    assert captions["id"] == stimuli.ids[rows].tolist()
    assert captions["shown"] == stimuli.table["caption"].iloc[rows].tolist()
    assert captions["reconstruction"] == items["caption"].tolist()
    assert np.load(out / "embeddings.npy").shape == (6, 24)
    true = np.load(out / "embeddings-true-embedding.npy")
    assert true.shape == (6, 24)
    assert len(pd.read_parquet(out / "retrieval_items.parquet")) == 10


def test_the_estimator_decodes_draws_and_says_the_same_again(run, nsd):
    out, _ = run
    items = pd.read_parquet(out / "items.parquet")
    split = brainkit.load("nsd", nsd, 1).split("nsd-shared1000", seed=0)
    fold = prepare(split.folds[0], zscore="session", average_repeats=True)
    where = [list(fold.test_stimuli).index(row) for row in items["stimulus"]]
    estimator = brainkit.load_estimator(out / "estimator")
    assert isinstance(estimator, ImageReconstructor)
    responses = fold.test[where]
    embeddings = np.load(out / "embeddings.npy")
    np.testing.assert_allclose(estimator.predict_embeddings(responses), embeddings, atol=1e-5)
    assert estimator.caption(responses) == items["caption"].tolist()
    drawn = estimator.predict(responses, seeds=items["seed"].tolist())
    with np.load(out / "images.npz", allow_pickle=False) as images:
        np.testing.assert_allclose(drawn, images["reconstruction"] / 255, atol=0.01)
    assert np.abs(drawn - estimator.predict(responses)).max() > 0.01  # other seeds
    with pytest.raises(InputError, match="takes a Recording, or responses"):
        estimator.predict_embeddings(responses[:, :3])
    bare = ImageReconstructor(estimator.embedding_model, None, estimator.preparation)
    with pytest.raises(InputError, match="no generator"):
        bare.predict(responses)
    with pytest.raises(InputError, match="no captioner"):
        bare.caption(responses)


def test_the_manifest_says_which_models_ran(run, models):
    out, _ = run
    manifest = read(out / "manifest.json")
    made = manifest["models"]
    hashes = [
        made["captioner"]["weights"],
        made["judges"]["judge"]["weights"],
        *made["generator"]["weights"].values(),
    ]
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in hashes)
    assert len(set(hashes)) == len(hashes)
    assert made["embedding"]["weights"] == made["generator"]["weights"]["image_encoder"]
    assert set(made["generator"]["weights"]) >= {"unet", "vae", "image_encoder", "text_encoder"}
    assert made["generator"]["name"] == f"{models}/unclip"
    assert made["generator"]["pipeline"] == "StableUnCLIPImg2ImgPipeline"
    assert made["generator"]["scheduler"]["prediction_type"] == "v_prediction"
    for part in (made["embedding"], made["generator"], made["captioner"], made["judges"]["judge"]):
        assert part["batch_size"] >= 1
    assert manifest["recipe"]["protocol"]["seed"] == 0
    placed = {"device": "cpu", "dtype": "float32"}
    for part in ("generator", "captioner"):
        assert made[part] | placed == made[part]
    roles = [entry["part"] for entry in manifest["ran"]]
    assert roles == ["ModelLayer", "ModelLayer", "generator", "captioner"]  # embedding and judge
    assert all(entry | placed == entry and entry["batch_size"] for entry in manifest["ran"])
    fitted = manifest["subjects"]["subj01"]["ran"]
    assert {entry["part"] for entry in fitted} >= {"EmbeddingDecoder"}
    assert all(entry["device"] == "cpu" and entry["dtype"] for entry in fitted)
    assert manifest["subjects"]["subj01"]["counts"]["images_drawn"] == 6
    assert manifest["subjects"]["subj01"]["n_targets_batch"] >= 1


def test_a_manifest_runs_again_to_the_same(run, tmp_path):
    out, metrics = run
    again = run_job(
        "reconstruct", "nsd", out=tmp_path / "again", recipe_name=str(out / "manifest.json")
    )
    assert again == metrics
    for name in ("images.npz", "captions.json", "embeddings.npy"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_the_report_shows_every_null_of_reconstruction(run):
    page = (run[0] / "report.html").read_text()
    assert "Shown and reconstructed images, with nulls." in page
    for name in ("nearest training image", "class mean", "caption prior", "no brain",
                 "shuffled brain", "mean embedding", "low-level look"):  # fmt: skip
        assert f">{name}</th>" in page
    assert "retrieval image from brain top 1" in page
    assert "retrieval brain from image top 1" in page


def test_several_subjects_and_captions_alone(nsd, make_recipe, tmp_path):
    path = make_recipe(generator=None, judges={})
    metrics = run_job("reconstruct", "nsd", out=tmp_path / "out", root=nsd, recipe_name=str(path))
    assert set(metrics) == {
        "retrieval_image_from_brain_top1",
        "retrieval_brain_from_image_top1",
        "caption_names_category",
    }
    for metric in metrics.values():
        assert set(metric["by_subject"]) == {"subj01", "subj03"}
    naming = metrics["caption_names_category"]
    each = [part["true_embedding"]["value"] for part in naming["by_subject"].values()]
    assert naming["true_embedding"] == {"value": pytest.approx(np.mean(each)), "n": 2}
    assert set(naming["nulls"]) == set(CAPTION_NULLS)
    folder = tmp_path / "out/subj03"
    captions = read(folder / "captions.json")
    assert len(captions["reconstruction"]) == 6
    assert "generator" not in read(tmp_path / "out/manifest.json")["models"]
    estimator = brainkit.load_estimator(folder / "estimator")
    assert estimator.generator is None
    page = (tmp_path / "out/report.html").read_text()
    assert "Sentences, with nulls." in page
    assert "Shown and reconstructed images" not in page


def test_others_trials_train_the_decoder_of_embeddings(nsd, make_recipe, tmp_path):
    path = make_recipe(
        generator=None,
        judges={},
        subjects={"train": ["subj01"], "test": ["subj03"], "trials": 24},
        alignment={"kind": "by-features", "settings": {"n_components": 6}},
    )
    with pytest.raises(SplitError, match=r"1 training trial.*zscore='recording'"):
        run_job("reconstruct", "nsd", out=tmp_path / "no", root=nsd, recipe_name=str(path))
    few = ["protocol.zscore=recording"]
    run_job(
        "reconstruct", "nsd", out=tmp_path / "out", root=nsd, recipe_name=str(path), changes=few
    )
    said = read(tmp_path / "out/manifest.json")["subjects"]["subj03"]
    assert (said["access"], said["own_trials"]) == ("labelled-24", 24)
    assert said["trained_on"] == {"subj01": 30}  # of 40 images ten are the test part's
    assert said["aligner"] == "ByFeatures"
    recording = brainkit.load("nsd", nsd, 3)
    test = recording.split("nsd-shared1000", seed=0).folds[0].test
    estimator = brainkit.load_estimator(tmp_path / "out/estimator")
    again = estimator.predict_embeddings(test, average_repeats=True)
    items = pd.read_parquet(tmp_path / "out/items.parquet")
    tested = list(np.unique(test.stimulus_rows()))
    where = [tested.index(row) for row in items["stimulus"]]
    embeddings = np.load(tmp_path / "out/embeddings.npy")
    np.testing.assert_allclose(again[where], embeddings, atol=1e-5)


CONTRASTIVE = {
    "kind": "contrastive-decoder",
    "settings": {"steps": 20, "cv": 2, "alphas": [10.0, 100.0], "progress": False},
}


def test_a_contrastive_decoder_of_several_people_with_a_preset(models, nsd, make_recipe, tmp_path):
    """From everyone's own units to drawings, the best of two by the decoded embedding."""
    latents = {**CONTRASTIVE, "settings": {**CONTRASTIVE["settings"], "contrast": 0.0}}
    path = make_recipe(
        generator={"name": f"{models}/unclip", "device": "cpu", "latents": latents},
        model=CONTRASTIVE,
        subjects={"train": ["subj01"], "test": ["subj03"], "trials": 60},
        alignment={"kind": "own-units"},
        preset="low_level",
    )
    changes = ["protocol.zscore=recording", "protocol.samples=2"]
    metrics = run_job(
        "reconstruct", "nsd", out=tmp_path / "out", root=nsd, recipe_name=str(path), changes=changes
    )
    scored = {name: entry for name, entry in metrics.items() if name.startswith("low_level_")}
    assert {entry["direction"] for entry in scored.values()} == {"higher"}
    assert len(scored) == 2  # pixel correlation and SSIM
    assert all(set(IMAGE_NULLS) <= set(entry["nulls"]) for entry in scored.values())
    manifest = read(tmp_path / "out/manifest.json")
    preset = PRESETS["low_level"]
    assert manifest["models"]["preset"] == {"id": "low_level", "hash": preset.hash}
    said = manifest["subjects"]["subj03"]["ran"]
    ran = next(one for one in said if one["part"] == "ContrastiveDecoder")
    assert "training images held out" in ran["checkpoint"]
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "Of 2 drawings of each the one is kept" in page
    recording = brainkit.load("nsd", nsd, 3)
    test = recording.split("nsd-shared1000", seed=0).folds[0].test
    estimator = brainkit.load_estimator(tmp_path / "out/estimator")
    again = estimator.predict_embeddings(test, average_repeats=True)
    items = pd.read_parquet(tmp_path / "out/items.parquet")
    tested = list(np.unique(test.stimulus_rows()))
    where = [tested.index(row) for row in items["stimulus"]]
    np.testing.assert_allclose(again[where], np.load(tmp_path / "out/embeddings.npy"), atol=1e-5)


def test_a_preset_without_its_networks_says_how_to_get_them(make_recipe, tmp_path):
    with pytest.raises(MissingFileError, match="mindeye2"):
        run_job(
            "reconstruct", "nsd", out=tmp_path / "out", root=tmp_path,
            recipe_name=str(make_recipe()),
            changes=["preset=mindeye2", f"networks={tmp_path}"],
        )  # fmt: skip
    with pytest.raises(UnknownNameError, match="mindeye3"):
        read_recipe_tools(make_recipe(preset="mindeye3"))


def test_only_a_decoder_that_fuses_takes_further_embeddings(models, make_recipe):
    fused = ["open_clip:tiny"]
    with pytest.raises(InputError, match="fuses open_clip:tiny into the target"):
        read_recipe_tools(make_recipe(fused=fused))
    tools = read_recipe_tools(make_recipe(fused=fused, model=CONTRASTIVE))
    assert len(tools.fused) == 1


def read_recipe_tools(path):
    return build_tools(read_recipe(path))


def test_stimuli_without_captions_are_reconstructed_and_the_report_says_what_lacks(
    nsd, make_recipe, tmp_path
):
    metrics = run_job(
        "reconstruct", "nsd", out=tmp_path / "out", root=nsd, subject="1",
        recipe_name=str(make_recipe()), options={"annotations": False},
    )  # fmt: skip
    assert "caption_names_category" not in metrics
    assert {"caption_prior", "class_mean"}.isdisjoint(metrics["pixel_correlation"]["nulls"])
    page = (tmp_path / "out/report.html").read_text()
    assert "Nulls are missing." in page
    assert "the caption prior, since the stimuli have no captions" in page
    assert "the class mean, since their categories are not known" in page
    assert "shown" not in read(tmp_path / "out/captions.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["generator.name=tiyn"], r"no folder tiyn"),
        (["generator.name=/nowhere"], "no folder /nowhere"),
        (["captioner.name=./nowhere"], "no folder nowhere"),
        (["judges={a: 'timm:tiny-jugde-a'}"], "judge"),
        (["judges={a: 'tim:x'}"], "Unknown source of models 'tim'.*Did you mean 'timm'"),
        (["embedding=open_clop:tiny"], "Did you mean 'open_clip'"),
        (["embedding=timm:test_vit/random@blocks.9"], "Unknown layer"),
        (["model.kind=ridge-decoder"], "embeddings are decoded by 'embedding-decoder'"),
        (["model.settings={spread: wide}"], "spread cannot be 'wide'"),
    ],
)
def test_wrong_names_are_told_before_anything_is_read(make_recipe, tmp_path, changes, message):
    (tmp_path / "empty").mkdir()  # no data at all: the recipe's mistake comes first
    with pytest.raises((InputError, MissingFileError), match=message):
        run_job(
            "reconstruct", "nsd", out=tmp_path / "out", root=tmp_path / "empty",
            recipe_name=str(make_recipe()), changes=changes,
        )  # fmt: skip


def test_a_captioner_of_images_needs_a_generator(make_recipe, git):
    recipe = read_recipe(make_recipe(generator=None, judges={}, captioner={"name": str(git)}))
    with pytest.raises(InputError, match="reads images, and the recipe names no generator"):
        build_tools(recipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["embedding=timm:test_vit/random:5"], r"64 wide.*24 wide"),
        (["judges.judge=transformers:{models}/unclip/image_encoder"], "judge is the model whose"),
    ],
)
def test_embeddings_and_judges_that_do_not_fit(
    models, nsd, make_recipe, tmp_path, changes, message
):
    given = [change.format(models=models) for change in changes]
    with pytest.raises(InputError, match=message):
        run_job(
            "reconstruct", "nsd", out=tmp_path / "out", root=nsd, subject="1",
            recipe_name=str(make_recipe()), changes=given,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


HUB = [
    "embedding=open_clip:ViT-H-14/laion2b_s32b_b79k",
    "generator.name=stabilityai/stable-diffusion-2-1-unclip",
    "captioner.name=microsoft/git-base-coco",
    "judges={inception: 'timm:inception_v3.tv_in1k'}",
]


def test_hub_ids_stand_where_tiny_stands():
    recipe = read_recipe("brain_diffuser", HUB)
    assert isinstance(recipe, ReconstructRecipe)
    assert recipe.generator.name == "stabilityai/stable-diffusion-2-1-unclip"
    tiny = read_recipe("brain_diffuser")
    assert recipe.protocol == tiny.protocol
    assert recipe.generator.latents == tiny.generator.latents


def test_a_hub_out_of_reach_is_told_with_what_to_do(make_recipe, monkeypatch):
    monkeypatch.delenv("BRAINKIT_DOWNLOAD", raising=False)
    for change in HUB[1:3]:
        with pytest.raises(DownloadError) as found:
            build_tools(read_recipe(make_recipe(), [change]))
        said = str(found.value)
        assert f"hf:{change.partition('=')[2]}" in said
        assert "local cache" in said
        assert "hf download" in said
    with pytest.raises(DownloadError, match="laion"):
        build_tools(read_recipe(make_recipe(), HUB[:1]))


@pytest.mark.slow
def test_the_same_at_a_real_embedding_size(make_models, make_recipe, nsd, tmp_path):
    """The widths of OpenCLIP's ViT-H/14, with random weights."""
    path = make_recipe(make_models(1024))
    changes = ["protocol.n_images=3", "protocol.steps=1"]
    metrics = run_job(
        "reconstruct", "nsd", out=tmp_path / "out", root=nsd, subject="1",
        recipe_name=str(path), changes=changes,
    )  # fmt: skip
    assert np.load(tmp_path / "out/embeddings.npy").shape == (3, 1024)
    assert metrics["pixel_correlation"]["n"] == 3


def test_the_job_tells_the_two_kinds_of_decoding_apart(make_recipe, nsd, tmp_path):
    assert isinstance(read_recipe(make_recipe()), ReconstructRecipe)
    assert isinstance(read_recipe("decode-pixel-components"), DecodeRecipe)
    for name in (
        "brain_diffuser",
        "brain_captioning",
        "mindeye1",
        "mindeye2",
        "mindbridge",
        "braincodec",
    ):
        assert isinstance(read_recipe(name), ReconstructRecipe)
    with pytest.raises(
        InputError, match=r"is for reconstruct; this is decode\. Run it with 'brain"
    ):
        run_job("decode", "nsd", out=tmp_path, root=nsd, recipe_name="brain_diffuser")
    with pytest.raises(InputError, match=r"there is no setting features"):
        read_recipe(make_recipe(features=[{"kind": "pixel-pca"}]))
    with pytest.raises(InputError, match="at least one held-out judge"):
        read_recipe(make_recipe(judges={}))
    with pytest.raises(InputError, match=r"protocol\.strength"):
        read_recipe(make_recipe(), ["protocol.strength=2"])
    with pytest.raises(InputError, match=r"there is no setting generator\.steps"):
        read_recipe(make_recipe(), ["generator.steps=3"])
    with pytest.raises(UnknownNameError, match="brain_diffuser"):
        read_recipe("brain_difuser")


@pytest.mark.slow
def test_a_person_is_decoded_without_fitting(nsd, tmp_path):
    out = tmp_path / "out"
    changes = [
        "model.settings.encoder=brainkit.encoding:VoxelwiseRidge", "protocol.n_train=28",
        "protocol.n_images=4", "protocol.steps=2",
    ]  # fmt: skip
    metrics = run_job(
        "reconstruct", "nsd", out=out, root=nsd, subject="1", recipe_name="braincodec",
        changes=changes,
    )  # fmt: skip
    assert metrics["retrieval_image_from_brain_top1"]["n"] == 10
    assert "shuffled_brain" in metrics["retrieval_image_from_brain_top1"]["nulls"]
    (told,) = read(out / "manifest.json")["subjects"].values()
    assert told["network"]["checkpoint"] == "tiny"
    assert told["network"]["encoder"] == "VoxelwiseRidge"
    assert told["network"]["learned_from"] == []
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "none of those predicted here among them" in page
    pipeline = brainkit.load_estimator(out / "estimator")
    assert isinstance(pipeline, ImageReconstructor)
    assert len(pipeline.embedding_model.support_) == 28
    recording = brainkit.load("nsd", nsd, 1)
    decoded = pipeline.embedding_model.predict(pipeline.preparation.values(recording)[:3])
    assert decoded.shape == (3, 256)


def test_a_person_that_the_network_learned_from_is_not_decoded(tmp_path):
    world, _, subject = InContextDecoder().origin.subjects[0].partition("/subject-")
    root = write_nsd(
        tmp_path / "nsd", SceneWorld(seed=int(world.removeprefix("world-"))), (int(subject),),
        images_per_subject=40, shared=10, trials_per_session=24, density=0.02,
    )  # fmt: skip
    with pytest.raises(LeakError, match=f"{world}/subject-{subject} is to be predicted"):
        run_job(
            "reconstruct", "nsd", out=tmp_path / "out", root=root, subject=subject,
            recipe_name="braincodec",
        )  # fmt: skip
