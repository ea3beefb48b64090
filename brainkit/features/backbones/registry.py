"""From the name of a model to the model; each library is imported only when it is asked for."""

from typing import TYPE_CHECKING

from brainkit.features.spec import Spec, parse_spec

if TYPE_CHECKING:
    from brainkit.features.backbones.base import Backbone


def open_backbone(spec: str | Spec, *, download: bool | None = None) -> "Backbone":
    """Load a model as a frozen source of features.

    Parameters
    ----------
    spec : str or Spec
        ``SOURCE:NAME[/WEIGHTS]``, see `brainkit.features.spec`; layers are not looked at.
    download : bool, optional
        Whether weights may be fetched; by default as $BRAINKIT_DOWNLOAD says (1: yes).

    Raises
    ------
    UnknownNameError
        If there is no such source, model or tag of weights; the message names the nearest.
    DownloadError
        If the weights are neither here nor to be fetched.
    InputError
        If the weights are pickled, do not fit, or were trained with another activation.
    """
    chosen = parse_spec(spec) if isinstance(spec, str) else spec
    match chosen.source:
        case "open_clip" | "open_clip-text":
            from brainkit.features.backbones.open_clip import open_clip_backbone

            return open_clip_backbone(chosen, download=download)
        case "timm":
            from brainkit.features.backbones.timm import timm_backbone

            return timm_backbone(chosen, download=download)
        case "torchvision":
            from brainkit.features.backbones.torchvision import torchvision_backbone

            return torchvision_backbone(chosen, download=download)
        case "transformers" | "transformers-text":
            from brainkit.features.backbones.transformers import transformers_backbone

            return transformers_backbone(chosen, download=download)
        case _:
            from brainkit.features.backbones.builtin import builtin_backbone

            return builtin_backbone(chosen, download=download)
