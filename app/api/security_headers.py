"""Headers that tell browsers what they must not do with an answer."""

import base64
import hashlib
import re
from typing import Final

EVERYWHERE: Final = (
    (b"cache-control", b"no-store"),  # answers are about a user's text, or change at any time
    (b"x-content-type-options", b"nosniff"),
)
"""For every answer, whoever makes it."""

KEPT: Final = (
    (b"cache-control", b"no-cache"),  # kept, and asked for again
    (b"x-content-type-options", b"nosniff"),
)
"""For the files of a page, which are the same for everybody."""

_SCRIPT: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def protect_page(page: str, *, sources: str) -> dict[str, str]:
    """The headers of an HTML page, on which only its own scripts run.

    Args:
        page: The page; each script in it is allowed by its hash.
        sources: Where it may load scripts and styles from.
    """
    digests = [hashlib.sha256(script.encode()).digest() for script in _SCRIPT.findall(page)]
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return _protect(
        {
            "script-src": f"{sources} {scripts}",
            "style-src": f"{sources} 'unsafe-inline'",  # Swagger UI sets styles of elements
            "img-src": f"'self' data: {sources}",
        }
    )


def _protect(sources: dict[str, str]) -> dict[str, str]:
    """The headers of an HTML page that loads what `sources` says, and sends to us alone."""
    policy = {
        "default-src": "'none'",
        **sources,
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }


CONSOLE: Final = _protect(
    {
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "data: blob:",
        "require-trusted-types-for": "'script'",  # no text becomes HTML
    }
)
"""The headers of the console: no script and no style but its own files."""
