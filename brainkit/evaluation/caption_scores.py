"""Captions beside what people wrote: BLEU, ROUGE-L, CIDEr-D and METEOR, without Java.

Every image has one caption that was decoded and one or more references. All scores are of the
tokens that :func:`tokenise` gives, in lower case and without punctuation, after the rules that
COCO's evaluation takes from the Penn Treebank. Scores by other tokenisers, other references (COCO's
captions or those of a captioner) or other versions of METEOR do not compare, so that each score has
the name of its implementation.
"""

import math
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.files import is_file
from brainkit.errors import InputError, MissingFileError, listed, unknown_name
from brainkit.evaluation.intervals import Estimate, ItemScores, mean_score

Float = NDArray[np.float64]
Tokens = tuple[str, ...]
CaptionMetric = Literal[
    "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "meteor_exact_stem"
]
CAPTION_METRICS: tuple[CaptionMetric, ...] = (
    "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "meteor_exact_stem"
)  # fmt: skip

# What the names above stand for, for whoever states how a score was formed.
CAPTION_SETTINGS: dict[str, object] = {
    "tokens": "penn-treebank, as COCO's evaluation",
    "bleu": {"level": "set", "length": "nearest, shorter of two", "smoothing": 0},
    "rouge_l": {"beta": 1.2, "references": "largest precision and largest recall"},
    "cider_d": {"longest": 4, "sigma": 6.0, "frequencies": "references of the evaluated set"},
    "meteor_exact_stem": {"alpha": 0.9, "beta": 3.0, "gamma": 0.5, "stems": "porter-1980"},
}

# -- tokens ----------------------------------------------------------------------------------------

_CURLY = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-"})
_CONTRACTION = re.compile(r"(?<=\w)('(?:s|re|ve|ll|d|m))(?!\w)")
_NOT = re.compile(r"(?<=\w)n't(?!\w)")
_SPLIT_WORDS = {
    "cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na",
    "gimme": "gim me", "lemme": "lem me",
}  # fmt: skip
_SPLIT = re.compile(r"\b(" + "|".join(_SPLIT_WORDS) + r")\b")
_TOKEN = re.compile(
    r"n't|'(?:s|re|ve|ll|d|m)(?!\w)"  # what contractions were split into
    r"|[^\W\d_]\.(?:[^\W\d_]\.)+"  # u.s.
    r"|\d+(?:[.,:/]\d+)+"  # 3.5, 1,000, 10:30, 1/2
    r"|(?:mr|mrs|ms|dr|st|jr|sr|vs|etc)\."
    r"|\w+(?:[-'/]\w+)*"  # words, with what holds parts of one together
    r"|[^\w\s]"
)
_PUNCTUATION = set("'\"`.?!,:-;…")
# COCO's code means to drop brackets, and looks for their names in capitals after lowering them.
_BRACKETS = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"
}  # fmt: skip


def tokenise(text: str) -> Tokens:
    """Split a caption into words in lower case, without punctuation.

    The rules are those of the Penn Treebank as COCO's evaluation applies them: contractions are two
    tokens (``isn't``: ``is``, ``n't``; ``dog's``: ``dog``, ``'s``), words with a hyphen are one,
    numbers keep their separators, abbreviations their dots (single letters, titles, ``etc.``);
    quotes, full stops, commas, colons and dashes are dropped, and brackets become tokens such as
    ``-lrb-``. The Java tokeniser knows more abbreviations and rare forms (``rock 'n' roll``), by
    which few captions differ.

    Parameters
    ----------
    text : str
        A caption.

    Returns
    -------
    tuple of str
    """
    plain = text.translate(_CURLY).lower()
    plain = _NOT.sub(" n't", plain)
    plain = _CONTRACTION.sub(r" \1", plain)
    plain = _SPLIT.sub(lambda found: _SPLIT_WORDS[found[0]], plain)
    tokens = (token for token in _TOKEN.findall(plain) if token not in _PUNCTUATION)
    return tuple(_BRACKETS.get(token, token) for token in tokens)


