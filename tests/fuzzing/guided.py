"""One harness under atheris, which is guided by coverage: `python -m tests.fuzzing.guided body`."""

import sys

import atheris

with atheris.instrument_imports(include=["app", "httptools"]):
    from tests.fuzzing.harness import HARNESSES


def main() -> None:
    """Fuzz until libFuzzer's options say that it is enough."""
    name = sys.argv[1]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], HARNESSES[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
