"""The pair's figures by slices of the rows, such as their tags, and by text rules of one's own.

A rule is a regular expression: the share of answers in which it is found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter

from compare.report.measures import Answer
from compare.report.rows import Row
from compare.report.statistics import mean
from compare.report.summary import Seen, as_dict
from lens.errors import BadSetting
from lens.rows.rows import TAG

MOST = 40  # slices of a report, the largest
SHOWN = {name: attrgetter(name) for name in ("right", "ended", "loops", "does_not_know")}


def read_rules(given: Sequence[str]) -> dict[str, str]:
    """`NAME=REGEX` each → name: pattern. Raises BadSetting."""
    found: dict[str, str] = {}
    for rule in given:
        name, _, pattern = rule.partition("=")
        if not name.strip() or not pattern:
            raise BadSetting("rule-unreadable", value=repr(rule[:60]))
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as err:
            raise BadSetting("rule-broken", name=name.strip()[:40], reason=str(err)[:80]) from err
        if name.strip() in found or name.strip() in SHOWN:
            raise BadSetting("rule-name-taken", name=name.strip()[:40])
        found[name.strip()] = pattern
    return found


def slices_of(row: Row, field: str) -> list[str]:
    """Those that a row belongs to: its field's text or number, or each of a list of them; none where it has none."""
    value = row.fields.get(field)
    values = value if isinstance(value, list) else [value]
    return list(dict.fromkeys(str(one) for one in values if isinstance(one, str | int | float) and str(one).strip()))


def counted(rows: Sequence[Row], field: str | None) -> Counter[str]:
    """Slice → its rows; of `field`, or of TAG where none was named. Raises BadSetting where no row has the named."""
    found = Counter(name for row in rows for name in slices_of(row, field or TAG))
    if field and not found:
        there = sorted({name for row in rows for name in row.fields})
        raise BadSetting("slice-field-missing", field=repr(field[:40]), there=", ".join(there)[:200] or "none")
    return found


def slices(rows: Sequence[Row], base: Seen, adapted: Seen, field: str | None, rules: Mapping[str, str],
           seed: int) -> dict | None:
    """report.json's `slices`; None where rows have none and there is no rule. Raises BadSetting."""
    count = counted(rows, field)
    if not count and not rules:
        return None
    kept = [name for name, _ in count.most_common(MOST)]
    pairs = list(zip(rows, base.answers, adapted.answers, strict=True))
    groups = [group("all", pairs, rules, seed)]
    groups += [group(name, [pair for pair in pairs if name in slices_of(pair[0], field or TAG)], rules, seed)
               for name in kept]
    return {"field": field or TAG, "rules": dict(rules), "left_out": len(count) - len(kept), "groups": groups}


def group(name: str, pairs: Sequence[tuple[Row, Answer, Answer]], rules: Mapping[str, str], seed: int) -> dict:
    """One slice: each figure of base and adapted, and how often only one of them is right, both or neither.

    Off-topic rows have no right answer: right, won, lost and the like are of the others.
    """
    on_topic = [(a.right, b.right) for row, a, b in pairs if not row.off_topic]
    outcomes = {"won": (False, True), "lost": (True, False), "both_right": (True, True), "both_wrong": (False, False)}
    sides = {}
    for side, answers in (("base", [(row, a) for row, a, _ in pairs]), ("adapted", [(row, b) for row, _, b in pairs])):
        sides[side] = {measure: figure([of(a) for row, a in answers if measure != "right" or not row.off_topic], seed)
                       for measure, of in SHOWN.items()}
        sides[side] |= {rule: figure([bool(re.search(pattern, a.text)) for _, a in answers], seed)
                        for rule, pattern in rules.items()}
    return {"name": name, "questions": len(pairs), **sides,
            **{outcome: figure([(bool(x), bool(y)) == which for x, y in on_topic], seed)
               for outcome, which in outcomes.items()}}


def figure(values: Sequence[float | bool | None], seed: int) -> dict | None:
    """Mean and 95% interval of those that there are."""
    return as_dict(mean([float(value) for value in values if value is not None], seed))
