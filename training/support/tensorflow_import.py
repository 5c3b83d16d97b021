"""Import TensorFlow without the remarks it makes on the machine and on several models."""

import logging
import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Import TensorFlow; what its libraries write to stderr meanwhile is kept for a failure.

    They write before any setting of theirs is read, straight to the file descriptor.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as remarks:
        stderr = os.dup(2)
        os.dup2(remarks.fileno(), 2)
        try:
            import tensorflow  # noqa: F401 - for its side effect
        except BaseException:
            os.dup2(stderr, 2)
            remarks.seek(0)
            sys.stderr.buffer.write(remarks.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    # It warns of each further model of a process as if that were the same one, traced anew.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
