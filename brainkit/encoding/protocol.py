"""How an encoder is judged, and a recording prepared for it."""

from dataclasses import dataclass

from brainkit.arrays.array_likes import whole_number
from brainkit.data.dependence import Rows
from brainkit.data.preparing import AverageRepeats, Prepared, prepare_split
from brainkit.data.recording import Recording
from brainkit.data.splits import SplitLike, kept_split
from brainkit.errors import InputError


@dataclass(frozen=True)
class EncodingProtocol:
    """How an encoder is judged.

    Parameters
    ----------
    split : str, splitter, list of (train, test), or Split
        See `Recording.split`.
    seeds : tuple of int
        Seeds of the folds; scores are averaged over them.
    zscore : str or None
        Column whose groups are z-scored with training statistics, usually "session"; values stay
        as they are where the trials name no sessions.
    unseen : {None, "session-unlabelled"}
        See `Recording.zscore`.
    average_repeats : bool or "test"
        Average the trials of each stimulus within each part, or within the test part alone.
    ceiling : {"auto", "ncsnr", "split-half", "cross-subject", "cross-subject-all", None}
        Noise ceiling, see `brainkit.encoding.ceilings`; None for none. "auto" is NSD's where enough
        stimuli were shown three times, that of split halves where they were shown twice, else none.
    permutations : int
        Null runs for p values, which are those of the first fold seed's scores. With several folds
        the whole pipeline is fitted again on exchanged stimuli; with one fold the stimuli of the
        fixed predictions are exchanged.
    shuffles : int
        Null refits on exchanged stimuli, beside every score.
    n_train : int, optional
        Training stimuli to learn from, drawn by the seed of the folds; all where not given.
    pattern_scores : bool
        Score the pattern over each region's units too, by 2V2 and pattern correlation (see
        `brainkit.encoding.patterns`).
    resample : str
        What is independent, for p values, intervals and inner folds; see
        `brainkit.data.dependence.dependence`.
    """

    split: SplitLike
    seeds: tuple[int, ...] = (0,)
    zscore: str | None = "session"
    unseen: str | None = None
    average_repeats: AverageRepeats = True
    ceiling: str | None = "auto"
    permutations: int = 200
    shuffles: int = 3
    n_train: int | None = None
    pattern_scores: bool = False
    resample: str = "auto"

    def __post_init__(self) -> None:
        for name in ("permutations", "shuffles"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name))
        if not self.seeds or self.shuffles < 1 or self.permutations < 0:
            raise InputError(
                "An encoder is judged with at least one seed and one shuffle, and 0 or more "
                f"permutations; got seeds={self.seeds}, shuffles={self.shuffles}, "
                f"permutations={self.permutations}."
            )
        object.__setattr__(self, "split", kept_split(self.split))


def prepare_folds(
    recording: Recording,
    protocol: EncodingProtocol,
    *,
    seed: int = 0,
    rows: Rows | None = None,
) -> list[Prepared]:
    """Split, z-score, average and read a recording by a protocol.

    Parameters
    ----------
    recording : Recording
    protocol : EncodingProtocol
        Its `zscore` is a column that there is, see `brainkit.data.preparing.zscore_column`.
    seed : int, default=0
        Of the split.
    rows : Rows, optional
        See `brainkit.data.preparing.prepare`.
    """
    return prepare_split(
        recording,
        protocol.split,
        seed=seed,
        zscore=protocol.zscore,
        unseen=protocol.unseen,
        average_repeats=protocol.average_repeats,
        n_train=protocol.n_train,
        rows=rows,
    )
