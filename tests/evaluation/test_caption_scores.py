"""Scores of captions: cases worked by hand from the published definitions."""

import math
import shutil
from inspect import Parameter, signature

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainkit.errors import InputError, MissingFileError, UnknownNameError
from brainkit.evaluation import CAPTION_METRICS, score_captions, tokenise
from brainkit.evaluation.caption_scores import (
    CAPTION_SETTINGS,
    bleu,
    cider_d,
    java_program,
    meteor_exact_stem,
    meteor_java,
    porter_stem,
    rouge_l,
)

words = st.lists(st.sampled_from("abcde"), min_size=1, max_size=7).map(tuple)


def split(*texts):
    return [tuple(text.lower().split()) for text in texts]


# -- tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A man riding a wave on top of a surfboard.", "a man riding a wave on top of a surfboard"),
        ("The dog's ball isn't there!", "the dog 's ball is n't there"),
        ("they're, we'll; I'd -- you've", "they 're we 'll i 'd you 've"),
        ("A close-up (of a cat): 'meow'...", "a close-up -lrb- of a cat -rrb- meow"),
        ("3.5 cakes, 1,000 people at 10:30", "3.5 cakes 1,000 people at 10:30"),
        ("in the U.S. it cannot be", "in the u.s. it can not be"),
        ("the dogs’ “bowl”", "the dogs bowl"),
        ("black & white 2nd floor", "black & white 2nd floor"),
        ("five o'clock", "five o'clock"),
        ("Mr. Smith's b&w photo, etc.", "mr. smith 's b & w photo etc."),
        ("a t-shirt/jacket 50% off $5 #1", "a t-shirt/jacket 50 % off $ 5 # 1"),
        ("a man w/ hat [red]", "a man w / hat -lsb- red -rsb-"),
        ("  ", ""),
    ],
)
def test_tokens(text, tokens):
    assert tokenise(text) == tuple(tokens.split())


# -- BLEU ------------------------------------------------------------------------------------------


def test_bleu_of_the_papers_examples():
    (repeated,) = split("the the the the the the the")
    references = [split("the cat is on the mat", "there is a cat on the mat")]
    assert bleu([repeated], references, 1).estimate.value == pytest.approx(2 / 7)
    assert bleu([repeated], references, 2).estimate.value == 0
    (candidate,) = split(
        "It is a guide to action which ensures that the military always obeys the commands of the "
        "party"
    )
    references = split(
        "It is a guide to action that ensures that the military will forever heed Party commands",
        "It is the guiding principle which guarantees the military forces always being under the "
        "command of the Party",
        "It is the practical guide for the army always to heed the directions of the party",
    )
    precision = [17 / 18, 10 / 17, 7 / 16, 4 / 15]
    for n in range(1, 5):
        expected = math.prod(precision[:n]) ** (1 / n)
        found = bleu([candidate], [references], n)
        assert found.estimate.value == pytest.approx(expected)
        assert found.scores == pytest.approx([expected])


def test_bleu_is_of_the_set_and_shortness_costs():
    candidates = split("a b c", "a b x y z")
    # The nearest reference length; of 4 and 6, as near to 5, the shorter.
    references = [split("a b c d e"), split("a b c d", "a b c d e f")]
    # Unigrams 3/3 and 2/5; lengths 3 + 5 = 8 against 5 + 4 = 9.
    expected = math.exp(1 - 9 / 8) * 5 / 8
    assert bleu(candidates, references, 1).estimate.value == pytest.approx(expected)
    # Bigrams 2/2 and 1/4.
    expected = math.exp(1 - 9 / 8) * math.sqrt(5 / 8 * 3 / 6)
    assert bleu(candidates, references, 2).estimate.value == pytest.approx(expected)


@given(st.lists(st.tuples(words, words, words), min_size=3, max_size=6))
def test_influences_on_bleu_are_those_of_leaving_an_image_out(triples):
    candidates = [one for one, *_ in triples]
    references = [several for _, *several in triples]
    found = bleu(candidates, references, 2).estimate
    without = np.array([
        bleu(candidates[:i] + candidates[i + 1 :], references[:i] + references[i + 1 :], 2)
        .estimate.value
        for i in range(len(triples))
    ])  # fmt: skip
    n = len(triples)
    np.testing.assert_allclose(
        found.influence, np.sqrt((n - 1) / n) * (without.mean() - without), atol=1e-12
    )


# -- ROUGE-L ---------------------------------------------------------------------------------------


def test_rouge_l_of_the_papers_examples():
    reference, second, third = split(
        "police killed the gunman", "police kill the gunman", "the gunman kill police"
    )
    assert rouge_l(second, [reference]) == pytest.approx(3 / 4)
    assert rouge_l(third, [reference]) == pytest.approx(1 / 2)


