"""Every mistake that a user can make with data or settings: one sentence, and nothing changed."""

import json
import warnings

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.io import loadmat, savemat

import brainkit
from brainkit.cli.app import _show_warning, in_options
from brainkit.data.cards import read_card
from brainkit.jobs import JOBS

BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
ROIS = "nsddata/ppdata/subj01/func1pt8mm/roi"
DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
SESSION = f"{BETAS}/betas_session02.hdf5"


@pytest.fixture
def nothing_made(contents, tmp_path):
    """Check that a refused run changed no file and left none, nor the output folder."""
    before = contents(tmp_path)
    yield
    assert contents(tmp_path) == before
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------- the data


def damage(path, how):
    """Change a dataset's file in place."""
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "nearly whole":
        path.write_bytes(whole[:-100])
    elif how == "another file":
        path.write_text("not data\n" * 1000)


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "nearly whole", "another file"])
@pytest.mark.parametrize("job", ["encode", "decode"])
def test_a_damaged_session_file(refused, base, contents, nsd_copy, tmp_path, job, how):
    damage(nsd_copy / SESSION, how)
    before = contents(tmp_path)
    said = refused(*base(job, root=nsd_copy))
    assert "betas_session02.hdf5" in said
    assert ("missing" in said) == (how == "missing")
    assert contents(tmp_path) == before


def test_a_missing_session_can_be_left_out(call, refused, base, nsd_copy, tmp_path):
    (nsd_copy / SESSION).unlink()
    said = refused(*base("encode", root=nsd_copy))
    assert "Sessions here: 1, 3, 4, 5" in said
    options = ["--option", "sessions=[1, 3, 4, 5]"]
    assert call(*base("encode", root=nsd_copy), *options).exit_code == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["subjects"]["subj01"]["sessions"] == [1, 3, 4, 5]


def test_a_session_file_of_fewer_trials(refused, base, nsd_copy):
    path = nsd_copy / SESSION
    with h5py.File(path) as file:
        betas = file["betas"][:-1]
    with h5py.File(path, "w") as file:
        file["betas"] = betas
    assert "holds 23 trials; the design has 24 in session 2" in refused(
        *base("encode", root=nsd_copy)
    )


@pytest.mark.parametrize(
    ("name", "how"),
    [
        (DESIGN, "missing"),
        (DESIGN, "truncated"),
        (DESIGN, "another file"),
        (f"{ROIS}/prf-visualrois.nii.gz", "truncated"),
        (f"{ROIS}/prf-visualrois.nii.gz", "another file"),
        (f"{ROIS}/nsdgeneral.nii.gz", "truncated"),
        ("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5", "truncated"),
        ("SIMULATED.json", "another file"),
    ],
)
def test_another_damaged_file(refused, base, nsd_copy, name, how):
    damage(nsd_copy / name, how)
    assert name.rsplit("/", 1)[-1] in refused(*base("encode", root=nsd_copy))


def test_the_second_subjects_fault_is_found_before_the_first_is_run(
    refused, base, nsd_copy, monkeypatch
):
    from brainkit.jobs import runner as running

    def never(*_, **__):
        raise AssertionError("run before all were opened")

    monkeypatch.setattr(running, "_run_person", never)
    path = nsd_copy / SESSION.replace("subj01", "subj03")
    damage(path, "truncated")
    assert str(path) in refused(*base("encode", root=nsd_copy, subject=None))


@pytest.mark.parametrize("job", ["encode", "decode", "synthesize"])
def test_an_image_id_out_of_range(refused, base, nsd_copy, job):
    design = loadmat(nsd_copy / DESIGN)
    images = design["subjectim"].copy()
    images[0, -1] = 9999
    names = ("masterordering", "basiccnt", "sharedix", "stimpattern")
    savemat(nsd_copy / DESIGN, {"subjectim": images} | {n: design[n] for n in names if n in design})
    said = refused(*base(job, root=nsd_copy))
    assert "9998" in said
    assert "stimul" in said


