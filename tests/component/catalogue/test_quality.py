"""How well duplicates are found, on schemas labelled by hand: run with -s to see the figures."""

import pytest

from tests.similarity.quality import PRECISION, RECALL, measure, pairs, profile


def test_there_are_enough_labels_and_each_is_of_a_field() -> None:
    assert len(pairs()) >= 40
    assert sum(pair.held_out for pair in pairs()) >= len(pairs()) // 3
    for pair in pairs():
        wanted = {field.path for field in profile(pair.wanted).fields}
        provided = {field.path for field in profile(pair.dataset).fields}
        assert wanted >= {*pair.provided, *pair.arguable}, pair
        assert provided >= set(pair.provided.values()), pair
    kinds = {profile(name).kind for pair in pairs() for name in (pair.wanted, pair.dataset)}
    assert kinds == {"descriptor", "csv", "xlsx", "json-schema", "sql", "form"}
    assert any(not pair.provided for pair in pairs())


@pytest.mark.parametrize("held_out", [False, True], ids=["tuned", "held out"])
def test_provided_fields_are_found_and_others_are_not(held_out: bool) -> None:
    quality, mistakes = measure(pair for pair in pairs() if pair.held_out is held_out)
    print(f"\n{'held out' if held_out else 'tuned'}: {quality}")
    assert quality.recall >= RECALL, mistakes
    assert quality.precision >= PRECISION, mistakes
