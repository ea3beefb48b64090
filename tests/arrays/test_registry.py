"""Registries: parts of brainkit and of other packages, and packages that are broken or clash."""

import sys

import pytest
from typer.testing import CliRunner

import brainkit.arrays.registry as module
from brainkit.arrays.persistence import load_estimator, save_estimator
from brainkit.arrays.registry import Registry, part_packages
from brainkit.cli.app import app
from brainkit.data.cards import READERS, card_names, read_card, subjects
from brainkit.errors import InputError, PartError, UnknownNameError
from brainkit.evaluation.metrics import METRICS, metric_entry, metric_of
from brainkit.recipes.reading import recipe_content
from brainkit.recipes.specs import FEATURES, MODELS, ModelSpec, build_model

ESTIMATOR = """
from sklearn.base import BaseEstimator

class Mine(BaseEstimator):
    def fit(self, X, Y):
        return self

    def predict(self, X):
        return X
"""


@pytest.fixture(autouse=True)
def _no_package_of_another_test():
    """Other tests write packages of the same name."""
    sys.modules.pop("theirs", None)
    yield
    sys.modules.pop("theirs", None)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a package where Python finds it: its module's text and its entry points."""

    def install(name, text, **parts):
        folder = tmp_path / name
        about = folder / f"{name}-1.0.dist-info"
        about.mkdir(parents=True)
        (folder / f"{name}.py").write_text(text)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{part.replace('__', '.')} = {place}" for part, place in parts.items()]
        (about / "entry_points.txt").write_text("\n".join(["[brainkit.parts]", *lines, ""]))
        monkeypatch.syspath_prepend(folder)
        return folder

    yield install
    for name, one in list(sys.modules.items()):
        if str(getattr(one, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def command(*arguments):
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_what_brainkit_has_is_imported_when_it_is_asked_for():
    parts = Registry("thing", "thing", {"a": "json:loads", "b": "json.tool", "c": len})
    assert list(parts) == ["a", "b", "c"]
    assert parts["a"]("[1]") == [1]
    assert parts["b"].__name__ == "json.tool"
    assert parts["c"] is len
    assert parts.owners("a") == ["brainkit"]
    with pytest.raises(UnknownNameError, match=r"Unknown thing 'd': there are a, b, c"):
        parts["d"]


def test_nothing_is_imported_before_it_is_asked_for(install):
    install("theirs", ESTIMATOR, model__mine="theirs:Mine", feature__mine="theirs:Mine")
    assert list(MODELS)[-1] == "mine"
    assert "mine" in MODELS
    assert "theirs" not in sys.modules
    assert MODELS["mine"].__name__ == "Mine"
    assert part_packages()["theirs"] == "1.0"
    with pytest.raises(PartError, match=r"feature space 'mine', is none: it has no transform"):
        FEATURES["mine"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = (", "SyntaxError"),
        ("y = 1", "AttributeError"),
        ("import sys\nsys.exit('no GPU')", "SystemExit: no GPU"),
    ],
)
def test_a_broken_package_is_named_and_the_rest_works(install, text, reason):
    install("broken", text, model__bad="broken:Bad", job__bad="broken:Bad", metric__bad="broken:x")
    install("theirs", ESTIMATOR, model__mine="theirs:Mine")
    with pytest.raises(PartError, match=r"'model\.bad' of the package broken 1\.0 cannot") as told:
        build_model(ModelSpec(kind="bad"))
    assert reason in str(told.value)
    assert "from 'broken:Bad'" in str(told.value)
    assert build_model(ModelSpec(kind="mine")).fit([], []).predict(3) == 3
    assert metric_of("encoding_r").chance == 0
    assert list(READERS)
    code, listed, _ = command("--help")
    assert code == 0
    assert "Of broken 1.0" in " ".join(listed.split())
    code, _, said = command("bad", "nsd")
    assert code == 2
    assert said.startswith("brainkit: 'job.bad' of the package broken 1.0 cannot be imported")
    code, listed, _ = command("parts", "model")
    assert code == 0
    (line,) = [line for line in listed.splitlines() if line.split()[1] == "bad"]
    assert "broken 1.0  Cannot be used: 'model.bad' of the package broken 1.0" in line
    assert [line.split()[2:] for line in listed.splitlines() if " mine " in line] == [
        ["theirs", "1.0"]
    ]


def test_a_name_of_brainkit_is_not_taken(install):
    install("theirs", ESTIMATOR, **{"model__voxelwise-ridge": "theirs:Mine"})
    with pytest.raises(
        PartError, match=r"model 'voxelwise-ridge' is registered 2 times, by brainkit, theirs 1\.0"
    ):
        build_model(ModelSpec(kind="voxelwise-ridge"))
    assert "theirs" not in sys.modules
    build_model(ModelSpec(kind="banded-ridge"))


def test_two_packages_of_one_name_are_both_named(install):
    install("theirs", ESTIMATOR, model__mine="theirs:Mine", model__other="theirs:Mine")
    install("ours", ESTIMATOR, model__mine="ours:Mine")
    with pytest.raises(PartError, match=r"registered 2 times, by ours 1\.0, theirs 1\.0: unin"):
        MODELS["mine"]
    assert MODELS["other"].__module__ == "theirs"
    _, listed, _ = command("parts", "model")
    (line,) = [line for line in listed.splitlines() if line.split()[1] == "mine"]
    assert "ours 1.0, theirs 1.0  Cannot be used: The model 'mine' is registered 2 times" in line


def test_a_metric_of_another_package(install):
    text = (
        "from brainkit.evaluation.metrics import Metric\n"
        "TOP = Metric(r'theirs_top\\d+', 'rank/{n}', '1/n')\n"
    )
    install("theirs", text, **{r"metric__theirs_top\d+": "theirs:TOP", "metric__(": "theirs:TOP"})
    entry = metric_entry("theirs_top5[judge]", 0.4, n_candidates=4)
    assert (entry["chance"], entry["preset"]) == (0.25, "rank/4")
    assert r"theirs_top\d+" not in METRICS.builtin
    with pytest.raises(UnknownNameError, match="theirs_topmost"):
        metric_of("theirs_topmost")


CARD = """
name: {name}
title: Theirs
reader: {reader}
modality: none
licence: {{name: CC0-1.0}}
citation: None.
access: Ask.
"""


def test_cards_and_recipes_of_another_package(install, tmp_path):
    text = (
        "from pathlib import Path\n"
        "HERE = Path(__file__).parent\n"
        "CARD, OTHER = HERE / 'card.yaml', HERE / 'other.yaml'\n"
        "RECIPE, GONE = HERE / 'recipe.yaml', HERE / 'gone.yaml'\n"
    )
    folder = install(
        "theirs",
        text,
        **{
            "card__their-set": "theirs:CARD",
            "card__misnamed": "theirs:OTHER",
            "card__gone": "theirs:GONE",
            "card__no-path": "theirs:Path",
            "recipe__their-recipe": "theirs:RECIPE",
            "recipe__encode-energy": "theirs:RECIPE",
        },
    )
    (folder / "card.yaml").write_text(CARD.format(name="their-set", reader="no-reader"))
    (folder / "other.yaml").write_text(CARD.format(name="another", reader="nsd"))
    (folder / "recipe.yaml").write_text("{name: their-recipe, job: encode}")
    assert {"their-set", "misnamed", "gone"} < set(card_names())
    card = read_card("their-set")
    assert card.title == "Theirs"
    assert recipe_content("their-recipe") == {"name": "their-recipe", "job": "encode"}
    with pytest.raises(PartError, match="by brainkit, theirs"):
        recipe_content("encode-energy")
    with pytest.raises(InputError, match="dataset card 'misnamed', but its name is 'another'"):
        read_card("misnamed")
    with pytest.raises(PartError, match=r"card 'gone', must be the path of a YAML file; it is"):
        read_card("gone")
    with pytest.raises(PartError, match=r"'theirs:Path'.* must be the path"):
        read_card("no-path")
    with pytest.raises(InputError, match="reader 'no-reader', which neither brainkit nor an"):
        subjects(card, tmp_path)
    code, listed, said = command("datasets")
    assert code == 0
    assert "their-set" in listed
    assert "nsd" in listed
    assert "'gone'" in said
    assert command("datasets", "gone")[0] == 2


def test_a_reader_without_a_loader(install, tmp_path):
    text = "OPTIONS = ()\ndef subjects(root):\n    return ['a']\n"
    folder = install("theirs", text, dataset__theirs="theirs")
    (folder / "mine.yaml").write_text(CARD.format(name="mine", reader="theirs"))
    with pytest.raises(PartError, match=r"reader 'theirs' of theirs 1\.0 has none of load, load_"):
        subjects(read_card(folder / "mine.yaml"), tmp_path)


def test_a_command_of_brainkit_is_not_taken_by_a_job(install):
    install("theirs", "class Job:\n    name = schema = run = None\n", job__datasets="theirs:Job")
    code, listed, _ = command("datasets")
    assert code == 0
    assert "digits69" in listed
    assert "theirs" not in sys.modules
    _, listed, _ = command("parts", "job")
    assert "Cannot be used: brainkit has a command 'datasets'; rename the job" in listed


def test_entry_points_of_no_kind_are_told(install):
    install("theirs", ESTIMATOR, modle__mine="theirs:Mine", model="theirs:Mine")
    _, listed, _ = command("parts")
    problems = [line for line in listed.splitlines() if "theirs 1.0" in line]
    assert len(problems) == 2
    assert all("named KIND.NAME, where KIND is one of dataset, feature" in one for one in problems)
    code, _, said = command("parts", "modle")
    assert code == 2
    assert "Did you mean 'model'?" in said


def test_an_estimator_is_saved_by_where_it_is_registered(install, tmp_path, monkeypatch):
    folder = install("theirs", "from theirs_inner import Mine\n", model__mine="theirs:Mine")
    (folder / "theirs_inner.py").write_text(ESTIMATOR)
    model = build_model(ModelSpec(kind="mine"))
    saved = save_estimator(model, tmp_path / "saved")
    assert '"theirs:Mine"' in (saved / "estimator.json").read_text()
    assert type(load_estimator(saved)) is type(model)
    # The package breaks after the estimator was saved: its name and the reason are told.
    (folder / "theirs.py").write_text("raise RuntimeError('broken since')\n")
    monkeypatch.delitem(sys.modules, "theirs")
    with pytest.raises(PartError, match=r"theirs 1\.0 cannot be imported .* broken since"):
        load_estimator(saved)


def test_entry_points_are_looked_up_once_for_a_path(install, monkeypatch):
    install("theirs", ESTIMATOR, model__mine="theirs:Mine")
    asked = []
    original = module.entry_points
    monkeypatch.setattr(module, "entry_points", lambda **a: asked.append(a) or original(**a))
    assert len(list(MODELS)) == len(MODELS)
    assert "mine" in MODELS
    assert len(asked) == 1