def test_no_stimuli(refused, base, nsd_copy):
    (nsd_copy / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5").unlink()
    for job in ("encode", "decode", "synthesize"):
        assert "this recording has none" in refused(*base(job, root=nsd_copy))


def spoil(root, change):
    """Rewrite the betas of session 2 as float32, changed; return the units' places in files."""
    recording = brainkit.load("nsd", root, 1)
    places = recording.units[["k", "j", "i"]].to_numpy()
    with h5py.File(root / SESSION) as file:
        betas = file["betas"][:].astype(np.float32)
    change(betas, places)
    with h5py.File(root / SESSION, "w") as file:
        file["betas"] = betas
    return recording


def test_nan_and_constant_voxels_score_nan_and_are_counted(call, base, nsd_copy, tmp_path):
    def change(betas, places):
        betas[3, *places[0]] = np.nan
        betas[:, *places[5]] = np.inf

    recording = spoil(nsd_copy, change)
    for session in range(1, 6):  # constant in all sessions
        with h5py.File(nsd_copy / f"{BETAS}/betas_session{session:02d}.hdf5", "r+") as file:
            i, j, k = recording.units.loc[7, ["i", "j", "k"]]
            file["betas"][:, k, j, i] = 300
    expected = np.zeros(len(recording.units), dtype=bool)
    expected[[0, 5, 7]] = True
    for job in ("encode", "decode", "synthesize"):
        out = tmp_path / job
        result = call(*base(job, root=nsd_copy, out=out))
        assert result.exit_code == 0, result.stderr
        manifest = json.loads((out / "manifest.json").read_text())
        counts = manifest["subjects"]["subj01"]["counts"]
        assert counts == {"units": len(expected), "constant_or_nan": 3}
        estimator = brainkit.load_estimator(out / "estimator")
        usable = getattr(estimator, "preparation", estimator).usable
        np.testing.assert_array_equal(usable, ~expected)
    units = pd.read_parquet(tmp_path / "encode" / "units.parquet")
    np.testing.assert_array_equal(units["r"].isna(), expected)
    np.testing.assert_array_equal(units["p"].isna(), expected)
    np.testing.assert_array_equal(units["status"] == "constant or NaN", expected)
    metrics = json.loads((tmp_path / "encode" / "metrics.json").read_text())
    assert metrics["encoding_r"]["n"] == len(expected) - 3
    assert metrics["encoding_r"]["value"] == pytest.approx(units["r"].mean())
    values = nibabel.load(tmp_path / "encode" / "maps" / "r.nii.gz").get_fdata()
    at = values[tuple(units[["i", "j", "k"]].to_numpy().T)]
    np.testing.assert_array_equal(np.isnan(at), expected)
    page = (tmp_path / "encode" / "report.html").read_text(encoding="utf-8")
    assert "constant" in page
    images = recording.stimuli.read(np.arange(2))
    predicted = brainkit.load_estimator(tmp_path / "encode" / "estimator").predict(images)
    np.testing.assert_array_equal(np.isnan(predicted).all(axis=0), expected)


def test_no_usable_voxel(refused, base, nsd_copy):
    def change(betas, places):
        betas[:] = np.nan

    spoil(nsd_copy, change)
    for job in ("encode", "decode", "synthesize"):
        said = refused(*base(job, root=nsd_copy))
        assert "can be used: all are constant or hold NaN" in said


# ------------------------------------------------------------------- subjects, regions and masks


@pytest.mark.usefixtures("nothing_made")
@pytest.mark.parametrize("subject", ["2", "subj07", "bob", ""])
def test_wrong_subject(refused, base, subject):
    arguments = [*base("encode", subject=None), "--subject", subject]
    assert f"Unknown subject '{subject}': there are subj01, subj03." in refused(*arguments)


@pytest.mark.usefixtures("nothing_made")
@pytest.mark.parametrize(
    "arguments",
    [
        ("encode", "--option", "mask=XYZ"),
        ("decode", "--set", "protocol.roi=XYZ"),
        ("synthesize", "--set", "protocol.against=XYZ"),
    ],
)
def test_unknown_region_says_which_exist(refused, base, arguments):
    said = refused(*base(arguments[0]), *arguments[1:])
    assert "Unknown ROI 'XYZ'" in said
    assert "hV4" in said


@pytest.mark.parametrize("job", ["encode", "decode", "synthesize"])
def test_a_mask_of_another_grid(refused, base, tmp_path, job):
    image = nibabel.Nifti1Image(np.ones((5, 6, 7), dtype=np.uint8), np.eye(4))
    nibabel.save(image, tmp_path / "mask.nii.gz")
    said = refused(*base(job), "--option", f"mask={tmp_path / 'mask.nii.gz'}")
    assert "(5, 6, 7)" in said
    assert "grid" in said


def test_masks_that_cannot_be_used(refused, base, nsd, tmp_path):
    reference = nibabel.load(nsd / ROIS / "prf-visualrois.nii.gz")
    moved = reference.affine.copy()
    moved[0, 3] += 10
    inside = np.ones(reference.shape, dtype=np.uint8)
    for name, volume, affine, expected in [
        ("moved", inside, moved, "affine"),
        ("empty", 0 * inside, reference.affine, "no voxel inside"),
    ]:
        path = tmp_path / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(volume, affine), path)
        assert expected in refused(*base("encode"), "--option", f"mask={path}")
    assert "missing" in refused(*base("encode"), "--option", f"mask={tmp_path / 'no.nii.gz'}")


