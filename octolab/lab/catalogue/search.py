"""The catalogue without a face: all methods by family, a search, filters, and "What hurts?".

    search = Search(); search.query = "richtarik"; search.pains = {"bandwidth"}; search.found()    # -> matches with reasons

Everything is read off the pages: tags, needs, family and the words of the cards. No method is named here.
"""

from __future__ import annotations

import importlib
import inspect
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache

from octolab.lab.catalogue.parts import Part, found
from octolab.methods import cards, get
from octolab.methods.card import Card
from octolab.rooms import nearest


@dataclass(frozen=True)
class Pain:
    """Something that hurts. about: pattern in tags and family; said: in what a card says it solves and is for; against:
    in what it is not for.
    """

    name: str
    label: str
    hint: str
    about: str
    said: str
    against: str = r"(?!)"

    def why(self, card: Card) -> str | None:
        """Why this method helps, in its card's own words; None if it does not."""
        if re.search(self.against, card.avoid, re.IGNORECASE):
            return None
        for word, text in (("solves", card.solves), ("for", card.use), ("is", card.summary)):
            for clause in re.split(r"[;:.]\s", text):
                if re.search(self.said, clause, re.IGNORECASE):
                    return f"{word} {clause.strip().rstrip('.')}"
        for tag in (*card.tags, card.family):
            if re.search(self.about, tag.replace("_", " "), re.IGNORECASE):
                return f"is tagged {tag.replace('_', ' ')}"
        return None


class Memory(Pain):
    """Devices with little memory: methods that leave no vector there between rounds, which is read off their source."""

    def why(self, card: Card) -> str | None:
        said = super().why(card)
        if said is not None or "hessian" in card.needs:
            return said
        return None if _remembers(card.slug) else "keeps nothing on the device between rounds"


@cache
def _remembers(slug: str) -> bool:
    try:
        return "memory." in "".join(
            inspect.getsource(c) for c in get(slug).__mro__ if c.__module__.startswith("octolab.methods.")
        )
    except (OSError, TypeError):
        return True


PAINS: dict[str, Pain] = {
    p.name: p
    for p in (
        Pain("bandwidth", "bandwidth", "the uplink is slow, or bits cost money", r"compression|communication$",
             r"uplink|bandwidth|fewer rounds|communication|\bbits\b|upload", r"bandwidth is scarce"),
        Pain("stragglers", "stragglers", "some devices are much slower than others", r"asynchronous",
             r"slow (devices|workers|clients)|unequal (devices|compute|speeds)|straggl|waiting for|nobody waits",
             r"slow clients hold"),
        Pain("privacy", "privacy", "what clients send must not give them away", r"priva|secure aggregation",
             r"\bpriva|differential|secure aggregation"),
        Pain("attackers", "attackers", "some clients lie", r"byzantine|robust|attack", r"byzantine|attack|liars?\b|poison"),
        Pain("heterogeneity", "heterogeneity", "clients have different data", r"^heterogeneous|personal",
             r"heterogene|client drift|personal", r"heterogeneous data|optimum on heterogeneous"),
        Memory("memory", "device memory", "devices can keep little between rounds", r"(?!)",
               r"stateless|without memory|little memory|model size"),
        Pain("absence", "few take part", "devices come and go", r"client sampling|availability",
             r"partial participation|takes? part at a time", r"client sampling|drop out"),
    )
}  # fmt: skip


NEEDS = {
    "unbiased": "an unbiased compressor",
    "contractive": "a contractive compressor",
    "homogeneous": "the same data everywhere",
    "hessian": "Hessians",
    "strongly convex": "strong convexity",
}
"""Needs in words; others are said as they are."""


@dataclass(frozen=True)
class Match:
    """A method that was found, and why: one sentence per pain that was named."""

    card: Card
    why: tuple[str, ...] = ()


