"""Print request bodies, one a line, for load generators that send what a file holds.

python -m load_tests.bodies 500 > bodies.jsonl
"""

import argparse
import itertools
import json
import sys

from load_tests.corpus import texts


def main() -> None:
    """Print as many bodies as asked for, each with one text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("count", type=int, help="how many bodies")
    parser.add_argument("--model", help="the model to ask; else the server's default")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other texts [1]")
    options = parser.parse_args()
    model = {"model": options.model} if options.model else {}
    for text in itertools.islice(texts(options.seed), options.count):
        sys.stdout.write(json.dumps({"text": text, **model}) + "\n")


if __name__ == "__main__":
    main()