# ------------------------------------------------------------------------------------ the split


@pytest.mark.usefixtures("nothing_made")
@pytest.mark.parametrize("job", ["encode", "decode", "synthesize"])
@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("kfold:200", "200 folds cannot be made of 40 groups"),
        ("kfold:1", "at least 2 folds"),
        ("kfold:x", "Write k-fold splits as"),
        ("kfold:5:nope", "nope"),
        ("nope", "nsd-shared1000"),
        ("leave-one-session-out", "stand in both the 'train' and the 'test' part"),
        ("kfold:5:trial", "stand in both the 'train' and the 'test' part"),
    ],
)
def test_splits_that_cannot_be_made(refused, base, job, split, expected):
    assert expected in refused(*base(job), "--set", f"protocol.split={split}")


def test_too_few_trials_to_choose_the_penalty(refused, base):
    said = refused(*base("encode"), "--set", "model.cv=31")
    assert "31 folds cannot be made of 30 groups" in said


def test_a_session_without_training_trials(call, refused, base, nsd_copy, tmp_path):
    """Session 5 is made to show shared images only, in a design that is otherwise the same."""
    design = loadmat(nsd_copy / DESIGN)
    order = design["masterordering"].ravel().astype(int)
    n_shared = design["sharedix"].size
    rng = np.random.default_rng(0)
    last = np.arange(len(order)) >= len(order) - 24
    order[last] = rng.integers(1, n_shared + 1, 24)
    order[~last] = np.r_[
        np.repeat(np.arange(n_shared + 1, 41), 3)[: (~last).sum()],
        np.ones(max(0, (~last).sum() - 90), dtype=int),
    ]
    names = ("basiccnt", "sharedix", "stimpattern", "subjectim")
    content = {"masterordering": order[None]} | {n: design[n] for n in names if n in design}
    savemat(nsd_copy / DESIGN, content)
    said = refused(*base("encode", root=nsd_copy))
    assert "session" in said
    assert "5" in said
    assert "session-unlabelled" in said
    unseen = ["--set", "protocol.unseen=session-unlabelled"]
    assert call(*base("encode", root=nsd_copy), *unseen).exit_code == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["subjects"]["subj01"]["zscore"]["transductive"] is True
    assert "transductive" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


# ----------------------------------------------------------------------------- the output folder


@pytest.mark.parametrize("job", ["encode", "decode", "synthesize"])
def test_a_file_in_the_way(refused, contents, base, tmp_path, job):
    (tmp_path / "out").write_text("mine")
    assert "is a file" in refused(*base(job))
    assert "cannot be written" in refused(*base(job, out=tmp_path / "out" / "deeper"))
    assert contents(tmp_path) == {"out": b"mine"}


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
@pytest.mark.parametrize("names", [["notes.txt"], ["metrics.json", "report.html"], ["sub/x.npy"]])
def test_a_folder_that_is_not_a_whole_run(refused, contents, base, tmp_path, names, more):
    """Another's files, and a run that was cut off before its manifest was written."""
    for name in names:
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    said = refused(*base("encode"), *more)
    assert "no manifest.json" in said
    assert contents(tmp_path) == {f"out/{name}": b"mine" for name in names}


