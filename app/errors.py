"""All exceptions raised on purpose, as one tree.

ValenceError
├── InvalidInput         a field of a request is wrong
│   ├── InvalidHTTP      the body breaks its framing
│   ├── InvalidCoding    the body is not in the content coding that its headers announce
│   ├── UnknownCoding    the content coding is not taken
│   ├── NotJSON          the body is not JSON
│   └── TooLarge         a body, a list of texts or a text is over its limit
├── RequestTimeout       the body came too slowly
├── Unauthorized         the API key is missing or wrong
├── UnknownModel         there is no such model or version
├── Overloaded           the queue is full; says when to retry
│   ├── RateExceeded     an API key is used too often
│   └── TooLate          the answer could not be ready by the deadline
├── BodiesFull           all bodies in flight together take too much memory
├── NotReady             starting, or the model's batcher has failed
│   └── Draining         finishing admitted requests, then stopping
├── DeadlineExceeded     the deadline passed before the answer was ready
├── InferenceFailed      the model raised, or returned invalid probabilities
├── UnusableVersion      an exported version failed its checks
├── MissingLibrary       the library of the engine is not installed
├── DataError            a file given to training is wrong
├── CannotWrite          a result cannot be written: the disk is full, say
└── CannotResume         what an unfinished training left is damaged

A message states the rule and what was received; it never quotes a user's text.
HTTP statuses are in `app.api.error_handlers` alone.
"""


class ValenceError(Exception):
    """Base class of all exceptions raised on purpose."""


class InvalidInput(ValenceError):
    """A field of a request breaks its rule."""


class InvalidHTTP(InvalidInput):
    """The body of a request breaks the framing that its headers announce."""


class InvalidCoding(InvalidInput):
    """The body of a request is not in the content coding that its headers announce."""


class UnknownCoding(InvalidInput):
    """The content coding of a request is not taken."""


class NotJSON(InvalidInput):
    """The body of a request is not JSON."""


class TooLarge(InvalidInput):
    """A body, a list of texts or a text is over its limit."""


class RequestTimeout(ValenceError):
    """The body of a request came too slowly."""


class Unauthorized(ValenceError):
    """The API key is missing or wrong."""

    def __init__(self) -> None:
        super().__init__(
            "the request must carry one valid key, as Authorization: Bearer KEY or X-API-Key: KEY"
        )


class UnknownModel(ValenceError):
    """There is no such model or version. The message lists those there are."""


class Overloaded(ValenceError):
    """The queue is full.

    Attributes:
        retry_after_s: Seconds until there should be room, computed from the work that waits and
            the recent throughput.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateExceeded(Overloaded):
    """An API key is used more often than its rate allows."""


class TooLate(Overloaded):
    """The answer could not be ready by the deadline, so it is not even begun."""


class BodiesFull(ValenceError):
    """All bodies in flight together take too much memory for one more."""


class NotReady(ValenceError):
    """The service or the model cannot answer yet, or can no longer answer."""


class Draining(NotReady):
    """The service finishes admitted requests and admits no new ones."""


class DeadlineExceeded(ValenceError):
    """The deadline of a request passed before it could be answered."""


class InferenceFailed(ValenceError):
    """The model raised, or returned rows that are not probabilities."""


class UnusableVersion(ValenceError):
    """An exported version is incomplete, altered, or does not reproduce its golden rows."""


class MissingLibrary(ValenceError):
    """The library that an engine needs is not installed. The message names the extra."""


class DataError(ValenceError):
    """A file given to training is missing or malformed. The message names file, row and rule."""


class CannotWrite(ValenceError):
    """A result cannot be written. The message names the path, the reason and what to do."""


class CannotResume(ValenceError):
    """An unfinished training is damaged. The message names the file and what to do."""
