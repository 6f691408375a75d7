"""A card's plain maths as LaTeX: `x <- x - lr * grad f_i(x)` becomes `$x \\leftarrow x - \\mathrm{lr}\\, \\nabla f_i(x)$`.

Cards are written for eyes and terminals, prose and formulas mixed. Here every line is cut into tokens (nothing is lost:
the tokens' sources joined are the line), each token is prose or maths, runs of maths are put between dollars and
translated. No card needs a word of LaTeX for this; the part `Theorem:` is LaTeX already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape

GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda",
    "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi",
    "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi",
    "Omega",
)  # fmt: skip
OPERATORS = {
    "min": r"\min", "max": r"\max", "log": r"\log", "ln": r"\ln", "exp": r"\exp", "sqrt": r"\sqrt", "sup": r"\sup",
    "argmin": r"\operatorname{argmin}", "argmax": r"\operatorname{argmax}", "mean": r"\operatorname{mean}", "sum": r"\sum",
    "grad": r"\nabla", "hess": r"\nabla^2", "prox": r"\operatorname{prox}", "floor": r"\operatorname{floor}",
    "ceil": r"\operatorname{ceil}", "sign": r"\operatorname{sign}", "median": r"\operatorname{median}", "prod": r"\prod",
    "clip": r"\operatorname{clip}", "det": r"\det", "tr": r"\operatorname{tr}", "diag": r"\operatorname{diag}",
    "proj": r"\operatorname{proj}", "sigmoid": r"\operatorname{sigmoid}", "dist": r"\operatorname{dist}",
}  # fmt: skip
NAMES = {
    "lr": r"\mathrm{lr}", "eps": r"\varepsilon", "inf": r"\inf", "infinity": r"\infty", "ell": r"\ell", "Lt": r"\tilde{L}",
    "NS5": r"\mathrm{NS5}", "wd": r"\mathrm{wd}", "mod": r"\bmod",
}  # fmt: skip
SYMBOLS = {
    "<-": r"\leftarrow", "->": r"\to", "<=": r"\le", ">=": r"\ge", "!=": r"\ne", "==": "=", "...": r"\dots", "*": r"\cdot",
    "<": "<", ">": ">", "+-": r"\pm", "~": r"\sim", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "\\": r"\backslash", ":=": ":=", "=>": r"\Rightarrow", "∇": r"\nabla", "²": "^2",
}  # fmt: skip
TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<quote>"[^"]*")
      | (?P<number>\d+(?:\.\d+)?(?:e-?\d+)?(?![A-Za-z]))
      | (?P<identifier>(?!(?:GREEK)_)[A-Za-z]{2,}(?:_[A-Za-z]{2,})+)
      | (?P<word>(?!(?:GREEK)-)[^\W\d_]{2,}(?:-[^\W\d_]{2,})+|[^\W\d_]{2,}\d*'s(?![^\W\d_])|[^\W\d_]+\d*)
      | (?P<symbol>\.\.\.|<-|->|<=|>=|!=|==|:=|=>|\+-|\S)
    """.replace("GREEK", "|".join((*GREEK, *OPERATORS))),
    re.VERBOSE,
)
LETTERS_OF_PROSE = {"a", "A", "I"}
CLOSERS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True)
class Token:
    """A piece of a line: its source text, its LaTeX (or the same text, where it is prose), and which of the two."""

    source: str
    latex: str
    maths: bool
    kind: str = ""


# -- tokens ----------------------------------------------------------------------------------------------------------
def tokens(line: str) -> list[Token]:
    """The pieces of a line, in order; `"".join(t.source for t in tokens(line)) == line`."""
    raw = [(str(m.lastgroup), m.group()) for m in TOKEN.finditer(line)]
    kinds = _kinds(raw)
    out = []
    for i, ((group, text), maths) in enumerate(zip(raw, kinds, strict=True)):
        latex = _latex(group, text, raw, i) if maths else text
        out.append(Token(text, latex, maths, group))
    return out