def test_folders_that_cannot_be_written(refused, base):
    assert "cannot be written" in refused(*base("encode", out="/proc/no/run"))
    assert "working folder" in refused(*base("encode", out="."))


def test_an_empty_folder_is_used(call, base, tmp_path):
    (tmp_path / "out").mkdir()
    assert call(*base("decode")).exit_code == 0
    assert (tmp_path / "out" / "manifest.json").is_file()


# ------------------------------------------------------------------------- recipes and settings


@pytest.mark.usefixtures("nothing_made")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("protocol.permutations", "Cannot set"),
        ("=3", "Cannot set"),
        ("protocol..seeds=3", "Cannot set"),
        ("features.4.kind=pixel-pca", "Cannot set"),
        ("protocol.seeds=[0", "not valid YAML"),
        ("protocol.nope=1", "there is no setting protocol.nope"),
        ("nope=1", "there is no setting nope"),
        ("protocol.permutations=-1", "protocol.permutations: Input should be greater"),
        ("protocol.permutations=many", "protocol.permutations: Input should be a valid integer"),
        ("protocol.seeds=[]", "protocol.seeds"),
        ("protocol.seeds=[-1]", "protocol.seeds.0"),
        ("protocol.ceiling=mine", "protocol.ceiling: Input should be 'auto', 'ncsnr', 'split-h"),
        ("protocol.zscore=nope", "nope"),
        ("features.0.kind=nope", "Unknown feature space 'nope': there are"),
        ("features.0.settings.nope=1", "pixel-pca has no setting 'nope'; it has n_components"),
        ("features.0.settings.n_components=0", "n_components must be from 1 to 29"),
        ("features.0.settings.n_components=30", "n_components must be from 1 to 29"),
        ("features.0.settings.n_components=few", "n_components cannot be 'few'"),
        ("features.0.settings.n_components=2.5", "n_components cannot be 2.5"),
        ("model.kind=nope", "Unknown model 'nope': there are"),
        ("model.cv=1", "Input should be greater than or equal to 2"),
        ("model.alphas.low=0", "model.alphas.low: Input should be greater"),
        ("model.alphas.high=.inf", "model.alphas.high: Input should be a finite number"),
        ("model.settings.fit_intercept=perhaps", "fit_intercept cannot be 'perhaps'"),
    ],
)
def test_settings(refused, base, change, expected):
    assert expected in refused(*base("encode"), "--set", change)


@pytest.mark.usefixtures("nothing_made")
@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("mask", "Write options as name=value"),
        ("=V1", "Write options as name=value"),
        ("mask=[", "not valid YAML"),
        ("nope=1", "no option 'nope'; it has betas, sessions, mask, rois"),
        ("root=/tmp", "'root' is not an option"),
        ("subject=3", "'subject' is not an option"),
        ("sessions=2", "The option sessions cannot be 2"),
        ("sessions=first", "The option sessions cannot be 'first'"),
        ("sessions=[1, x]", "The option sessions cannot be [1, 'x']"),
        ("sessions=[9]", "Sessions here: 1, 2, 3, 4, 5"),
        ("betas=3", "The option betas cannot be 3"),
        ("betas=nope", "betas_fithrf_GLMdenoise_RR"),
        ("mask=[V1]", "The option mask cannot be ['V1']"),
        ("rois=prf-visualrois", "The option rois cannot be 'prf-visualrois'"),
        ("rois=[nope]", "Unknown ROI file 'nope'"),
    ],
)
def test_options(refused, base, option, expected):
    assert expected in refused(*base("encode"), "--option", option)