def test_rouge_l_takes_recall_for_more_and_the_best_of_references():
    # LCS 2; P = 1, R = 1/2; (1 + 1.44) 1/2 / (1/2 + 1.44).
    assert rouge_l(("a", "b"), split("a x b y")) == pytest.approx(2.44 * 0.5 / 1.94)
    # The largest P comes from one reference, the largest R from another.
    assert rouge_l(tuple("abcd"), [tuple("abcdefgh"), tuple("ab")]) == pytest.approx(1)
    assert rouge_l((), [tuple("ab")]) == rouge_l(tuple("xy"), [tuple("ab")]) == 0


# -- CIDEr-D ---------------------------------------------------------------------------------------


def test_cider_d_by_hand():
    references = [split("a b"), split("a c")]
    # Both images have "a", which weighs log(2/2) = 0; all else weighs log 2.
    assert cider_d(split("a b", "a b"), references) == pytest.approx([10 / 4 * 2, 0])
    # Of "b b" one b counts: 1 · 1 over 2 · 1; its bigram is wrong.
    assert cider_d(split("b b", "a c"), references) == pytest.approx([10 / 4 / 2, 5])
    # Two tokens too long: b over the length of (1, 2), "a b" over that of three bigrams.
    expected = 10 / 4 * math.exp(-4 / 72) * (1 / math.sqrt(5) + 1 / math.sqrt(3))
    assert cider_d(split("a b z z", "a c"), references)[0] == pytest.approx(expected)
    # A mean over references.
    several = [split("a b", "z z"), split("a c")]
    assert cider_d(split("a b", "a c"), several)[0] == pytest.approx(10 / 4 * 2 / 2)
    whole = split("w x y z", "a c d e")
    assert cider_d(whole, [[one] for one in whole]) == pytest.approx([10, 10])
    with pytest.raises(InputError, match="at least 2"):
        cider_d(split("a b"), references[:1])


# -- METEOR ----------------------------------------------------------------------------------------


def test_meteor_by_hand():
    (reference,) = split("the cat sat on the mat")
    assert meteor_exact_stem(reference, [reference]) == pytest.approx(1 - 0.5 / 6**3)
    # "on the mat", "sat" and "the cat" are three chunks of six words.
    (moved,) = split("on the mat sat the cat")
    assert meteor_exact_stem(moved, [reference]) == pytest.approx(1 - 0.5 * (3 / 6) ** 3)
    # P = 1, R = 1/2; one chunk of two.
    expected = (1 - 0.5 / 8) * 0.5 / (0.9 + 0.1 * 0.5)
    assert meteor_exact_stem(("the", "cat"), split("the cat sat on")) == pytest.approx(expected)
    # Stems; and the best of several references.
    found = meteor_exact_stem(("cats", "running"), split("dog", "cat runs"))
    assert found == pytest.approx(1 - 0.5 / 8)
    assert meteor_exact_stem(("dog",), split("cat")) == meteor_exact_stem((), split("cat")) == 0


def test_equal_words_are_matched_before_stems():
    # "run" stands for itself, so that "runs" is left for "running".
    found = meteor_exact_stem(("run", "runs"), [("running", "run")])
    assert found == pytest.approx(1 - 0.5 * (2 / 2) ** 3)


@pytest.mark.parametrize(
    "pairs",
    [
        "caresses caress ponies poni ties ti cats cat feed feed agreed agre plastered plaster",
        "bled bled motoring motor sing sing conflated conflat troubled troubl sized size",
        "hopping hop tanned tan falling fall hissing hiss fizzed fizz failing fail filing file",
        "happy happi sky sky relational relat conditional condit rational ration valenci valenc",
        "digitizer digit conformabli conform radicalli radic vileli vile analogousli analog",
        "vietnamization vietnam predication predic operator oper feudalism feudal",
        "decisiveness decis hopefulness hope callousness callous formaliti formal",
        "sensitiviti sensit sensibiliti sensibl triplicate triplic formative form",
        "electriciti electr electrical electr goodness good revival reviv allowance allow",
        "inference infer airliner airlin gyroscopic gyroscop adjustable adjust irritant irrit",
        "replacement replac dependent depend adoption adopt communism commun activate activ",
        "angulariti angular effective effect bowdlerize bowdler probate probat rate rate",
        "cease ceas controll control roll roll is is 2nd 2nd n't n't",
    ],
)
def test_stems_of_porters_paper(pairs):
    listing = pairs.split()
    assert [porter_stem(word) for word in listing[::2]] == listing[1::2]


# -- Java ------------------------------------------------------------------------------------------


def test_without_java_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingFileError, match="apt-get install default-jre-headless"):
        java_program("spice-1.0.jar", tmp_path)


