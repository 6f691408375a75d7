"""octolab's own SVG charts as PNG, drawn by Pillow: no browser, no other program.

This reads exactly the part of SVG that octolab writes (see `svg`): rectangles, lines, polygons, circles, paths of M, H and
V, texts with a rotation or a superscript, groups that move and clip. It is no general SVG renderer.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

FINER = 2
"""Everything is drawn this much larger and then made smaller, which smooths the edges."""
FONTS = ("DejaVuSans", "Arial", "Helvetica", "LiberationSans-Regular", "NotoSans-Regular")
PLAIN = {"∇": "grad ", "−": "-", "×": "x", "²": "^2", "ε": "eps", "≤": "<=", "Δ": "d", "…": "...", "–": "-"}
"""For fonts without these letters."""


def png(svg: str, path: str, scale: float = 2.0) -> None:
    """Write one of octolab's SVG charts as a PNG of `scale` times its size.

    Raises ImportError, in words, where Pillow is not installed.
    """
    image = picture(svg, scale * FINER)
    small = image.resize((round(image.width / FINER), round(image.height / FINER)), resample=1)  # 1: Lanczos
    small.convert("RGB").save(path, format="PNG")


def picture(svg: str, scale: float) -> Any:
    """The chart as a Pillow image."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            "A PNG is drawn by Pillow, which is not installed: pip install pillow. An .svg or .html file needs nothing."
        ) from None
    root = ET.fromstring(svg)
    size = (math.ceil(float(root.get("width", "0")) * scale), math.ceil(float(root.get("height", "0")) * scale))
    image = Image.new("RGBA", size, "white")
    clips = {e.get("id"): e[0] for e in root.iter() if _tag(e) == "clipPath"}
    _Painter(image, scale, clips).group(root, 0.0, 0.0, _style(root, {"fill": "#333", "font-size": "12"}))
    return image


class _Painter:
    def __init__(self, image: Any, scale: float, clips: dict[str | None, ET.Element]):
        from PIL import ImageDraw

        self.image, self.scale, self.clips = image, scale, clips
        self.draw = ImageDraw.Draw(image, "RGBA")

    def group(self, element: ET.Element, dx: float, dy: float, style: dict[str, str]) -> None:
        for child in element:
            own = _style(child, style)
            tag = _tag(child)
            if tag == "g":
                x, y = _pair(child.get("transform", ""), "translate")
                self._clipped(child, dx + x, dy + y, own)
            elif hasattr(self, f"_{tag}") and tag != "clipPath":
                getattr(self, f"_{tag}")(child, dx, dy, own)

    def _clipped(self, element: ET.Element, dx: float, dy: float, style: dict[str, str]) -> None:
        name = re.match(r"url\(#(.+)\)", element.get("clip-path", ""))
        if name is None or name[1] not in self.clips:
            self.group(element, dx, dy, style)
            return
        from PIL import Image

        window = self.clips[name[1]]
        x, y, w, h = (float(window.get(k, "0")) for k in ("x", "y", "width", "height"))
        a, b, c, d = (round(v * self.scale) for v in (dx + x, dy + y, dx + x + w, dy + y + h))
        layer = Image.new("RGBA", self.image.size, (0, 0, 0, 0))
        _Painter(layer, self.scale, self.clips).group(element, dx, dy, style)
        self.image.alpha_composite(layer.crop((a, b, c, d)), (a, b))

    # -- shapes ------------------------------------------------------------------------------------------------------
    def _rect(self, e: ET.Element, dx: float, dy: float, style: dict[str, str]) -> None:
        x, y, w, h = (float(e.get(k, "0")) for k in ("x", "y", "width", "height"))
        if w > 0 and h > 0:
            self.draw.rectangle(self._at([(x + dx, y + dy), (x + w + dx, y + h + dy)]), fill=_colour(style))

    def _circle(self, e: ET.Element, dx: float, dy: float, style: dict[str, str]) -> None:
        x, y, r = float(e.get("cx", "0")) + dx, float(e.get("cy", "0")) + dy, float(e.get("r", "0"))
        self.draw.ellipse(self._at([(x - r, y - r), (x + r, y + r)]), fill=_colour(style))

    def _polygon(self, e: ET.Element, dx: float, dy: float, style: dict[str, str]) -> None:
        points = [(x + dx, y + dy) for x, y in _points(e)]
        if len(points) > 2:
            self.draw.polygon(self._at(points), fill=_colour(style))

    def _line(self, e: ET.Element, dx: float, dy: float, style: dict[str, str]) -> None:
        x1, y1, x2, y2 = (float(e.get(k, "0")) for k in ("x1", "y1", "x2", "y2"))
        self._stroke([(x1 + dx, y1 + dy), (x2 + dx, y2 + dy)], style)

    def _polyline(self, e: ET.Element, dx: float, dy: float, style: dict[str, str]) -> None:
        self._stroke([(x + dx, y + dy) for x, y in _points(e)], style)

    def _path(self, e: ET.Element, dx: float, dy: float, style: dict[str, str]) -> None:
        for line in _pieces(e.get("d", "")):
            self._stroke([(x + dx, y + dy) for x, y in line], style)

    def _stroke(self, points: list[tuple[float, float]], style: dict[str, str]) -> None:
        colour = _colour(style, "stroke")
        if colour is None or len(points) < 2:
            return
        width = max(1, round(float(style.get("stroke-width", "1")) * self.scale))
        dashes = [float(v) for v in style.get("stroke-dasharray", "").split()]
        for part in _dashed(points, dashes) if dashes else [points]:
            self.draw.line(self._at(part), fill=colour, width=width, joint="curve")

    def _text(self, e: ET.Element, dx: float, dy: float, style: dict[str, str]) -> None:
        from PIL import Image, ImageDraw

        size = float(style.get("font-size", "12"))
        x, y = float(e.get("x", "0")) + dx, float(e.get("y", "0")) + dy
        pieces = [(e.text or "", 0.0, size)]
        pieces += [(t.text or "", float(t.get("dy", "0")), float(t.get("font-size", size))) for t in e]
        fonts = [_font(max(1, round(s * self.scale))) for _, _, s in pieces]
        texts = [_plain(t) if not fancy else t for (t, _, _), (_, fancy) in zip(pieces, fonts, strict=True)]
        widths = [font.getlength(t) for t, (font, _) in zip(texts, fonts, strict=True)]
        start = {"middle": -sum(widths) / 2, "end": -sum(widths)}.get(style.get("text-anchor", ""), 0.0)
        turned = "rotate(-90" in e.get("transform", "")
        bold = 1 if style.get("font-weight") == "bold" else 0
        canvas, draw, px, py = self.image, self.draw, x * self.scale + start, y * self.scale
        if turned:
            canvas = Image.new("RGBA", (math.ceil(sum(widths)) + 8, math.ceil(2 * size * self.scale)), (0, 0, 0, 0))
            draw, px, py = ImageDraw.Draw(canvas), 4.0, 1.4 * size * self.scale
        for text, (_, lift, _), (font, _), wide in zip(texts, pieces, fonts, widths, strict=True):
            place = (px, py + lift * self.scale)
            draw.text(place, text, fill=_colour(style), font=font, anchor="ls", stroke_width=bold * self.scale / 4)
            px += wide
        if turned:
            upright = canvas.rotate(90, expand=True)
            corner = (x * self.scale - py, y * self.scale - upright.height / 2)
            self.image.alpha_composite(upright, tuple(max(0, round(v)) for v in corner))

    def _at(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * self.scale, y * self.scale) for x, y in points]