class Search:
    """What is looked for, and what is found. query: words that must all occur; pains: names; tags: what it must be about;
    without: needs it must not have.
    """

    def __init__(self) -> None:
        self.cards = cards()
        self.query = ""
        self.pains: set[str] = set()
        self.tags: set[str] = set()
        self.without: set[str] = set()

    def clear(self) -> None:
        self.query = ""
        for chosen in (self.pains, self.tags, self.without):
            chosen.clear()

    @property
    def narrowed(self) -> bool:
        return bool(self.query.strip() or self.pains or self.tags or self.without)

    def toggle(self, kind: str, name: str) -> None:
        """Choose a pain, tag or need, or let go of it. ValueError for an unknown one."""
        known = {
            "pain": (self.pains, list(PAINS)),
            "tag": (self.tags, self.all_tags()),
            "need": (self.without, self.all_needs()),
        }
        if kind not in known or name not in known[kind][1]:
            raise ValueError(
                f"There is no {kind} {name!r}; there are {', '.join(known.get(kind, (set(), list(known)))[1])}."
            )
        known[kind][0].symmetric_difference_update({name})

    def all_tags(self) -> list[str]:
        """Every tag, the frequent ones first."""
        counted = Counter(tag for card in self.cards for tag in card.tags)
        return sorted(counted, key=lambda t: (-counted[t], t))

    def all_needs(self) -> list[str]:
        return sorted({need for card in self.cards for need in card.needs})

    def found(self) -> list[Match]:
        """The methods that fit everything chosen, by family; nearest names first among a family's."""
        words, out = _plain(self.query).split(), []
        for card in self.cards:
            reasons = [PAINS[name].why(card) for name in PAINS if name in self.pains]
            fits = self.tags <= set(card.tags) and not self.without & set(card.needs) and None not in reasons
            if fits and all(word in _text(card) for word in words):
                out.append(Match(card, tuple(r for r in reasons if r)))
        return out

    def ranked(self) -> list[Match]:
        """What is found, best first: a card that says it solves the pain before one that is for it, and tags last."""
        strength = {"solves": 3, "for": 2, "is": 1, "keeps": 1}

        def score(match: Match) -> int:
            return sum(strength.get(why.split(" ")[0], 0) - why.startswith("is tagged") for why in match.why)

        return sorted(self.found(), key=lambda m: (-score(m), not _first(m.card.slug), m.card.slug))

    def start(self) -> list[Card]:
        """The methods to begin with: their pages say so."""
        return [card for card in self.cards if _first(card.slug)]

    def parts(self) -> list[Part]:
        """What is found beside methods: compressors, attacks, samplers, ..."""
        return found(_plain(self.query).split())

    def advice(self) -> str:
        """What to let go of where nothing is found, and how much there is then."""
        if self.query.strip():
            near = nearest(self.query.strip(), [c.slug for c in self.cards])
            words = f"No method has the words {self.query.strip()!r}.{near}"
            if self.pains or self.tags or self.without:
                return f"{words} Or press Clear: other choices narrow the list, too."
            return words
        chosen = [(self.pains, n, PAINS[n].label) for n in self.pains] + [(self.tags, n, n) for n in self.tags]
        chosen += [(self.without, n, NEEDS.get(n, n)) for n in self.without]
        left = []
        for held, name, label in chosen:
            held.discard(name)
            left.append((len(self.found()), label))
            held.add(name)
        count, label = max(left, default=(0, ""))
        if not count:
            return "No method does all of this. Press Clear and choose one thing at a time."
        return f"No method does all of this. Without {label!r} there {'is 1' if count == 1 else f'are {count}'}."

    def helped(self, pain: Pain) -> int:
        """How many methods help against a pain."""
        return sum(pain.why(card) is not None for card in self.cards)

    def by_family(self) -> list[tuple[str, list[Match]]]:
        """(family's title, matches), families by name, baselines last."""
        groups: dict[str, list[Match]] = {}
        for match in self.found():
            groups.setdefault(match.card.family, []).append(match)
        order = sorted(groups, key=lambda f: (f == "baselines", f))
        return [(title(family), sorted(groups[family], key=lambda m: m.card.slug)) for family in order]

    def __repr__(self) -> str:
        lines = [f"{len(self.found())} of {len(self.cards)} methods"]
        for family, matches in self.by_family():
            lines.append(f"\n{family}")
            for m in matches:
                lines.append(
                    f"  {m.card.slug:<16} {m.card.name}: {m.card.summary}" + "".join(f"\n{'':19}{r}" for r in m.why)
                )
        return "\n".join(lines)


def _first(slug: str) -> bool:
    """Whether a page, and not one that it builds on, says that it is for those who begin."""
    return bool(vars(get(slug)).get("start_here"))


@cache
def title(family: str) -> str:
    """The heading of a family: the first line of its package, or its name."""
    try:
        said = (importlib.import_module(f"octolab.methods.{family}").__doc__ or "").strip().split("\n")[0]
    except ImportError:
        said = ""
    return said.rstrip(".") or family.replace("_", " ").capitalize()


@cache
def _text(card: Card) -> str:
    parts = (
        card.slug,
        card.name,
        card.summary,
        card.title,
        card.authors,
        card.venue,
        card.arxiv,
        card.solves,
        card.use,
        card.family,
    )
    return _plain(" ".join([*parts, *card.tags]))


def _plain(text: str) -> str:
    """Lower case, without accents: Richtárik is found as richtarik."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c)).replace(
        "_", " "
    )
