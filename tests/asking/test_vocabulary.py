"""Every word of the vocabulary can be asked for, and means its class alone."""

from __future__ import annotations

import pytest

from voxicon.asking import parse
from voxicon.core.concepts import Concept, Vocabulary

VOCABULARY = Vocabulary.default()


@pytest.mark.parametrize("concept", list(VOCABULARY), ids=lambda concept: concept.name)
def test_every_word_of_a_class_means_that_class(concept: Concept) -> None:
    for word in (concept.name, concept.display_name, concept.original or concept.name, *concept.aliases):
        (clause,) = parse(word, VOCABULARY).clauses
        (target,) = clause.targets
        assert (target.classes, target.said, target.place) == ((concept.name,), concept.display_name, None), word


def test_a_class_of_a_user_can_be_asked_for() -> None:
    liver = VOCABULARY["liver"].to_dict()
    new = {key: liver[key] for key in ("kind", "snomed", "color", "cleanup")}
    extended = VOCABULARY.extended(
        [Concept.from_dict({**new, "id": 1000, "name": "lymph_node", "aliases": ["nodal station"]})]
    )
    assert parse("measure the nodal stations", extended).clauses[0].targets[0].classes == ("lymph_node",)