def _ngrams(tokens: Tokens, n: int) -> Counter[Tokens]:
    return Counter(tokens[start : start + n] for start in range(len(tokens) - n + 1))


# -- BLEU ------------------------------------------------------------------------------------------


def bleu(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], n: int
) -> ItemScores:
    r"""Give BLEU-n of a set of captions (Papineni et al., 2002).

    .. math:: \min(1, e^{1 - r/c}) \Big(\prod_{k=1}^{n} p_k\Big)^{1/n}

    with p_k the share of all captions' k-grams that references have, each counted at most as often
    as in the reference that has it most often; c the length of all captions, and r the sum over
    captions of the reference length nearest to the caption's, the shorter of two as near.

    It is a score of the set, and no mean of scores of captions: the items' scores are each
    caption's own BLEU-n, the influences are those of leaving each image out of the set.

    Parameters
    ----------
    candidates : sequence of tuple of str
        Tokens of one caption an image.
    references : sequence of sequence of tuple of str
        Tokens of each image's references.
    n : int
        Longest n-gram, 1 to 4 as published.

    Returns
    -------
    ItemScores
        In [0, 1]; 0 where no n-gram of some length is right. Nothing is smoothed.
    """
    counts = np.array(
        [_bleu_counts(one, several, n) for one, several in zip(candidates, references, strict=True)]
    )  # (n_images, 2 + 2 n): lengths, right and all k-grams
    total = counts.sum(axis=0)
    value = float(_bleu_of(total[None])[0])
    n_items = len(counts)
    left_out = _bleu_of(total - counts)
    influence = np.zeros(n_items)
    if n_items > 1:
        influence = np.sqrt((n_items - 1) / n_items) * (left_out.mean() - left_out)
    estimate = Estimate(value, influence, n_items, n_items - 1, bounds=(0.0, 1.0))
    return ItemScores(_bleu_of(counts), estimate)


def _bleu_counts(candidate: Tokens, references: Sequence[Tokens], n: int) -> list[float]:
    length = len(candidate)
    nearest = min((abs(len(one) - length), len(one)) for one in references)[1]
    counts = [float(length), float(nearest)]
    for k in range(1, n + 1):
        most: Counter[Tokens] = Counter()
        for one in references:
            most |= _ngrams(one, k)
        here = _ngrams(candidate, k)
        counts += [float((here & most).total()), float(here.total())]
    return counts


def _bleu_of(counts: Float) -> Float:
    """Return BLEU of rows of counts: (n_rows, 2 + 2 n) → (n_rows,)."""
    length, nearest = counts[:, 0], counts[:, 1]
    right, every = counts[:, 2::2], counts[:, 3::2]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(every > 0, right / every, 0.0)
        brevity = np.where(length < nearest, np.exp(1.0 - nearest / length), 1.0)
        geometric = np.exp(np.log(precision).mean(axis=1))
    return np.where(length > 0, brevity * geometric, 0.0)


# -- ROUGE-L ---------------------------------------------------------------------------------------


def rouge_l(candidate: Tokens, references: Sequence[Tokens], beta: float = 1.2) -> float:
    """Give ROUGE-L of one caption (Lin, 2004), as COCO's evaluation takes it.

    (1 + β²) P R / (R + β² P), with P and R the longest common subsequence over the length of the
    caption and of the reference; of several references the largest P and the largest R.

    Parameters
    ----------
    candidate : tuple of str
        Tokens of the caption.
    references : sequence of tuple of str
        Tokens of its references.
    beta : float, default 1.2
        Weight of recall over precision.

    Returns
    -------
    float
        In [0, 1].
    """
    common = [_common_subsequence(candidate, one) for one in references]
    if not candidate or not any(common):
        return 0.0
    precision = max(common) / len(candidate)
    recall = max(shared / len(one) for shared, one in zip(common, references, strict=True) if one)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def _common_subsequence(first: Tokens, second: Tokens) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for token in first:
        diagonal = 0
        for place, other in enumerate(second, start=1):
            above = row[place]
            row[place] = diagonal + 1 if token == other else max(above, row[place - 1])
            diagonal = above
    return row[-1]


