r"""A diffusion prior: from what the brain says of an image to embeddings as images have them.

A decoder that is trained by squared error gives the mean of all embeddings that fit a response,
which is shorter and smoother than that of any image. A prior draws from the distribution of image
embeddings given the decoder's output instead (Ramesh et al. 2022, DALL-E 2; Scotti et al. 2023,
MindEye). With :math:`\bar\alpha_t` falling from almost 1 to almost 0 over T steps,

.. math::
    x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon, \quad
    \min_\theta \; \mathrm{E}\, \| f_\theta(x_t, t, b) - x_0 \|^2

so that f learns the mean of x₀ given x_t and the brain's tokens b. Sampling starts at noise and
goes through fewer steps (DDIM, Song et al. 2021).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from brainkit.alignment.person_units import check_share, check_sizes
from brainkit.errors import InputError

OFFSET = 0.008  # of the cosine schedule, so that the first steps are not without noise
STEEPEST = 0.999  # share of the signal's variance that one step may take


# -- noise, and the way back from it ---------------------------------------------------------------


def cosine_schedule(n_steps: int) -> Tensor:
    r"""Return how much of the signal's variance is left after each step of noise.

    .. math::
        \bar\alpha_t = \prod_{s \le t} (1 - \beta_s), \quad
        \beta_t = \min\Big(1 - \frac{g(t + 1)}{g(t)}, .999\Big), \quad
        g(t) = \cos^2 \frac{\pi (t / T + .008)}{2 \cdot 1.008}

    Parameters
    ----------
    n_steps : int
        T.

    Returns
    -------
    float64 tensor (n_steps,)
        Falling, within 0..1.

    References
    ----------
    Nichol and Dhariwal (2021), Improved denoising diffusion probabilistic models.
    """
    check_sizes(n_steps=n_steps)
    times = torch.arange(n_steps + 1, dtype=torch.float64, device="cpu") / n_steps
    g = torch.cos((times + OFFSET) / (1 + OFFSET) * math.pi / 2) ** 2
    betas = (1 - g[1:] / g[:-1]).clamp(max=STEEPEST)
    return torch.cumprod(1 - betas, dim=0)


def sampling_times(n_steps: int, steps: int) -> list[int]:
    """Return the steps of noise that sampling goes through, the noisiest first, evenly spaced.

    Raises
    ------
    InputError
        If there are more than the schedule has.
    """
    check_sizes(steps=steps)
    if steps > n_steps:
        raise InputError(
            f"Sampling goes through at most the {n_steps} steps of the schedule; got {steps}."
        )
    places = np.linspace(-1, n_steps - 1, steps + 1)[1:]
    return [int(place) for place in np.rint(places)[::-1]]


def reverse_diffusion(
    denoise: Callable[[Tensor, int], Tensor],
    start: Tensor,
    remaining: Tensor,
    times: Sequence[int],
    *,
    eta: float = 0.0,
    noise: Callable[[], Tensor] | None = None,
) -> Tensor:
    r"""Go from noise to a sample, step by step (DDIM).

    With x̂ the denoised x at step t, s the step that comes next, and
    :math:`\hat\epsilon = (x - \sqrt{\bar\alpha_t}\, \hat x) / \sqrt{1 - \bar\alpha_t}`,

    .. math::
        x \leftarrow \sqrt{\bar\alpha_s}\, \hat x
        + \sqrt{1 - \bar\alpha_s - \sigma^2}\, \hat\epsilon + \sigma z, \quad
        \sigma^2 = \eta^2 \, \frac{1 - \bar\alpha_s}{1 - \bar\alpha_t}
        \Big(1 - \frac{\bar\alpha_t}{\bar\alpha_s}\Big)

    Parameters
    ----------
    denoise : callable
        From x and a step to x̂.
    start : tensor (n, ...)
        Noise of unit variance.
    remaining : float64 tensor (n_steps,)
        What `cosine_schedule` gives.
    times : sequence of int
        Steps from the noisiest to the last, after which x̂ is the sample.
    eta : float, default=0
        0 adds no noise on the way, 1 as much as the diffusion does.
    noise : callable, optional
        Gives z, of the shape of x; needed where `eta` is above 0.

    Returns
    -------
    tensor (n, ...)

    References
    ----------
    Song, Meng and Ermon (2021), Denoising diffusion implicit models.
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta is from 0 to 1; got {eta!r}.")
    if eta and noise is None:
        raise InputError("With eta above 0 noise is added on the way: give what draws it.")
    if not times:
        raise InputError("Sampling needs at least one step; times is empty.")
    values = start
    for here, there in pairwise(times):
        clean = denoise(values, here)
        left, next_left = float(remaining[here]), float(remaining[there])
        residual = (values - math.sqrt(left) * clean) / math.sqrt(1 - left)
        variance = eta**2 * (1 - next_left) / (1 - left) * (1 - left / next_left)
        kept = math.sqrt(max(1 - next_left - variance, 0.0))
        values = math.sqrt(next_left) * clean + kept * residual
        if eta and noise is not None:
            values = values + math.sqrt(variance) * noise()
    return denoise(values, times[-1])


