"""TensorFlow is heard when it fails, and not when it remarks on something."""

import logging

from training.support.tensorflow_import import import_tensorflow


def test_remarks_on_several_models() -> None:
    """A teacher's networks, one for each fold, bring no warnings among the lines of a training."""
    logger = logging.getLogger("tensorflow")
    logger.setLevel(logging.WARNING)
    import_tensorflow()
    assert not logger.isEnabledFor(logging.WARNING)
    assert logger.isEnabledFor(logging.ERROR)