# -- CIDEr-D ---------------------------------------------------------------------------------------


def cider_d(
    candidates: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    *,
    longest: int = 4,
    sigma: float = 6.0,
) -> Float:
    r"""Give CIDEr-D of captions (Vedantam, Zitnick and Parikh, 2015), what tables call CIDEr.

    .. math:: \frac{10}{4 m} \sum_{n=1}^{4} \sum_{j=1}^{m} e^{-(l - l_j)^2 / 2 \sigma^2}
              \frac{\min(g^n, g_j^n) \cdot g_j^n}{\lVert g^n \rVert \lVert g_j^n \rVert}

    with g the counts of a text's n-grams times log(N / df), where df is the number of images, of
    the N that are evaluated, some reference of which has the n-gram, at least 1. The score of an
    image thus depends on which others are evaluated.

    Parameters
    ----------
    candidates : sequence of tuple of str
        Tokens of one caption an image; at least 2 images.
    references : sequence of sequence of tuple of str
        Tokens of each image's references.
    longest : int, default 4
        Longest n-gram.
    sigma : float, default 6
        Width of the penalty for another length.

    Returns
    -------
    numpy.ndarray of shape (n_images,)
        From 0; a caption equal to all its references has 10 where it has 4 tokens or more, and each
        of its n-grams tells images apart.

    Raises
    ------
    InputError
        If there are fewer than 2 images: no n-gram tells one image apart.
    """
    if len(candidates) < 2:
        raise InputError(
            f"CIDEr-D of {len(candidates)} images: n-grams weigh by how few images have them, "
            "which needs at least 2."
        )
    frequency: Counter[Tokens] = Counter()
    for several in references:
        frequency.update(
            {gram for one in several for n in range(1, longest + 1) for gram in _ngrams(one, n)}
        )
    weight = {gram: math.log(len(candidates) / count) for gram, count in frequency.items()}
    rarest = math.log(len(candidates))
    scores = np.zeros(len(candidates))
    for image, (candidate, several) in enumerate(zip(candidates, references, strict=True)):
        for one in several:
            penalty = math.exp(-((len(candidate) - len(one)) ** 2) / (2 * sigma**2))
            for n in range(1, longest + 1):
                ours, theirs = (
                    {gram: count * weight.get(gram, rarest) for gram, count in grams.items()}
                    for grams in (_ngrams(candidate, n), _ngrams(one, n))
                )
                lengths = math.hypot(*ours.values()) * math.hypot(*theirs.values())
                if lengths > 0:
                    shared = sum(
                        min(value, theirs[gram]) * theirs[gram]
                        for gram, value in ours.items()
                        if gram in theirs
                    )
                    scores[image] += penalty * shared / lengths
        scores[image] *= 10.0 / (longest * len(several))
    return scores


# -- METEOR ----------------------------------------------------------------------------------------


def meteor_exact_stem(
    candidate: Tokens,
    references: Sequence[Tokens],
    *,
    alpha: float = 0.9,
    beta: float = 3.0,
    gamma: float = 0.5,
) -> float:
    r"""Give METEOR of one caption by equal words and equal stems (Banerjee and Lavie, 2005).

    .. math:: \Big(1 - \gamma (\text{chunks} / m)^\beta\Big) \frac{P R}{\alpha P + (1 - \alpha) R}

    with m the words that are matched, first equal ones and then those of equal stem (Porter, 1980),
    the longest runs first, P and R their share of the caption and of the reference, and chunks the
    runs that are matched in one piece. Of several references the best counts.

    It knows neither synonyms nor paraphrases and weighs all words alike, so that it is *not* METEOR
    1.5, which published tables carry (:func:`meteor_java`), and gives higher numbers.

    Parameters
    ----------
    candidate : tuple of str
        Tokens of the caption.
    references : sequence of tuple of str
        Tokens of its references.
    alpha, beta, gamma : float
        Weight of recall, and exponent and size of the penalty for chunks; 0.9, 3 and 0.5.

    Returns
    -------
    float
        In [0, 1].
    """
    return max(_meteor(candidate, one, alpha, beta, gamma) for one in references)


