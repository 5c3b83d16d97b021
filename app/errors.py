"""Everything that can go wrong, as one tree.

ValenceError
├── InvalidInput         a field of a request is wrong
│   ├── NotJSON          the body is not JSON
│   └── TooLarge         a body, a list of texts or a text is over its limit
├── UnknownModel         there is no such model or version
├── Overloaded           the queue is full; says when to come back
├── NotReady             starting, or the model's loop has died
│   └── Draining         finishing what was admitted, then stopping
├── DeadlineExceeded     the answer would come too late to be useful
├── InferenceFailed      the model raised, or returned something that is no answer
├── UnusableVersion      an exported version failed its checks
├── MissingLibrary       the engine that was asked for is not installed
└── DataError            a file given to training is wrong

A message states the rule and what was received; it never repeats a user's text.
HTTP statuses live in `app.api.error_handlers` alone.
"""


class ValenceError(Exception):
    """The root: whatever Valence raises on purpose."""


class InvalidInput(ValenceError):
    """A field of a request breaks its rule."""


class NotJSON(InvalidInput):
    """The body of a request is not JSON."""


class TooLarge(InvalidInput):
    """A body, a list of texts or a text is over its limit."""


class UnknownModel(ValenceError):
    """There is no such model or version. The message lists what there is."""


class Overloaded(ValenceError):
    """The queue is full.

    Attributes:
        retry_after_s: Seconds until room is expected, computed from the queue and its rate.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(ValenceError):
    """The service or the model cannot answer yet, or can no longer."""


class Draining(NotReady):
    """The service finishes what it admitted and takes nothing new."""


class DeadlineExceeded(ValenceError):
    """The deadline of an item passed before the model could run."""


class InferenceFailed(ValenceError):
    """The model raised, or returned rows that are no probabilities."""


class UnusableVersion(ValenceError):
    """An exported version is incomplete, altered, or does not reproduce its golden rows."""


class MissingLibrary(ValenceError):
    """The library that an engine needs is not installed. The message names the extra."""


class DataError(ValenceError):
    """A file given to training is missing or malformed. The message names file, row and rule."""
