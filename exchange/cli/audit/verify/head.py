"""`exchange-audit verify head`: how far both logs are verified here, who cosigned that, and how long ago."""

from collections.abc import Sequence

import typer

from exchange.cli.audit.checking.policies import (
    SEEN_BY_MANY,
    PolicyOption,
    Standing,
    read_policy,
)
from exchange.cli.audit.mirror.offline import AuditHome, opened_home
from exchange.cli.audit.mirror.sources import LogName, altered, log_standing, mirrored_log, root_at
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import ExitCode
from exchange.cli.frame.output import print_json, print_line, print_pairs
from exchange.cli.frame.times import age, iso, now
from exchange.core.checkpoint import Checkpoint
from exchange.core.note import encode_base64
from exchange.core.policy import MAX_AGE, MAX_AHEAD

BOTH = (LogName.DIRECTORY, LogName.ACCESS)

EXAMPLE = example("exchange-audit verify head --home ./audit-office")


def head(policy: PolicyOption = None, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Verify the latest checkpoints of both logs that this home has seen: signature, cosignatures, quorum, age.

    Each is compared with the mirror's tree. Where a quorum of witnesses is asked for, one that is missing ends it with
    3, and one older than five minutes with 6: `exchange-audit sync` brings newer ones.
    """
    with opened_home(home) as place:
        asked = read_policy(home, place.trust, policy)
        logs = [mirrored_log(place, name) for name in BOTH]
        heads = [(log.checkpoint, log_standing(log, asked).beside(log.checkpoint.size)) for log in logs]
        _check_trees(place)
        code = max(_ending(item) for _, item in heads)
        _print(heads, code, as_json)
        place.end()
    raise typer.Exit(code)


def _check_trees(place: AuditHome) -> None:
    for name in BOTH:
        log = mirrored_log(place, name)
        if root_at(log, log.checkpoint.size) != log.checkpoint.root:
            raise altered(log.checkpoint.origin)


def _ending(item: Standing) -> ExitCode:
    if item.exit_code is not ExitCode.DONE or item.time is None:
        return item.exit_code
    return ExitCode.DONE if -MAX_AHEAD <= now() / 1000 - item.time <= MAX_AGE else ExitCode.STALE


def _print(heads: Sequence[tuple[Checkpoint, Standing]], code: ExitCode, as_json: bool) -> None:
    caveats = list(dict.fromkeys(item.caveat for _, item in heads if item.caveat))
    if as_json:
        logs = [
            {
                "log": checkpoint.origin,
                "size": checkpoint.size,
                "root": encode_base64(checkpoint.root),
                **item.described(),
                "quorum_time": iso(item.time * 1000) if item.time is not None else None,
                "fresh": _ending(item) is ExitCode.DONE if item.time is not None else None,
            }
            for checkpoint, item in heads
        ]
        print_json({"verified": True, "logs": logs, "caveats": caveats})
        return
    print_pairs({checkpoint.origin: _told(checkpoint, item) for checkpoint, item in heads})
    stale = [f"stale: a quorum is asked for within {MAX_AGE} seconds"] if code is ExitCode.STALE else []
    print_line(f"verified; {', '.join([*caveats, *stale]) or SEEN_BY_MANY}")


def _told(checkpoint: Checkpoint, item: Standing) -> list[str]:
    when = "unknown without witnesses" if item.time is None else age(item.time * 1000, now())
    lines = [f"checkpoint {checkpoint.size}", f"root {encode_base64(checkpoint.root)}"]
    return [*lines, item.told(), f"age {when}"]
