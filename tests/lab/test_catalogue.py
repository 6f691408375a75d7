"""The catalogue: everything is there, narrowing says why, and a click opens a method in place."""

from __future__ import annotations

import threading

import pytest

import octolab as ol
from octolab.lab.catalogue.parts import part_card
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
    assert catalogue.list_view.state["found"].startswith("No method has the words 'no such thing'")
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


# -- the catalogue leads ---------------------------------------------------------------------------------------------
def test_it_begins_with_a_shelf_for_beginners(catalogue):
    first = catalogue.list_view.state["families"][0]
    assert first["title"] == "Start here"
    assert {"fedavg", "scaffold", "ef21", "ringmaster"} <= {m["slug"] for m in first["methods"]}


def test_what_hurts_ranks_and_each_reason_says_something_new(catalogue):
    catalogue.receive({"toggle": "pain", "name": "bandwidth"})
    best = catalogue.list_view.state["families"]
    assert [f["title"] for f in best] == ["Best first"] and best[0]["methods"][0]["slug"] in ("ef21", "fedavg")
    for m in best[0]["methods"]:
        assert m["why"].partition(" ")[2] not in (m["solves"], "") and m["why"] not in m["solves"]


def test_an_empty_choice_says_what_to_do_instead():
    search = Search()
    search.query = "scafold"
    assert search.advice() == "No method has the words 'scafold'. Did you mean scaffold or scafflix?"
    search.query, search.pains = "", {"attackers"}
    search.tags = {"asynchronous"}
    assert not search.found() and "Without 'a" in search.advice()


def test_parts_that_are_no_methods_are_found_and_have_cards(catalogue):
    catalogue.receive({"query": "topk"})
    assert {"room": "compressors", "name": "TopK"}.items() <= catalogue.list_view.state["parts"][-1].items()
    catalogue.receive({"part": ["compressors", "TopK"]})
    assert "ol.compressors.TopK(" in catalogue._part.state["html"]
    for room, name in (("attacks", "SignFlip"), ("samplers", "Nice"), ("splits", "Dirichlet"), ("fleets", "Fleet")):
        assert name in part_card(room, name)


def test_two_methods_are_ticked_and_compared(catalogue):
    for slug in ("gd", "ef21", "diana"):  # the oldest gives way
        catalogue.receive({"tick": slug})
    assert catalogue.ticked == ["ef21", "diana"]
    catalogue.receive({"compare": True})
    state = catalogue.explorer.state
    assert state.slug == "ef21" and state.beside().given.slug == "diana"
