"""Imports what a process that scores needs, in the process from which it is forked."""

from contextlib import suppress

import app.scoring.local  # noqa: F401
from app.errors import MissingLibrary
from app.serving.engines import import_library

with suppress(MissingLibrary):  # the processes will say so
    import_library("onnx")
