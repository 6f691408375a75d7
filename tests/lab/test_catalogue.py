"""The catalogue: everything is there, narrowing says why, and a click opens a method in place."""

from __future__ import annotations

import threading

import pytest

import octolab as ol
from octolab.lab.catalogue.search import PAINS, Search

CARDS = ol.methods.cards()


def slugs(search):
    return {m.card.slug for m in search.found()}


def test_all_methods_are_found_by_family():
    search = Search()
    assert slugs(search) == set(ol.methods.slugs())
    families = search.by_family()
    assert sum(len(matches) for _, matches in families) == len(CARDS)
    assert families[-1][1][0].card.family == "baselines"
    assert all(title and "_" not in title for title, _ in families)


@pytest.mark.parametrize("card", CARDS, ids=lambda c: c.slug)
def test_every_method_is_found_by_its_name_its_author_and_its_paper(card):
    for words in (card.slug, card.name, card.authors.split(",")[0], card.title):
        search = Search()
        search.query = words
        assert card.slug in slugs(search), words


def test_accents_and_case_do_not_matter():
    search = Search()
    search.query = "RICHTARIK ef21"
    assert "ef21" in slugs(search) and "fedavg" not in slugs(search)


@pytest.mark.parametrize("name", PAINS)
def test_what_hurts_narrows_the_list_and_says_why_in_the_cards_words(name):
    search = Search()
    search.toggle("pain", name)
    found = search.found()
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
        search = Search()
        search.toggle("pain", pain)
        assert slug in slugs(search), pain
    search = Search()
    search.toggle("pain", "heterogeneity")
    assert not slugs(search) & {"asgd", "ringmaster", "ef14"}  # their cards say: not for heterogeneous data
    search.clear()
    search.toggle("pain", "memory")
    assert not slugs(search) & {"ef21", "diana", "scaffold", "fednl"}  # they keep vectors on the device


def test_several_choices_must_all_hold():
    search = Search()
    search.toggle("pain", "bandwidth")
    search.toggle("pain", "heterogeneity")
    both = slugs(search)
    assert all(len(m.why) == 2 for m in search.found())
    search.toggle("need", "full participation")
    assert "ef21-pp" in slugs(search) and "ef21" in both and "ef21" not in slugs(search)
    search.toggle("tag", "client sampling")
    assert all("client sampling" in m.card.tags for m in search.found())
    search.clear()
    assert slugs(search) == set(ol.methods.slugs()) and not search.narrowed


def test_an_unknown_choice_is_answered_with_what_there_is():
    with pytest.raises(ValueError, match="There is no pain 'hunger'; there are bandwidth"):
        Search().toggle("pain", "hunger")


def test_in_a_terminal_it_is_a_list():
    text = repr(Search())
    assert all(c.slug in text for c in CARDS)


# -- the widget ------------------------------------------------------------------------------------------------------
@pytest.fixture
def catalogue():
    pytest.importorskip("anywidget", reason="the widgets need octolab[lab]")
    made = ol.lab()
    yield made
    made.close()


def test_typing_and_clicking_narrow_the_list(catalogue):
    catalogue.receive({"query": "scaffold"})
    shown = [m["slug"] for f in catalogue.list_view.state["families"] for m in f["methods"]]
    assert "scaffold" in shown and len(shown) < len(CARDS)
    catalogue.receive({"query": "no such thing"})
    assert catalogue.list_view.state["found"].startswith("None fits")
    catalogue.receive({"clear": True})
    catalogue.receive({"toggle": "pain", "name": "bandwidth"})
    why = {m["slug"]: m["why"] for f in catalogue.list_view.state["families"] for m in f["methods"]}
    assert "uplink" in why["ef21"]


def test_a_click_opens_a_method_in_place_and_back_leaves_no_thread(catalogue, monkeypatch):
    from octolab.lab.explorer.explorer import Explorer

    monkeypatch.setattr(Explorer, "warm", lambda self: self)
    catalogue.receive({"open": "diana"})
    explorer = catalogue.explorer
    assert explorer.method.slug == "diana" and explorer in catalogue.children
    catalogue.back()
    assert catalogue.explorer is None and catalogue.list_view in catalogue.children
    assert not [t for t in threading.enumerate() if t.name in ("octolab-run", "octolab-lab")]


def test_a_saved_notebook_lists_everything(catalogue):
    html = catalogue._repr_html_()
    assert all(f"<code>{c.slug}</code>" in html for c in CARDS)
    assert "<script" not in html