def _tag(e: ET.Element) -> str:
    return e.tag.rsplit("}", 1)[-1]


KEPT = ("fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "font-size", "font-weight", "text-anchor")
OWN = ("fill-opacity", "stroke-dasharray")  # not handed down


def _style(e: ET.Element, above: dict[str, str]) -> dict[str, str]:
    held = {k: v for k, v in above.items() if k not in OWN}
    return held | {k: v for k in KEPT if (v := e.get(k)) is not None}


def _colour(style: dict[str, str], name: str = "fill") -> Any:
    """(r, g, b, a), or None."""
    from PIL import ImageColor

    value = style.get(name, "none" if name == "stroke" else "#000")
    if value == "none":
        return None
    r, g, b = ImageColor.getrgb(value)[:3]
    return r, g, b, round(255 * float(style.get(f"{name}-opacity", "1")))


def _pair(text: str, name: str) -> tuple[float, float]:
    found = re.search(name + r"\(([-\d.]+)[ ,]+([-\d.]+)\)", text)
    return (float(found[1]), float(found[2])) if found else (0.0, 0.0)


def _points(e: ET.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (p.split(",") for p in e.get("points", "").split())]


def _pieces(d: str) -> Iterator[list[tuple[float, float]]]:
    """The lines of a path of absolute M, H and V."""
    line: list[tuple[float, float]] = []
    for letter, rest in re.findall(r"([MHV])([-\d. ,]+)", d):
        numbers = [float(v) for v in re.findall(r"-?[\d.]+", rest)]
        if letter == "M":
            if len(line) > 1:
                yield line
            line = [(numbers[0], numbers[1])]
        else:
            x, y = line[-1]
            line.append((numbers[0], y) if letter == "H" else (x, numbers[0]))
    if len(line) > 1:
        yield line


def _dashed(points: list[tuple[float, float]], dashes: list[float]) -> Iterator[list[tuple[float, float]]]:
    """The drawn pieces of a line under a dash pattern."""
    k, left, on = 0, dashes[0], True
    piece = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        length, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while length - done > left:
            done += left
            at = (x0 + (x1 - x0) * done / length, y0 + (y1 - y0) * done / length)
            if on:
                yield [*piece, at]
            k, on, piece = (k + 1) % len(dashes), not on, [at]
            left = dashes[k]
        left -= length - done
        piece.append((x1, y1))
    if on and len(piece) > 1:
        yield piece


@cache
def _font(size: int) -> tuple[Any, bool]:
    """A font of `size` pixels, and whether it has mathematical letters."""
    from PIL import ImageFont

    for name in FONTS:
        for file in (f"{name}.ttf", f"{name.lower()}.ttf"):
            try:
                return ImageFont.truetype(file, size), name == "DejaVuSans"
            except OSError:
                continue
    return ImageFont.load_default(size), False


def _plain(text: str) -> str:
    for letter, words in PLAIN.items():
        text = text.replace(letter, words)
    return text