def _meteor(first: Tokens, second: Tokens, alpha: float, beta: float, gamma: float) -> float:
    place: dict[int, int] = {}
    for one, two in ((first, second), (_stems(first), _stems(second))):
        _match_runs(one, two, place)
    if not place:
        return 0.0
    chunks = sum(place.get(at - 1, -2) + 1 != to for at, to in place.items())
    precision, recall = len(place) / len(first), len(place) / len(second)
    mean = precision * recall / (alpha * precision + (1 - alpha) * recall)
    return float((1 - gamma * (chunks / len(place)) ** beta) * mean)


def _match_runs(first: Tokens, second: Tokens, place: dict[int, int]) -> None:
    """Match tokens that are free, the longest run first and of those the first; fills `place`."""
    taken = set(place.values())
    while True:
        best = (0, 0, 0)
        for at in range(len(first)):
            for to in range(len(second)):
                length = 0
                while (
                    at + length < len(first)
                    and to + length < len(second)
                    and at + length not in place
                    and to + length not in taken
                    and first[at + length] == second[to + length]
                ):
                    length += 1
                if length > best[0]:
                    best = (length, at, to)
        length, at, to = best
        if not length:
            return
        for step in range(length):
            place[at + step] = to + step
            taken.add(to + step)


def _stems(tokens: Tokens) -> Tokens:
    return tuple(porter_stem(token) for token in tokens)


_VOWELS = "aeiou"
_STEP_2 = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"),
    ("abli", "able"), ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"),
    ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"), ("iveness", "ive"),
    ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"),
)  # fmt: skip
_STEP_3 = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""),
    ("ness", ""),
)  # fmt: skip
_STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize",
)  # fmt: skip


def porter_stem(word: str) -> str:
    """Take the endings off an English word, by the algorithm of Porter (1980).

    Parameters
    ----------
    word : str
        A word in lower case.

    Returns
    -------
    str
        Its stem; the word itself where it has fewer than three letters or others than a to z.
    """
    if len(word) < 3 or not re.fullmatch("[a-z]+", word):
        return word
    word = _inflection(word)
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    for endings in (_STEP_2, _STEP_3):
        found = _longest_ending(word, tuple(ending for ending, _ in endings))
        if found and _measure(word[: -len(found)]) > 0:
            word = word[: -len(found)] + dict(endings)[found]
    found = _longest_ending(word, _STEP_4)
    if found and _measure(word[: -len(found)]) > 1:
        stem = word[: -len(found)]
        word = stem if found != "ion" or stem[-1] in "st" else word
    if word.endswith("e"):
        stem = word[:-1]
        if _measure(stem) > 1 or (_measure(stem) == 1 and not _short_end(stem)):
            word = stem
    if word.endswith("ll") and _measure(word[:-1]) > 1:
        word = word[:-1]
    return word


def _inflection(word: str) -> str:
    """Take off plurals, -ed and -ing: step 1 but for its -y."""
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    ending = _longest_ending(word, ("ed", "ing"))
    if not ending or not _has_vowel(word[: -len(ending)]):
        return word
    stem = word[: -len(ending)]
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if len(stem) > 1 and stem[-1] == stem[-2] and _consonant(stem, len(stem) - 1):
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _short_end(stem) else stem


def _longest_ending(word: str, endings: Sequence[str]) -> str:
    return max((one for one in endings if word.endswith(one)), key=len, default="")


