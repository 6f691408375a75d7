"""The catalogue: everything is there, narrowing says why, and a click opens a method in place."""

from __future__ import annotations

import threading

import pytest

import octolab as ol
from octolab.lab.catalogue.shelf import PAINS, Shelf

CARDS = ol.methods.cards()


def slugs(shelf):
    return {m.card.slug for m in shelf.found()}


def test_all_methods_are_on_the_shelf_by_family():
    shelf = Shelf()
    assert slugs(shelf) == set(ol.methods.slugs())
    families = shelf.by_family()
    assert sum(len(matches) for _, matches in families) == len(CARDS)
    assert families[-1][1][0].card.family == "baselines"
    assert all(title and "_" not in title for title, _ in families)


@pytest.mark.parametrize("card", CARDS, ids=lambda c: c.slug)
def test_every_method_is_found_by_its_name_its_author_and_its_paper(card):
    for words in (card.slug, card.name, card.authors.split(",")[0], card.title):
        shelf = Shelf()
        shelf.query = words
        assert card.slug in slugs(shelf), words


def test_accents_and_case_do_not_matter():
    shelf = Shelf()
    shelf.query = "RICHTARIK ef21"
    assert "ef21" in slugs(shelf) and "fedavg" not in slugs(shelf)


@pytest.mark.parametrize("name", PAINS)
def test_what_hurts_narrows_the_list_and_says_why_in_the_cards_words(name):
    shelf = Shelf()
    shelf.toggle("pain", name)
    found = shelf.found()
    assert len(found) < len(CARDS)
    for match in found:
        (why,) = match.why
        said = why.partition(" ")[2]
        everything = " ".join([match.card.solves, match.card.use, match.card.summary])
        assert said in everything or "tagged" in why or "keeps nothing on the device" in why


def test_pains_point_to_the_methods_that_are_made_for_them():
    expected = {
        "bandwidth": "ef21",
        "stragglers": "ringmaster",
        "heterogeneity": "scaffold",
        "memory": "gd",
        "absence": "ef21-pp",
    }
    for pain, slug in expected.items():
        shelf = Shelf()
        shelf.toggle("pain", pain)
        assert slug in slugs(shelf), pain
    shelf = Shelf()
    shelf.toggle("pain", "heterogeneity")
    assert not slugs(shelf) & {"asgd", "ringmaster", "ef14"}  # their cards say: not for heterogeneous data
    shelf.clear()
    shelf.toggle("pain", "memory")
    assert not slugs(shelf) & {"ef21", "diana", "scaffold", "fednl"}  # they keep vectors on the device


def test_several_choices_must_all_hold():
    shelf = Shelf()
    shelf.toggle("pain", "bandwidth")
    shelf.toggle("pain", "heterogeneity")
    both = slugs(shelf)
    assert all(len(m.why) == 2 for m in shelf.found())
    shelf.toggle("need", "full participation")
    assert "ef21-pp" in slugs(shelf) and "ef21" in both and "ef21" not in slugs(shelf)
    shelf.toggle("tag", "client sampling")
    assert all("client sampling" in m.card.tags for m in shelf.found())
    shelf.clear()
    assert slugs(shelf) == set(ol.methods.slugs()) and not shelf.narrowed


def test_an_unknown_choice_is_answered_with_what_there_is():
    with pytest.raises(ValueError, match="There is no pain 'hunger'; there are bandwidth"):
        Shelf().toggle("pain", "hunger")


def test_in_a_terminal_it_is_a_list():
    text = repr(Shelf())
    assert all(c.slug in text for c in CARDS)


# -- the widget ------------------------------------------------------------------------------------------------------
@pytest.fixture
def catalogue():
    pytest.importorskip("anywidget", reason="the widgets need octolab[lab]")
    made = ol.lab()
    yield made
    made.close()


def test_typing_and_clicking_narrow_the_list(catalogue):
    catalogue._heard({"query": "scaffold"})
    shown = [m["slug"] for f in catalogue._list.state["families"] for m in f["methods"]]
    assert "scaffold" in shown and len(shown) < len(CARDS)
    catalogue._heard({"query": "no such thing"})
    assert catalogue._list.state["found"].startswith("None fits")
    catalogue._heard({"clear": True})
    catalogue._heard({"toggle": "pain", "name": "bandwidth"})
    why = {m["slug"]: m["why"] for f in catalogue._list.state["families"] for m in f["methods"]}
    assert "uplink" in why["ef21"]


def test_a_click_opens_a_method_in_place_and_back_leaves_no_thread(catalogue, monkeypatch):
    from octolab.lab.explorer.explorer import Explorer

    monkeypatch.setattr(Explorer, "warm", lambda self: self)
    catalogue._heard({"open": "diana"})
    explorer = catalogue.explorer
    assert explorer.method.slug == "diana" and explorer in catalogue.children
    catalogue.back()
    assert catalogue.explorer is None and catalogue._list in catalogue.children
    assert not [t for t in threading.enumerate() if t.name in ("octolab-run", "octolab-lab")]


def test_a_saved_notebook_lists_everything(catalogue):
    html = catalogue._repr_html_()
    assert all(f"<code>{c.slug}</code>" in html for c in CARDS)
    assert "<script" not in html