def test_recipes(refused, nsd, recipes, tmp_path):
    def said(recipe, job="encode"):
        return refused(job, "nsd", "--root", nsd, "--recipe", recipe, "--out", tmp_path / "out")

    assert "Unknown recipe 'encode-enrgy'" in said("encode-enrgy")
    assert "Did you mean 'encode-energy'" in said("encode-enrgy")
    assert "The recipe file is missing: expected the file" in said(tmp_path / "no.yaml")
    assert "The recipe file is missing: expected the file" in said(tmp_path / "manifest.json")
    assert "is for decode; this is encode" in said(recipes["decode"])
    mine = tmp_path / "mine.yaml"
    for content, expected in [
        ("", "not a recipe"),
        ("- a", "not a recipe"),
        ("a: [", "cannot be read as a recipe"),
        ("job: encode", "Field required"),
        ("job: dance", "job"),
    ]:
        mine.write_text(content)
        assert expected in said(mine)
    mine.write_bytes(b"\xff\xfe\xff")
    assert "cannot be read as a recipe" in said(mine)
    manifest = tmp_path / "manifest.json"
    whole = yaml.safe_load(recipes["encode"].read_text())
    for content, expected in [
        ("{", "cannot be read"),
        (json.dumps({"recipe": {"encode": whole, "decode": {}}}), "does not hold one recipe"),
    ]:
        manifest.write_text(content)
        assert expected in said(manifest)
    assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------------------------- the root


def test_roots(refused, nsd, recipes, tmp_path, monkeypatch):
    monkeypatch.delenv("BRAINKIT_DATA", raising=False)
    arguments = ["encode", "nsd", "--recipe", recipes["encode"], "--out", tmp_path / "out"]
    assert "Give its folder with root= (--root), or set BRAINKIT_DATA" in refused(*arguments)
    assert "does not exist" in refused(*arguments, "--root", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no subjects" in refused(*arguments, "--root", tmp_path / "empty")
    monkeypatch.setenv("BRAINKIT_DATA", str(tmp_path))
    assert f"{tmp_path / 'nsd'} does not exist" in refused(*arguments)
    said = refused("encode", "digits69", "--root", tmp_path / "empty", "--out", tmp_path / "out")
    assert "69digits.mat" in said
    said = refused("encode", "nope", "--root", nsd)
    assert "Unknown dataset card 'nope': there are bold5000, digits69, haxby, nsd, rsa92." in said


def test_a_faulty_card(refused, tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text("name: x")
    assert "not a valid DatasetCard" in refused("encode", path, "--root", tmp_path)
    content = {**read_card("nsd").model_dump(mode="json"), "reader": "nope"}
    path.write_text(yaml.safe_dump(content))
    assert "names the reader 'nope'" in refused("encode", path, "--root", tmp_path)


# ------------------------------------------------------------------------- in words of options


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("zscore='day' names no column", "--set protocol.zscore=day names no column"),
        ("Choose ceiling=None, or 'auto'.", "Choose --ceiling none, or 'auto'."),
        ("(split='stretches:5')", "(--set protocol.split=stretches:5)"),
        ("resample='block:46'", "--set protocol.resample=block:46"),
        ("average_repeats=False", "--set protocol.average_repeats=false"),
        ("steps=40.", "--set protocol.steps=40."),
        ("size=64 and n=3", "size=64 and n=3"),  # no settings of a protocol
        ("xzscore=None", "xzscore=None"),
        ("as in protocol.permutations=20", "as in protocol.permutations=20"),
    ],
)
def test_settings_are_said_as_options(message, said):
    assert list(JOBS.values())  # settings are those of jobs that are loaded
    assert in_options(message) == said


def test_a_refused_setting_is_named_as_it_was_given(refused, base):
    said = refused(*base("encode"), "--set", "protocol.average_repeats=7")
    assert "protocol.average_repeats" in said
    said = refused(*base("encode"), "--set", "protocol.zscore=day")
    assert said.startswith("brainkit: --set protocol.zscore=day names no column")


def test_a_warning_is_a_sentence_too(capsys):
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("always")
        warnings.warn("Values stay\n as they are (zscore=None says so).", stacklevel=1)
        warnings.warn("for programmers", DeprecationWarning, stacklevel=1)
    ours, theirs, *_ = capsys.readouterr().err.splitlines()
    assert ours == (
        "brainkit: Warning: Values stay as they are (--set protocol.zscore=null says so)."
    )
    assert theirs.endswith("DeprecationWarning: for programmers")