def _kinds(raw: list[tuple[str, str]]) -> list[bool]:
    """Which pieces are maths. Words are prose unless they are names of maths; brackets and commas follow what they hold."""
    maths = [_is_maths(raw, i) for i in range(len(raw))]
    pairs = list(_pairs(raw))
    for opened, closed in pairs:  # inner ones first
        inside = [i for i in range(opened + 1, closed) if raw[i][0] in ("word", "number", "quote", "identifier")]
        before = raw[opened - 1] if opened else ("space", "")
        if opened and maths[opened - 1] and before[0] != "space" and before[1] not in "+-*/=,(":
            maths[opened : closed + 1] = [True] * (closed + 1 - opened)  # f(...), x_{k - delay}: whatever it holds
        elif not inside or not all(maths[i] for i in inside):  # brackets around prose are prose
            maths[opened] = maths[closed] = False
    around = [*pairs, *_products(raw)]
    for i, (group, text) in enumerate(raw):
        if group == "symbol" and text in ",;:." and maths[i]:
            maths[i] = text in ",." and any(a < i < b and maths[a] for a, b in around)
    return maths


def _is_maths(raw: list[tuple[str, str]], i: int) -> bool:
    group, text = raw[i]
    before = raw[i - 1][1] if i else ""
    after = raw[i + 1][1] if i + 1 < len(raw) else ""
    if group in ("number", "identifier"):
        return True
    if group == "symbol":
        joins = text in "-/" and before[-1:].isalnum() and len(after) > 1 and _is_prose(after)
        return not joins and text not in '"?!' and not (text == "'" and not before[-1:].isalpha() and before != "'")
    if group != "word":
        return False
    following = next(((g, t) for g, t in raw[i + 1 :] if g != "space"), ("", ""))
    if text in LETTERS_OF_PROSE and after not in ("_", "(", "^", "'"):
        said = next((t for g, t in reversed(raw[:i]) if g != "space"), "")
        return not (following[0] == "word" and _is_prose(following[1])) and not (text == "I" and _is_prose(said))
    if after == "_" or before in ("_", "^"):
        return True
    if text in OPERATORS:  # "their mean", "the sum of all" are prose
        return following[1][:1] in ("(", "|", "[", "_") or (
            following[0] in ("word", "number", "identifier") and not _is_prose(following[1])
        )
    return not _is_prose(text)


def _is_prose(word: str) -> bool:
    base = word.rstrip("0123456789")
    if not base[:1].isalpha() or len(base) == 1:
        return False
    if base in GREEK or base in OPERATORS or word in NAMES or base in NAMES:
        return False
    return not (re.fullmatch(r"[A-Za-z](bar|hat)", base) and base not in ("that", "what", "chat"))


def _pairs(raw: list[tuple[str, str]]) -> Iterator[tuple[int, int]]:
    """Places of matching brackets, inner ones first."""
    stack: list[int] = []
    for i, (group, text) in enumerate(raw):
        if group != "symbol":
            continue
        if text in "([{":
            stack.append(i)
        elif text in CLOSERS and stack and raw[stack[-1]][1] == CLOSERS[text]:
            yield stack.pop(), i


def _products(raw: list[tuple[str, str]]) -> list[tuple[int, int]]:
    """Places of the angles of inner products, <g, v>."""
    opened = [i for i, (_, t) in enumerate(raw) if t == "<" and _opens_product(raw, i)]
    return [(i, next(k for k in range(i, len(raw)) if raw[k][1] == ">")) for i in opened]


# -- LaTeX -----------------------------------------------------------------------------------------------------------
def _latex(group: str, text: str, raw: list[tuple[str, str]], i: int) -> str:
    if group == "number":
        return _power(text)
    if group == "identifier":
        return r"\mathrm{" + text.replace("_", r"\_") + "}"
    if group == "word":
        return _name(text, raw, i)
    if group == "quote":
        return rf"\text{{{text}}}"
    if text == "*" and _star_of_name(raw, i):
        return r"^{\star}"
    if text == "+" and _plus_of_name(raw, i):
        return "^{+}"
    if text == "<" and _opens_product(raw, i):
        return r"\langle"
    if text == ">" and _closes_product(raw, i):
        return r"\rangle"
    return SYMBOLS.get(text, text)


def _power(number: str) -> str:
    mantissa, e, exponent = number.partition("e")
    return rf"{mantissa} \cdot 10^{{{exponent}}}" if e else number


