"""`python -m tests.similarity`: precision and recall of `exchange dataset similar` on schemas labelled by hand.

--mistakes lists every field that is not as labelled; --held-out lists those of the held-out part too.
"""

import argparse

from tests.similarity.quality import Verdict, measure, pairs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.similarity", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mistakes", action="store_true", help="list the fields that are not as labelled")
    parser.add_argument("--held-out", action="store_true", help="of the held-out part too")
    arguments = parser.parse_args()
    for held_out, name in ((False, "tuned"), (True, "held out")):
        quality, mistakes = measure(pair for pair in pairs() if pair.held_out is held_out)
        print(f"{name:9} {quality}")
        if arguments.mistakes and (arguments.held_out or not held_out):
            print("".join(f"  {_line(mistake)}\n" for mistake in mistakes), end="")


def _line(mistake: Verdict) -> str:
    score = f" {mistake.match.score:.2f}: {'; '.join(mistake.match.reasons)}" if mistake.match else ""
    where = f"{mistake.pair.wanted} against {mistake.pair.dataset}"
    return f"{where}: {mistake.wanted} is {mistake.label or '-'}, found {mistake.field or '-'}{score}"


if __name__ == "__main__":
    main()
