"""What the student gets from its teacher: soft labels to learn, and the n-gram logits."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from training.data.corpus import LazySequence
from training.data.shards import Shard, TrainingExample
from training.distillation.mixture import fit_mixture
from training.distillation.soft_labels import SoftLabels
from training.distillation.teacher_data import TeacherOutput
from training.fit.model_saver import save_model
from training.models.build import NGRAM_LOGITS, OUTPUT
from training.models.predict import SCORING_BATCH, score_rows
from training.support.arrays import Float32Array, Float64Array
from training.support.progress import print_line


def soft_label_examples(
    labelled: Collection[TrainingExample],
    unlabelled: Sequence[str],
    teacher: SoftLabels,
    *,
    soft_label_share: float,
    class_weights: Mapping[int, float] | None,
) -> LazySequence[TrainingExample]:
    """Return the labelled texts, then the unlabelled ones, with targets from the teacher.

    Where the teacher has no soft labels, labelled texts keep their label, and unlabelled texts are
    left out.

    Args:
        labelled: Training examples with hard labels.
        unlabelled: Texts without labels.
        teacher: Its soft labels of both.
        soft_label_share: The share of the soft label in the target of a labelled text; its hard
            label has the rest.
        class_weights: The sample weight of each class. An unlabelled text gets their mean, weighted
            by its soft label. 1 by default.
    """

    def examples() -> Iterator[TrainingExample]:
        share = np.float32(soft_label_share)
        if not len(teacher.labelled):
            yield from labelled
        else:
            for example, soft_label in zip(labelled, teacher.labelled, strict=True):
                target = (1 - share) * example.target + share * soft_label
                yield replace(example, target=target)
        if len(teacher.unlabelled):
            for text, soft_label in zip(unlabelled, teacher.unlabelled, strict=True):
                yield TrainingExample(text, soft_label, _mean_weight(soft_label, class_weights))

    return LazySequence(examples, len(labelled) + len(teacher.unlabelled))


def _mean_weight(soft_label: Float32Array, class_weights: Mapping[int, float] | None) -> float:
    if not class_weights:
        return 1.0
    return float(sum(soft_label[label] * weight for label, weight in class_weights.items()))


def add_ngram_logits(path: Path, teacher: TeacherOutput, validation: Shard) -> None:
    """Add the teacher's n-gram logits to those of a saved student.

    Network and n-grams are weighted by two numbers, fitted to the labels of the validation texts.

    Args:
        path: The `.keras` file of the student, replaced.
        teacher: Its n-gram logits and bias.
        validation: The encoded validation texts.
    """
    model = keras.models.load_model(path, compile=False)
    output, ngrams = model.get_layer(OUTPUT), model.get_layer(NGRAM_LOGITS)
    if ngrams.table.any():
        return  # added already, by a training that was stopped afterwards
    ngrams.table = teacher.ngram_logits
    logits = _logits_of_parts(model, validation)
    logits[1] += teacher.bias
    weights = fit_mixture(logits, validation.targets.argmax(axis=1))
    of_network, of_ngrams = (np.float32(weight) for weight in weights)
    kernel, bias = output.get_weights()
    output.set_weights([of_network * kernel, of_network * bias + of_ngrams * teacher.bias])
    ngrams.table = of_ngrams * teacher.ngram_logits
    save_model(model, path)
    print_line(
        f"{model.name}: includes the teacher's n-gram logits, weighted {of_ngrams:.2f} beside "
        f"{of_network:.2f} for the network"
    )


def _logits_of_parts(model: keras.Model, rows: Shard) -> Float64Array:
    """Return the logits of the network and of the n-grams, (2, texts, classes).

    They are read from the layers: the logarithm of a probability of 0 is not finite.
    """
    outputs = [model.get_layer(name).output for name in (OUTPUT, NGRAM_LOGITS)]
    parts = keras.Model(model.inputs, outputs)
    logits = score_rows(
        lambda ids, _lengths: np.stack(parts.predict_on_batch(ids), axis=1), rows, SCORING_BATCH
    )
    return logits.swapaxes(0, 1)