# -- the network -----------------------------------------------------------------------------------


class _PriorBlock(nn.Module):
    """Attention of many queries to one head of keys and values, then SwiGLU; both pre-norm.

    A learned key and value stand beside those of the tokens, so that a query may look at nothing.
    """

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key_value = nn.Linear(width, 2 * head_width, bias=False)
        self.nothing = nn.Parameter(torch.randn(2, head_width))
        self.out = nn.Linear(heads * head_width, width, bias=False)
        self.out_norm = nn.LayerNorm(width)
        self.feed_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 8 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.attention_norm(tokens)
        query = self.query(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        none = self.nothing.flatten().expand(len(tokens), 1, -1)
        both = torch.cat([none, self.key_value(normed)], dim=1)[:, None]
        key, value = both.expand(-1, self.heads, -1, -1).chunk(2, dim=-1)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out_norm(self.out(mixed.transpose(1, 2).flatten(2)))
        squashed, gated = self.gate(self.feed_norm(tokens)).chunk(2, dim=-1)
        fed: Tensor = tokens + self.down(functional.silu(squashed) * gated)
        return fed


class DiffusionPrior(nn.Module):
    """From brain tokens to image tokens by a transformer that takes noise away.

    The transformer reads, in one sequence and in all directions, the brain's tokens, one token for
    the step of noise, and the noisy image tokens, all with learned positions; what it gives at the
    image tokens is the clean image. With ``queries`` learned tokens stand behind them, and the
    clean image is read there. In training, brain and noisy image are each replaced by learned
    tokens in some rows, so that guidance can compare what is said with and without the brain.

    Parameters
    ----------
    width : int
        Of an image token; even.
    n_tokens : int, default=1
        Image tokens. With 1, images and what `sample` gives are (n, width).
    depth : int, default=6
    heads, head_width : int
        By default 12 of 64 as in MindEye1 (width 768, 257 tokens); MindEye2 has 32 of 52 (1664,
        256).
    n_brain_tokens : int, optional
        As many as image tokens where not given.
    brain_width : int, optional
        Of a brain token; a linear layer brings it to `width` where it is another.
    n_steps : int, default=100
        Of the noise.
    brain_drop, image_drop : float, default=0.2
        Share of rows in which the brain's tokens, or the noisy image tokens, are replaced.
    queries : bool, default=False

    References
    ----------
    Ramesh et al. (2022), Hierarchical text-conditional image generation with CLIP latents. Scotti
    et al. (2023), Reconstructing the mind's eye: fMRI-to-image with contrastive learning and
    diffusion priors.
    """

    centre: Tensor
    spread: Tensor

    def __init__(  # noqa: PLR0913 - sizes, all but the first two by name
        self,
        width: int,
        n_tokens: int = 1,
        *,
        depth: int = 6,
        heads: int = 12,
        head_width: int = 64,
        n_brain_tokens: int | None = None,
        brain_width: int | None = None,
        n_steps: int = 100,
        brain_drop: float = 0.2,
        image_drop: float = 0.2,
        queries: bool = False,
    ) -> None:
        super().__init__()
        n_brain = n_tokens if n_brain_tokens is None else n_brain_tokens
        brain_width = width if brain_width is None else brain_width
        check_sizes(
            width=width, n_tokens=n_tokens, depth=depth, heads=heads, head_width=head_width,
            n_brain_tokens=n_brain, brain_width=brain_width, n_steps=n_steps,
        )  # fmt: skip
        check_share(brain_drop=brain_drop, image_drop=image_drop)
        if width % 2:
            raise InputError(f"Steps are told by sines and cosines: width is even; got {width}.")
        self.width, self.n_tokens = width, n_tokens
        self.n_brain_tokens, self.brain_width = n_brain, brain_width
        self.n_steps, self.brain_drop, self.image_drop = n_steps, brain_drop, image_drop
        self.register_buffer("centre", torch.zeros(n_tokens, width))
        self.register_buffer("spread", torch.ones(()))
        self.read_brain = nn.Linear(brain_width, width) if brain_width != width else nn.Identity()
        self.tell_step = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, width),
        )
        length = n_brain + 1 + n_tokens
        self.positions = nn.Parameter(torch.randn(length, width) * width**-0.5)
        self.queries = nn.Parameter(torch.randn(n_tokens, width)) if queries else None
        self.no_brain = nn.Parameter(torch.randn(n_brain, width))
        self.no_image = nn.Parameter(torch.randn(n_tokens, width))
        self.blocks = nn.ModuleList(_PriorBlock(width, heads, head_width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width, bias=False)

    @torch.no_grad()
    def set_space(self, images: Tensor) -> None:
        """Take centre and spread from the embeddings of training images.

        Noise has unit variance; embeddings are centred and divided by one number, so that their
        variance over images is 1 on average over dimensions. `loss` and `denoise` are in these
        units; `sample` gives embeddings as they are.

        Parameters
        ----------
        images : tensor (n, n_tokens, width) or (n, width)

        Raises
        ------
        InputError
            If they are of another shape, fewer than two, all alike, or not finite.
        """
        tokens = self._tokens(images, self.n_tokens, self.width, "images")
        spread = tokens.double().var(dim=0).mean().sqrt() if len(tokens) > 1 else torch.zeros(())
        if not (torch.isfinite(spread) and spread > 0):
            raise InputError(
                f"Centre and spread need at least two different, finite embeddings; got "
                f"{len(tokens)} of deviation {float(spread)}."
            )
        self.centre.copy_(tokens.double().mean(dim=0))
        self.spread.copy_(spread)

    def forward(self, brain: Tensor, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return `loss`: what wraps modules, and what asks them for their needs, calls this."""
        return self.loss(brain, images, generator)

    def loss(self, brain: Tensor, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean squared error of denoised images, over rows at random steps.

        Parameters
        ----------
        brain : tensor (n, n_brain_tokens, brain_width), or (n, brain_width) where it is one token
            What the decoder gives.
        images : tensor (n, n_tokens, width), or (n, width) where it is one token
            Embeddings of what was seen.
        generator : torch.Generator
            On the CPU; steps, noise and which rows lack brain or image are drawn from it.

        Returns
        -------
        tensor ()
            In units of the embeddings' variance: 1 is the error of their mean.
        """
        clean = self._tokens(images, self.n_tokens, self.width, "images")
        clean = (clean - self.centre) / self.spread
        n, device = len(clean), clean.device
        times = torch.randint(self.n_steps, (n,), generator=generator, device="cpu")
        noise = torch.randn(clean.shape, generator=generator, device="cpu").to(clean)
        keep = torch.rand(2, n, generator=generator, device="cpu").to(device)
        left = cosine_schedule(self.n_steps)[times].to(clean)[:, None, None]
        noisy = left.sqrt() * clean + (1 - left).sqrt() * noise
        keeps = (keep[0] >= self.brain_drop, keep[1] >= self.image_drop)
        denoised = self.denoise(noisy, times.to(device), brain, keeps)
        return functional.mse_loss(denoised, clean)

    def denoise(
        self,
        noisy: Tensor,
        times: Tensor,
        brain: Tensor,
        keeps: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return clean image tokens, centred and scaled.

        Parameters
        ----------
        noisy : tensor (n, n_tokens, width)
            Centred and scaled.
        times : int tensor (n,)
            Steps of noise, from 0 to before `n_steps`.
        brain : tensor (n, n_brain_tokens, brain_width), or (n, brain_width)
        keeps : pair of bool tensor (n,), optional
            Rows whose brain, and rows whose image is given; all where not given.
        """
        said = self.read_brain(self._tokens(brain, self.n_brain_tokens, self.brain_width, "brain"))
        if keeps is not None:
            said = torch.where(keeps[0][:, None, None], said, self.no_brain)
            noisy = torch.where(keeps[1][:, None, None], noisy, self.no_image)
        step = self.tell_step(self._waves(times).to(noisy.dtype))[:, None]
        sequence = torch.cat([said, step, noisy], dim=1) + self.positions
        if self.queries is not None:
            sequence = torch.cat([sequence, self.queries.expand(len(sequence), -1, -1)], dim=1)
        for block in self.blocks:
            sequence = block(sequence)
        clean: Tensor = self.out(self.norm(sequence[:, -self.n_tokens :]))
        return clean

    @torch.no_grad()
    def sample(
        self,
        brain: Tensor,
        seeds: int | Sequence[int],
        *,
        steps: int = 20,
        guidance: float = 1.0,
        eta: float = 0.0,
    ) -> Tensor:
        """Draw one image embedding for each row.

        A row depends on its brain tokens and its seed, and neither on the other rows nor on its
        place among them (to rounding: batches of another size sum in another order).

        Parameters
        ----------
        brain : tensor (n, n_brain_tokens, brain_width), or (n, brain_width) where it is one token
        seeds : int or sequence of int (n,)
            Of each row; one number gives all rows the same noise.
        steps : int, default=20
            Of the `n_steps` in which noise is taken away.
        guidance : float, default=1
            g in :math:`f(no) + g (f(brain) - f(no))`; 1 takes the brain at its word.
        eta : float, default=0
            See `reverse_diffusion`.

        Returns
        -------
        tensor (n, n_tokens, width), or (n, width) where it is one token

        Raises
        ------
        InputError
            If there are not as many seeds as rows, or more steps than `n_steps`.
        """
        said = self._tokens(brain, self.n_brain_tokens, self.brain_width, "brain")
        numbers = [seeds] * len(said) if isinstance(seeds, int) else [int(s) for s in seeds]
        if not numbers or len(numbers) != len(said):
            raise InputError(f"One seed for each of {len(said)} rows; got {len(numbers)}.")
        generators = [torch.Generator().manual_seed(number) for number in numbers]

        def noise() -> Tensor:
            shape = (self.n_tokens, self.width)
            rows = [torch.randn(shape, generator=g, device="cpu") for g in generators]
            return torch.stack(rows).to(self.positions)

        def clean(values: Tensor, time: int) -> Tensor:
            times = torch.full((len(said),), time, device=said.device)
            with_brain = self.denoise(values, times, said)
            if guidance == 1:
                return with_brain
            every = torch.ones(len(said), dtype=torch.bool, device=said.device)
            without = self.denoise(values, times, said, (~every, every))
            return without + guidance * (with_brain - without)

        times = sampling_times(self.n_steps, steps)
        remaining = cosine_schedule(self.n_steps)
        drawn = reverse_diffusion(clean, noise(), remaining, times, eta=eta, noise=noise)
        drawn = drawn * self.spread + self.centre
        return drawn[:, 0] if self.n_tokens == 1 else drawn

    def _waves(self, times: Tensor) -> Tensor:
        """Return sines and cosines of steps, (n, width)."""
        half = self.width // 2
        exponents = torch.arange(half, device=times.device) / max(half - 1, 1)
        phases = times[:, None] * torch.exp(-math.log(10_000.0) * exponents)
        return torch.cat([phases.sin(), phases.cos()], dim=1)

    def _tokens(self, values: Tensor, n_tokens: int, width: int, what: str) -> Tensor:
        """Return (n, n_tokens, width), of (n, width) too where there is one token."""
        if values.ndim == 2 and n_tokens == 1:
            values = values[:, None]
        if values.ndim != 3 or values.shape[1:] != (n_tokens, width):
            one = f" or (n, {width})" if n_tokens == 1 else ""
            raise InputError(
                f"{what} must be (n, {n_tokens}, {width}){one}; got {tuple(values.shape)}."
            )
        return values