def _name(text: str, raw: list[tuple[str, str]], i: int) -> str:
    """A name: Greek, an operator, one letter, or several upright ones; trailing digits go below."""
    base = text.rstrip("0123456789")
    digits = text[len(base) :]
    if text in NAMES:
        return NAMES[text]
    if text == "E" and _is_mean(raw, i):
        return r"\mathbb{E}"
    if text == "x" and _is_times(raw, i):
        return r"\times"
    if text == "T" and i and raw[i - 1][1] == "^":
        return r"\top"
    if base in GREEK:
        out = "\\" + base
    elif base in NAMES or base in OPERATORS:
        out = NAMES.get(base) or OPERATORS[base]
    elif _is_prose(text):
        return rf"\text{{{text}}}"
    elif found := re.fullmatch(r"([A-Za-z])(bar|hat)", base):
        out = rf"\{found[2]}{{{found[1]}}}"
    else:
        out = base
    return f"{out}_{{{digits}}}" if digits else out


def _is_mean(raw: list[tuple[str, str]], i: int) -> bool:
    """E|v|, E V_t are expectations; E epochs is a number."""
    group, text = next(((g, t) for g, t in raw[i + 1 :] if g != "space"), ("", ""))
    return text[:1] in ("|", "[") or (group == "word" and not _is_prose(text))


def _is_times(raw: list[tuple[str, str]], i: int) -> bool:
    """d x d is a shape."""
    sides = [raw[k][1] for k in (i - 2, i + 2) if 0 <= k < len(raw)]
    return len(sides) == 2 and all(s in set("dnmkrpqRK") or s.isdigit() for s in sides)


def _star_of_name(raw: list[tuple[str, str]], i: int) -> bool:
    """x* is the optimum; `lr * g` and `2*x` are products."""
    if not i or raw[i - 1][0] != "word":
        return False
    return i + 1 == len(raw) or raw[i + 1][1][0] in " ),;:|.]'^/"


def _plus_of_name(raw: list[tuple[str, str]], i: int) -> bool:
    """x+ is the next iterate; `k + 1` and `k+1` are sums."""
    return bool(i and raw[i - 1][0] == "word" and (i + 1 == len(raw) or raw[i + 1][1][0] in " ),;:|.]"))


def _opens_product(raw: list[tuple[str, str]], i: int) -> bool:
    rest = "".join(t for _, t in raw[i + 1 :])
    return bool(re.match(r"[^\s<>][^<>]*,[^<>]*[^\s<>]>", rest))


def _closes_product(raw: list[tuple[str, str]], i: int) -> bool:
    before = "".join(t for _, t in raw[:i])
    opened = before.rfind("<")
    return opened >= 0 and bool(re.match(r"<[^\s<>][^<>]*,[^<>]*$", before[opened:]))


def _scripts(run: list[Token]) -> list[Token]:
    """Group what stands after _ and ^: one token, a signed one, or a bracket; brackets of a power lose their parentheses."""
    out: list[Token] = []
    i = 0
    while i < len(run):
        token = run[i]
        if token.source in ("_", "^") and i + 1 < len(run):
            stop = _script_end(run, i + 1)
            inner = _scripts(run[i + 1 : stop])
            body = _join(inner)
            if inner and inner[0].source in ("(", "{") and inner[-1].source in (")", "}"):
                body = _join(inner[1:-1])
            text = "".join(t.source for t in run[i:stop])
            out.append(Token(text, f"{token.source}{{{body}}}", True, "script"))
            i = stop
        elif token.latex == r"\sqrt" and i + 1 < len(run) and run[i + 1].source == "(":
            stop = _close(run, i + 1)
            inner = _scripts(run[i + 2 : stop - 1])
            text = "".join(t.source for t in run[i:stop])
            out.append(Token(text, rf"\sqrt{{{_join(inner)}}}", True, "root"))
            i = stop
        else:
            out.append(token)
            i += 1
    return out


def _script_end(run: list[Token], i: int) -> int:
    if run[i].source == "-" and i + 1 < len(run):
        i += 1
    if run[i].source in ("(", "{", "["):
        return _close(run, i)
    return i + 1


def _close(run: list[Token], i: int) -> int:
    depth = 0
    for k in range(i, len(run)):
        depth += (run[k].source in ("(", "[", "{")) - (run[k].source in (")", "]", "}"))
        if depth == 0:
            return k + 1
    return len(run)


def _join(run: list[Token]) -> str:
    """The tokens' LaTeX, with a thin space beside names of several letters, which would run into their neighbours."""
    out: list[str] = []
    for piece in (t.latex.strip() for t in run):
        if not piece:
            continue
        if out and _operand(out[-1]) and _operand(piece) and (_upright(out[-1]) or _upright(piece)):
            out.append(r"\,")
        out.append(piece)
    return " ".join(out)


