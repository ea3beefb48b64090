"""The captioner: a GPT-2 of three layers that is handed a CLIP image embedding as its prefix."""

from pathlib import Path

import torch

from brainkit.generators.captioning_models import Prefix, PrefixCaptioner, PrefixConfig
from brainkit.training import Report, Schedule, Step, train
from brainkit.world import SceneWorld
from tiny_models import clip
from tiny_models.files import finish, what_decides
from tiny_models.scenes import SIZE, TRAINING, describe_wholly, paint_pool
from tiny_models.tokenizers import CONTEXT, corpus, word_tokenizer

NAME = "captioner"
WIDTH, LAYERS, HEADS, PREFIX = 128, 3, 4, 4
BATCH, SCENES = 64, 40_000
NOISE = 0.3  # of the embeddings' own spread: predicted embeddings are never exact
SCHEDULE = Schedule(steps=3000, learning_rate=1.5e-3, weight_decay=0.05, average=0.99, seed=14)


def build() -> PrefixCaptioner:
    """Build the captioner with fresh weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = word_tokenizer(corpus())
    torch.manual_seed(SCHEDULE.seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=PREFIX + CONTEXT,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    prefix = PrefixConfig(
        embedding_width=clip.EMBEDDING,
        prefix_length=PREFIX,
        width=WIDTH,
        kind="linear",
        normalise=True,
        input_scale=16.0,
        image_model="open_clip:tiny",
    )
    return PrefixCaptioner(GPT2LMHeadModel(config), tokenizer, Prefix(prefix))


def fit(out: Path, work: Path, pool: int) -> tuple[PrefixCaptioner, Report]:
    """Train on the embeddings of painted scenes and their whole captions."""
    count = min(pool, SCENES)
    model, _ = clip.load(out / clip.NAME)
    images = paint_pool(work, count=pool)[:count]
    embeddings = torch.cat(
        [clip.embed(model, images[n : n + 2000], normalize=False) for n in range(0, count, 2000)]
    )
    spread = embeddings.std(dim=0)
    world, captioner = SceneWorld(TRAINING, SIZE), build()
    captions = [describe_wholly(world.scene(number)) for number in range(count)]

    def loss(module: PrefixCaptioner, step: Step) -> torch.Tensor:
        rows = step.rng("scenes").choice(count, BATCH, replace=False)
        noise = torch.randn((BATCH, clip.EMBEDDING), generator=step.generator) * spread
        amount = NOISE * torch.rand((BATCH, 1), generator=step.generator)
        ids, mask = module.tokenise([captions[row] for row in rows])
        return module(embeddings[rows] + amount * noise, ids, mask)

    learned = {"embeddings": embeddings, "captions": captions, "batch": BATCH, "noise": NOISE}
    identity = what_decides(captioner, **learned)
    report = train(
        captioner, loss, SCHEDULE, folder=work / NAME, identity=identity, description=NAME
    )
    return captioner, report


def make(name: str, out: Path, work: Path, pool: int) -> Report:
    """Train the captioner and write it."""
    model, report = fit(out, work, pool)
    model.save_pretrained(out / name, dtype="float16")
    finish(out / name)
    return report
