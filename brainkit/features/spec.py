"""The names of models and layers: what a string such as ``open_clip:tiny@blocks.2`` means.

The grammar is ``SOURCE:NAME[/WEIGHTS][@LAYER[,LAYER...]]``.

``SOURCE``
    ``open_clip``, ``open_clip-text``, ``timm``, ``torchvision``, ``transformers``,
    ``transformers-text`` or ``builtin``. The plain names mean the image tower.
``NAME``
    One of

    - an architecture that the library knows: ``open_clip:ViT-B-16``, in open_clip and torchvision
      followed, where the weights do not say it, by how images are prepared for them:
      ``open_clip:ViT-L-14+siglip``, ``torchvision:googlenet+IMAGENET1K_V1``;
    - ``tiny`` or ``tiny-...``: the models that come with brainkit;
    - ``hf:ORG/NAME``, a repository on the Hugging Face hub (for ``transformers``, whose models
      have no other names, ``ORG/NAME`` is enough);
    - a local folder, which begins with ``/``, ``./``, ``../`` or ``~``.
``WEIGHTS``
    After an architecture: a tag of the library (``laion2b_s34b_b88k``) or a ``*.safetensors``
    file (``torchvision:squeezenet1_0//data/squeezenet.safetensors``: the first slash separates,
    the second begins the path). After any name: ``random`` or ``random:SEED``.
``LAYER``
    Names that ``brainkit features MODEL --list`` prints.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from brainkit.errors import InputError, unknown_name

SOURCES = (
    "open_clip",
    "open_clip-text",
    "timm",
    "torchvision",
    "transformers",
    "transformers-text",
    "builtin",
)
HUB = "hf:"
PICKLED_SUFFIXES = (".pt", ".pth", ".bin", ".pkl", ".ckpt", ".th", ".tar")
WEIGHT_SUFFIXES = (".safetensors", *PICKLED_SUFFIXES)
GRAMMAR = "SOURCE:NAME[/WEIGHTS][@LAYER[,LAYER...]]"
EXAMPLE = "open_clip:ViT-B-16/laion2b_s34b_b88k@blocks.6"
_RANDOM = re.compile(r"random(?::(\d+))?")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Spec:
    """A model and, where they are named, its layers.

    Attributes
    ----------
    source : str
        The library, one of ``SOURCES``.
    name : str
        An architecture, ``tiny``, ``hf:ORG/NAME`` or a folder.
    weights : str, optional
        A tag, a ``*.safetensors`` file or ``random:SEED``; None for the name's own.
    layers : tuple of str
        Empty where the model's default layer is meant.
    """

    source: str
    name: str
    weights: str | None = None
    layers: tuple[str, ...] = ()

    @property
    def place(self) -> Literal["name", "tiny", "hub", "folder"]:
        """Where the model comes from."""
        if self.name.startswith(HUB):
            return "hub"
        if _is_folder(self.name):
            return "folder"
        # With a hyphen: timm has names of its own that begin with "tiny_".
        return "tiny" if self.name == "tiny" or self.name.startswith("tiny-") else "name"

    @property
    def seed(self) -> int | None:
        """Seed of random weights; None where the weights are not random."""
        random = _RANDOM.fullmatch(self.weights or "")
        return int(random[1] or 0) if random else None

    @property
    def file(self) -> Path | None:
        """The file of weights, where one is named."""
        if not self.weights or self.seed is not None:
            return None
        named = "/" in self.weights or Path(self.weights).suffix in WEIGHT_SUFFIXES
        return Path(self.weights).expanduser() if named else None

    @property
    def model(self) -> str:
        """The specification without its layers."""
        weights = f"/{self.weights}" if self.weights else ""
        # A slash tells an @ in a folder's name from the one before layers.
        slash = "/" if self.place == "folder" and "@" in Path(self.name).name else ""
        return f"{self.source}:{self.name}{weights or slash}"

    def __str__(self) -> str:
        return self.model + (f"@{','.join(self.layers)}" if self.layers else "")


def parse_spec(text: str) -> Spec:
    """Parse the name of a model; the grammar is in the module's docstring.

    Parameters
    ----------
    text : str
        Such as ``"open_clip:ViT-B-16/laion2b_s34b_b88k@blocks.6,blocks.11"``.

    Returns
    -------
    Spec
        Its ``str`` is the canonical form of `text`.

    Raises
    ------
    UnknownNameError
        If there is no such source.
    InputError
        If `text` does not follow the grammar.

    Examples
    --------
    >>> parse_spec("open_clip:ViT-B-16/laion2b_s34b_b88k@blocks.6,blocks.11").layers
    ('blocks.6', 'blocks.11')
    >>> str(parse_spec("timm:resnet18/random"))
    'timm:resnet18/random:0'
    """
    source, colon, rest = str(text).strip().partition(":")
    if not colon or not rest:
        raise _ungrammatical(text, "it names no source, or no model")
    if source not in SOURCES:
        raise unknown_name("source of models", source, SOURCES)
    reference, layers = _split_layers(text, rest)
    name, weights = _split_weights(source, reference)
    if not name or weights == "":
        raise _ungrammatical(text, "the model's name or the weights are empty")
    if name.startswith(HUB) and not _HUB_ID.fullmatch(name.removeprefix(HUB)):
        raise _ungrammatical(text, f"a repository on the hub is written {HUB}ORG/NAME")
    random = _RANDOM.fullmatch(weights or "")
    if random:
        weights = f"random:{int(random[1] or 0)}"
    return Spec(source, name, weights, layers)


def _split_layers(text: str, rest: str) -> tuple[str, tuple[str, ...]]:
    """Split at the last ``@``, unless it stands in a folder's name."""
    name, at, named = rest.rpartition("@")
    if not at or "/" in named:
        return rest, ()
    layers = tuple(layer.strip() for layer in named.split(","))
    if not all(layers):
        raise _ungrammatical(text, "a layer's name is empty")
    return name, layers


def _split_weights(source: str, reference: str) -> tuple[str, str | None]:
    """Split into name and weights, with the hub's names in one form."""
    for prefix in ("hf-hub:", "hf_hub:"):
        if reference.startswith(prefix):
            reference = HUB + reference.removeprefix(prefix)
    head, slash, last = reference.rpartition("/")
    random = last if slash and _RANDOM.fullmatch(last) else None
    if _is_folder(reference) or reference.startswith(HUB):
        return (head, random) if random else (_tidy(reference), None)
    if source.startswith("transformers") and not reference.startswith("tiny"):
        name = head if random else reference
        return (HUB + name if "/" in name else name), random
    name, slash, weights = reference.partition("/")
    return name, weights if slash else None


def _tidy(name: str) -> str:
    return name.rstrip("/") or "/"


def _is_folder(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~")) or name in (".", "..")


def _ungrammatical(text: str, reason: str) -> InputError:
    return InputError(
        f"{text!r} is no name of a model: {reason}. Write {GRAMMAR}, such as {EXAMPLE}."
    )