def _consonant(word: str, at: int) -> bool:
    if word[at] in _VOWELS:
        return False
    return word[at] != "y" or at == 0 or not _consonant(word, at - 1)


def _has_vowel(word: str) -> bool:
    return not all(_consonant(word, at) for at in range(len(word)))


def _measure(word: str) -> int:
    """Return how often a consonant follows a vowel."""
    kinds = [_consonant(word, at) for at in range(len(word))]
    return sum(not before and after for before, after in pairwise(kinds))


def _short_end(word: str) -> bool:
    """Tell whether a word ends in consonant, vowel, consonant, the last none of w, x and y."""
    if len(word) < 3 or word[-1] in "wxy":
        return False
    kinds = [_consonant(word, at) for at in range(len(word) - 3, len(word))]
    return kinds == [True, False, True]


# -- METEOR 1.5 and SPICE, which are programs in Java ----------------------------------------------

_GET = {
    "meteor-1.5.jar": "https://www.cs.cmu.edu/~alavie/METEOR/download/meteor-1.5.tar.gz",
    "spice-1.0.jar": "https://panderson.me/images/SPICE-1.0.zip",
}


def java_program(jar: str, folder: str | Path | None) -> list[str]:
    """Return the command that starts a scorer in Java.

    Parameters
    ----------
    jar : {"meteor-1.5.jar", "spice-1.0.jar"}
        Name of the program's file.
    folder : path, optional
        Where it lies.

    Raises
    ------
    UnknownNameError
        If it is none of the two.
    MissingFileError
        If there is no Java, or no such file; the message says how to get it.
    """
    if jar not in _GET:
        raise unknown_name("scorer in Java", jar, list(_GET))
    java = shutil.which("java")
    if java is None:
        raise MissingFileError(
            f"{jar} is a program in Java, and no `java` is on the PATH. Install a Java runtime "
            "(`apt-get install default-jre-headless`, `conda install -c conda-forge openjdk`), or "
            "score by 'meteor_exact_stem', which is another metric under another name."
        )
    where = "no folder was named" if folder is None else f"{folder} was searched"
    path = None if folder is None else Path(folder).expanduser() / jar
    if path is None or not is_file(path):
        archive = _GET[jar].rsplit("/", maxsplit=1)[1]
        unpack = "tar xf" if archive.endswith(".gz") else "unzip"
        raise MissingFileError(
            f"{jar} is missing: {where}. Get it with `curl -LO {_GET[jar]} && {unpack} {archive}`, "
            f"and name the unpacked folder that holds {jar}."
        )
    return [java, "-Xmx2G", "-jar", str(path)]


def meteor_java(
    candidates: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    folder: str | Path | None = None,
) -> Float:
    """Give METEOR 1.5 of captions by its own program (Denkowski and Lavie, 2014).

    Parameters
    ----------
    candidates : sequence of tuple of str
        Tokens of one caption an image.
    references : sequence of sequence of tuple of str
        Tokens of each image's references.
    folder : path, optional
        Where ``meteor-1.5.jar`` lies, with its ``data`` beside it.

    Returns
    -------
    numpy.ndarray of shape (n_images,)
        Scores of the images, in [0, 1]. The program's own score of a set pools their counts and
        is not quite their mean.

    Raises
    ------
    MissingFileError
        If there is no Java or no program.
    InputError
        If the program fails; the message has its last words.
    """
    command = java_program("meteor-1.5.jar", folder)
    most = max(len(several) for several in references)
    with tempfile.TemporaryDirectory() as place:
        test, truth = Path(place) / "captions.txt", Path(place) / "references.txt"
        test.write_text("".join(" ".join(one) + "\n" for one in candidates), encoding="utf-8")
        # It wants as many references for each; a repeated one changes no maximum.
        lines = [
            " ".join(several[min(number, len(several) - 1)]) + "\n"
            for several in references
            for number in range(most)
        ]
        truth.write_text("".join(lines), encoding="utf-8")
        options = ["-l", "en", "-norm", "-r", str(most)]
        done = subprocess.run(
            [*command, str(test), str(truth), *options], capture_output=True, text=True, check=False
        )
    scores = re.findall(r"^Segment \d+ score:\s+(\S+)", done.stdout, flags=re.MULTILINE)
    if done.returncode or len(scores) != len(candidates):
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["nothing"]
        raise InputError(
            f"METEOR gave {len(scores)} scores for {len(candidates)} captions and said: {said[0]}"
        )
    return np.array([float(score) for score in scores])


