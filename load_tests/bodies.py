"""Print request bodies, one per line, for load generators that read them from a file.

python -m load_tests.bodies 500 > bodies.jsonl
"""

import argparse
import itertools
import json
import sys

from load_tests.corpus import texts


def main() -> None:
    """Print the requested number of bodies with one text each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("count", type=int, help="number of bodies")
    parser.add_argument("--model", help="model in the request; the server's default if omitted")
    parser.add_argument("--seed", type=int, default=1, help="random seed of the texts [1]")
    options = parser.parse_args()
    model = {"model": options.model} if options.model else {}
    for text in itertools.islice(texts(options.seed), options.count):
        sys.stdout.write(json.dumps({"text": text, **model}) + "\n")


if __name__ == "__main__":
    main()