def test_without_the_program_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "java").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingFileError, match=r"no folder was named. Get it with `curl -LO http"):
        java_program("meteor-1.5.jar", None)
    with pytest.raises(MissingFileError, match=rf"{tmp_path} was searched.*unzip SPICE-1.0.zip"):
        java_program("spice-1.0.jar", tmp_path)
    with pytest.raises(UnknownNameError, match=r"spice-1\.0\.jar"):
        java_program("rouge.jar", tmp_path)


@pytest.mark.skipif(shutil.which("java") is None, reason="needs a Java runtime")
def test_a_program_that_fails_is_quoted(tmp_path):
    (tmp_path / "meteor-1.5.jar").write_text("no archive")
    with pytest.raises(InputError, match="METEOR gave 0 scores for 1 captions and said: "):
        meteor_java(split("a b"), [split("a b")], tmp_path)


# -- all of them -----------------------------------------------------------------------------------

CAPTIONS = {"x": "A cat sat.", "y": "Two dogs run.", "z": ""}
REFERENCES = {"x": ["a cat sits", "the cat sat down"], "y": ["two dogs ran"], "z": ["a bus"]}


def test_all_scores_by_image():
    found = score_captions(CAPTIONS, REFERENCES)
    assert set(found.scores) == set(CAPTION_METRICS)
    assert found.images == ("x", "y", "z")
    tokens = [tokenise(text) for text in CAPTIONS.values()]
    several = [[tokenise(text) for text in texts] for texts in REFERENCES.values()]
    np.testing.assert_allclose(found.scores["cider_d"].scores, cider_d(tokens, several))
    expected = [rouge_l(*pair) for pair in zip(tokens, several, strict=True)]
    np.testing.assert_allclose(found.scores["rouge_l"].scores, expected)
    assert found.scores["rouge_l"].estimate.value == pytest.approx(np.mean(expected))
    for one in found.scores.values():
        assert one.scores[2] == 0  # an empty caption is scored, and is worth nothing


def test_figures_of_cocos_own_code():
    """Figures of pycocoevalcap 1.2 with its Java tokeniser; its BLEU is smoothed by 1e-9."""
    references = {
        "surf": [
            "A man riding a wave on top of a surfboard.",
            "A surfer rides a large wave.",
            "The man's surfboard isn't visible.",
        ],
        "cats": ["Two cats sleep on a pink couch.", "A couple of cats laying on top of a couch"],
        "bus": [
            "A red double-decker bus on the street (at night).",
            "The bus drives down a city street, past shops.",
        ],
        "food": [
            "A plate of food with broccoli and rice",
            "Broccoli, rice & chicken on a white plate.",
        ],
    }
    captions = {
        "surf": "a man riding a surfboard on a wave",
        "cats": "a cat laying on a couch",
        "bus": "a red bus driving down a street at night",
        "food": "a white plate with a pizza",
    }
    found = score_captions(captions, references).scores
    figures = (0.7724349221, 0.6122896949, 0.3683733234, 0.2288843311)
    for n, figure in enumerate(figures, start=1):
        assert found[f"bleu_{n}"].estimate.value == pytest.approx(figure, abs=1e-8)
    figures = [0.65357143, 0.59803922, 0.58937198, 0.41780822]
    np.testing.assert_allclose(found["rouge_l"].scores, figures, atol=1e-8)
    figures = [2.28703463, 1.30689476, 1.72504506, 1.62815514]
    np.testing.assert_allclose(found["cider_d"].scores, figures, atol=1e-8)


def test_missing_captions_are_named_or_counted():
    captions = {"x": CAPTIONS["x"], "y": CAPTIONS["y"], "z": None}
    with pytest.raises(InputError, match="1 of 3 images have no caption: z"):
        score_captions(captions, REFERENCES)
    del captions["z"]
    with pytest.raises(InputError, match="1 of 3 images have no caption: z"):
        score_captions(captions, REFERENCES)
    found = score_captions(captions, REFERENCES, missing="leave_out")
    assert (found.images, found.left_out) == (("x", "y"), ("z",))
    with pytest.raises(InputError, match="1 images have captions"):
        score_captions({"x": "a cat"}, REFERENCES, missing="leave_out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": {"x": ["a"], "y": ["b"]}}, "1 images have no reference: z"),
        ({"references": REFERENCES | {"w": []}}, "1 images have no reference: w"),
        ({"metrics": ["bleu"]}, "bleu_1"),
        ({"missing": "ignore"}, "leave_out"),
    ],
)
def test_bad_captions(change, message):
    arguments = {"captions": CAPTIONS, "references": REFERENCES} | change
    with pytest.raises(InputError, match=message):
        score_captions(**arguments)


def test_what_presets_state_of_captions_is_what_is_done():
    for score in (rouge_l, cider_d, meteor_exact_stem):
        stated = CAPTION_SETTINGS[score.__name__]
        defaults = {name: one.default for name, one in signature(score).parameters.items()}
        for name, value in defaults.items():
            if value is not Parameter.empty:
                assert stated[name] == value