# -- all of them by image --------------------------------------------------------------------------


@dataclass(frozen=True)
class CaptionScores:
    """Scores of captions by metric.

    Attributes
    ----------
    scores : dict of str to ItemScores
        By the names of `CAPTION_METRICS`; items in the order of `images`.
    images : tuple of str
        Ids of the images that are scored.
    left_out : tuple of str
        Ids of those that lack a caption, where these were to be left out.
    """

    scores: dict[str, ItemScores]
    images: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def score_captions(
    captions: Mapping[str, str | None],
    references: Mapping[str, Sequence[str]],
    metrics: Sequence[CaptionMetric] = CAPTION_METRICS,
    *,
    missing: Literal["raise", "leave_out"] = "raise",
) -> CaptionScores:
    """Score one caption an image against the image's references.

    Parameters
    ----------
    captions : mapping of str to str
        Decoded caption by image id; None where there is none.
    references : mapping of str to sequence of str
        What people wrote of each image, by image id. These are the images that are evaluated.
    metrics : sequence of str
        Names out of `CAPTION_METRICS`; all by default.
    missing : {"raise", "leave_out"}, default "raise"
        What to do about images without a caption.

    Returns
    -------
    CaptionScores
        BLEU is a score of the set; the others are means over images.

    Raises
    ------
    UnknownNameError
        If there is no such metric.
    InputError
        If an image has a caption and no reference, or lacks a caption and may not be left out; the
        message has the ids.
    """
    for metric in metrics:
        if metric not in CAPTION_METRICS:
            raise unknown_name("caption metric", metric, CAPTION_METRICS)
    if missing not in ("raise", "leave_out"):
        raise unknown_name("way with missing captions", missing, ("raise", "leave_out"))
    bare = [name for name in captions if not references.get(name)]
    bare += [name for name, several in references.items() if not several and name not in captions]
    if bare:
        raise InputError(
            f"{len(bare)} images have no reference: {listed(bare)}. Give each at least one, or "
            "leave their captions out."
        )
    lacking = tuple(name for name in references if captions.get(name) is None)
    if lacking and missing == "raise":
        raise InputError(
            f"{len(lacking)} of {len(references)} images have no caption: {listed(lacking)}. A "
            "score of the others is one of an easier set; give their captions (an empty one "
            "scores 0), or leave them out with missing='leave_out', which counts them."
        )
    images = tuple(name for name in references if name not in lacking)
    if len(images) < 2:
        raise InputError(f"{len(images)} images have captions: scores need at least 2.")
    ours = [tokenise(str(captions[name])) for name in images]
    theirs = [[tokenise(text) for text in references[name]] for name in images]
    scores = {str(metric): _scored(metric, ours, theirs) for metric in metrics}
    return CaptionScores(scores, images, lacking)


def _scored(
    metric: CaptionMetric, ours: Sequence[Tokens], theirs: Sequence[Sequence[Tokens]]
) -> ItemScores:
    if metric.startswith("bleu_"):
        return bleu(ours, theirs, int(metric[-1]))
    if metric == "cider_d":
        return mean_score(cider_d(ours, theirs))
    score = rouge_l if metric == "rouge_l" else meteor_exact_stem
    pairs = zip(ours, theirs, strict=True)
    return mean_score([score(one, several) for one, several in pairs], bounds=(0.0, 1.0))