def _upright(piece: str) -> bool:
    return piece.startswith((r"\mathrm", r"\text"))


def _operand(piece: str) -> bool:
    """A name, a number or something with a script: no operator, no bracket, no script alone."""
    if piece[0] in "_^":
        return False
    return piece[0].isalnum() or piece[-1] == "}" or piece.lstrip("\\").partition("_")[0] in GREEK


def _maths(run: list[Token]) -> str:
    """A run of tokens as LaTeX, scripts attached to what they follow."""
    text = _join(_scripts(run))
    text = re.sub(r" ([_^])", r"\1", text)
    text = re.sub(r"(\^\{[^{}]*\})(\^\{\\star\})", r"{\1}\2", text)
    return re.sub(r"\}\^\{2\}_", "}^{2}_", text)


def formula(text: str) -> str:
    """A text that is maths altogether, as LaTeX without dollars: `grad f_i(x*)` is `\\nabla f_i ( x^{\\star} )`."""
    return _maths([replace(t, maths=True, latex=t.latex if t.maths else rf"\text{{{t.source}}}") for t in tokens(text)])


def latex(line: str) -> str:
    """A line of a card with its maths between dollars; prose as it is."""
    out: list[str] = []
    run: list[Token] = []

    def flush() -> None:
        if not run:
            return
        lead = "".join(t.source for t in run[: _leading(run)])
        tail = "".join(t.source for t in run[len(run) - _leading(run[::-1]) :])
        body = run[_leading(run) : len(run) - _leading(run[::-1])]
        alone = len(body) == 1 and body[0].kind == "symbol"
        out.append(lead + (body[0].source if alone and body[0].source in "-+/*|()[]'" else f"${_maths(body)}$") + tail)
        run.clear()

    for token in tokens(line):
        if token.maths or (token.kind == "space" and run):
            run.append(token)
        else:
            if run and all(t.kind == "space" for t in run):
                out.append("".join(t.source for t in run))
                run.clear()
            flush()
            out.append(token.source.replace("$", r"\$"))
    if run and all(t.kind == "space" for t in run):
        out.append("".join(t.source for t in run))
        run.clear()
    flush()
    return "".join(out)


def _leading(run: list[Token]) -> int:
    return next((i for i, t in enumerate(run) if t.kind != "space"), len(run))


# -- plain text ------------------------------------------------------------------------------------------------------
LETTERS = dict(
    zip(GREEK, "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ", strict=True), eps="ε", grad="∇", sqrt="√", sum="Σ"
)  # fmt: skip
SIGNS = {"<=": "≤", ">=": "≥", "!=": "≠", "->": "→", "<-": "←"}
BELOW = dict(zip("aehijklmnoprstuvx0123456789", "ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ₀₁₂₃₄₅₆₇₈₉", strict=True))
ABOVE = dict(zip("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True))


def pretty(text: str) -> str:
    """A card's sentence in Unicode, where no LaTeX is at hand: `|v|^2 <= alpha L_i` is `|v|² ≤ α Lᵢ`."""
    out: list[str] = []
    found = tokens(text)
    for i, token in enumerate(found):
        before = found[i - 1].source if i else ""
        script = {"_": BELOW, "^": ABOVE}.get(before)
        if script is not None and all(c in script for c in token.source):
            out[-1] = "".join(script[c] for c in token.source)
        else:
            out.append((LETTERS | SIGNS).get(token.source, token.source) if token.maths else token.source)
    return "".join(out)


# -- HTML ------------------------------------------------------------------------------------------------------------
def algorithm(text: str) -> str:
    """An algorithm's lines as HTML with maths between dollars, its indentation kept."""
    rows = []
    for line in text.splitlines():
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) / 4
        rows.append(f"<div style='margin-left:{1.6 * depth:.1f}em'>{escape(latex(line.strip()), quote=False)}</div>")
    return f"<div class='octo-algorithm'>{''.join(rows)}</div>"


def prose(text: str) -> str:
    """A card's sentence as HTML with its maths between dollars."""
    return escape(latex(text), quote=False)


__all__ = ["Token", "algorithm", "formula", "latex", "pretty", "prose", "tokens"]
