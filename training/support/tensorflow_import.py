"""Import TensorFlow without its messages about the machine.

The service has a function of its own for this, in `app/serving/engines/tensorflow.py`: training
imports nothing of `app.serving`, and the service never imports `training`.
"""

import logging
import os
import shutil
import tempfile


def import_tensorflow() -> None:
    """Import TensorFlow; what its libraries write to stderr meanwhile is shown only on failure.

    While it is imported its C++ code ignores TF_CPP_MIN_LOG_LEVEL (tensorflow issue 100442) and
    writes straight to file descriptor 2, so that descriptor itself is redirected.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as messages:
        stderr = os.dup(2)
        os.dup2(messages.fileno(), 2)
        try:
            import tensorflow  # noqa: F401 - for its side effect
        except BaseException:
            messages.seek(0)
            with open(stderr, "wb", closefd=False) as original:
                shutil.copyfileobj(messages, original)
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    # It takes each further model in one process for a retraced function, and warns.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
