"""A method's card: the docstring of its page, as data.

The first line is the method's name and what it is; then come the parts below, each a line `Part: text` with indented
continuation lines. The explorer, the catalogue and `octolab methods` show them.
"""

from __future__ import annotations

import html
import inspect
import textwrap
from dataclasses import asdict, dataclass
from typing import Any

PARTS = (
    "Paper",
    "Authors",
    "Venue",
    "arXiv",
    "Solves",
    "Use",
    "Avoid",
    "Assumes",
    "Algorithm",
    "Up",
    "Down",
    "Step size",
    "Theorem",
    "Unconfirmed",
)


@dataclass(frozen=True)
class Card:
    """title, summary and the parts of a page's docstring; slug and family come from where the page lies."""

    slug: str
    family: str
    name: str
    summary: str
    title: str
    authors: str
    venue: str
    arxiv: str
    solves: str
    use: str
    avoid: str
    assumes: str
    algorithm: str
    up: str
    down: str
    step_size: str
    theorem: str
    unconfirmed: str
    needs: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def link(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv[:1].isdigit() else ""

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.summary}",
            f"  {self.authors}. {self.title}. {self.venue}. {self.arxiv}".rstrip(". "),
        ]
        for word, text in self._shown():
            lines.append(textwrap.fill(f"{word}: {text}", 100, initial_indent="  ", subsequent_indent="    "))
        lines.append(textwrap.indent(self.algorithm, "    "))
        return "\n".join(lines)

    def _shown(self) -> list[tuple[str, str]]:
        parts = [
            ("Solves", self.solves),
            ("Use it when", self.use),
            ("Not when", self.avoid),
            ("Assumes", self.assumes),
            ("Up", self.up),
            ("Down", self.down),
            ("Step size", self.step_size),
            ("Unconfirmed", self.unconfirmed),
        ]
        return [(word, text) for word, text in parts if text]

    def _repr_html_(self) -> str:
        e = html.escape
        cite = f"{e(self.authors)}. <i>{e(self.title)}</i>. {e(self.venue)}."
        if self.link:
            cite += f' <a href="{self.link}">arXiv {e(self.arxiv)}</a>'
        rows = "".join(
            f"<tr><td style='text-align:left;vertical-align:top'><b>{e(w)}</b></td><td style='text-align:left'>{e(t)}</td></tr>"
            for w, t in self._shown()
        )
        return (
            f"<div style='max-width:60em'><h3>{e(self.name)}</h3><p>{e(self.summary)}</p><p>{cite}</p>"
            f"<table>{rows}</table><pre>{e(self.algorithm)}</pre></div>"
        )


def read_card(doc: str, cls: Any) -> Card:
    """Read the parts of a docstring; missing ones are empty strings."""
    lines = inspect.cleandoc(doc).strip().splitlines() or [cls.__name__]
    name, _, summary = lines[0].partition(":")
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines[1:]:
        word, colon, rest = line.partition(":")
        if colon and word in PARTS:
            current = found.setdefault(word, [rest.strip()])
        elif current is not None and (line.startswith(" ") or not line.strip()):
            current.append(line)
        else:
            current = None
    text = {
        word: textwrap.dedent("\n".join(part[1:])).strip("\n")
        if word == "Algorithm"
        else " ".join(" ".join(part).split())
        for word, part in found.items()
    }
    get = lambda word: text.get(word, "")  # noqa: E731
    return Card(
        slug=cls.slug,
        family=cls.__module__.rsplit(".", 2)[-2] if cls.__module__.startswith("octolab.methods.") else "third party",
        name=name.strip(),
        summary=summary.strip(),
        title=get("Paper"),
        authors=get("Authors"),
        venue=get("Venue"),
        arxiv=get("arXiv"),
        solves=get("Solves"),
        use=get("Use"),
        avoid=get("Avoid"),
        assumes=get("Assumes"),
        algorithm=get("Algorithm"),
        up=get("Up"),
        down=get("Down"),
        step_size=get("Step size"),
        theorem=get("Theorem"),
        unconfirmed=get("Unconfirmed"),
        needs=cls.needs,
        tags=cls.tags,
    )
