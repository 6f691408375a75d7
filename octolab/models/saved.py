"""A trained module in a folder: its tensors as safetensors, a card as JSON. Nothing is pickled, nothing is executed."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from octolab.arguments import expects, instance, like, path

WEIGHTS, CARD = "model.safetensors", "card.json"


@expects(module=like("a torch.nn.Module", "state_dict"), folder=path("a folder"), card=instance("a dict", dict))
def save_model(module: nn.Module, folder: str | os.PathLike, card: dict[str, Any] | None = None) -> str:
    """Write model.safetensors and card.json into the folder (made if need be); returns its path.

    The card says how to build the module again where it consists of torch's own layers in sequence.
    """
    place = Path(folder).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().clone().contiguous() for name, t in module.state_dict().items()}
    save_file(tensors, place / WEIGHTS, metadata={"format": "pt"})
    written = {"format": 1, "class": type(module).__name__, "layers": _described(module), **(card or {})}
    (place / CARD).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return str(place)


@expects(folder=path("a folder that run.save_model(folder) wrote"), module=like("a torch.nn.Module", "load_state_dict"))
def load_model(folder: str | os.PathLike, module: nn.Module | None = None) -> nn.Module:
    """The module of a folder that `save_model` wrote, in evaluation mode.

    module: one of the same architecture, into which the tensors are put; needed where it is a class of your own.
    """
    place = Path(folder).expanduser()
    if not (place / CARD).is_file() or not (place / WEIGHTS).is_file():
        raise ValueError(
            f"{str(folder)!r} holds no {CARD} and {WEIGHTS}: give a folder that run.save_model(folder) wrote."
        )
    card, tensors = json.loads((place / CARD).read_text(encoding="utf-8")), load_file(place / WEIGHTS)
    if module is None:
        if card.get("layers") is None:
            raise ValueError(
                f"{str(folder)!r} holds a {card.get('class')}, a class of your own: give one, load_model(folder, "
                f"module={card.get('class')}(...))."
            )
        module = _built(card["layers"])
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{str(folder)!r} does not fit this {type(module).__name__}: {error}") from error
    kinds = {t.dtype for t in tensors.values() if t.is_floating_point()}
    module = module.to(kinds.pop()) if len(kinds) == 1 else module
    module.load_state_dict(tensors)
    return module.eval()


def _described(module: nn.Module) -> Any:
    """[class, arguments] of one of torch's layers, ["Sequential", [name, layer], ...] of layers in sequence; None: it is
    something else, or its description would build another module.
    """
    layers = _layers(module)
    try:
        same = (
            layers is not None and repr(_built(layers)) == repr(module) and _shapes(_built(layers)) == _shapes(module)
        )
    except (TypeError, ValueError, RuntimeError):
        return None
    return layers if same else None


def _layers(module: nn.Module) -> Any:
    if type(module) is nn.Sequential:
        parts = [[name, _layers(child)] for name, child in module.named_children()]
        return None if any(layer is None for _, layer in parts) else ["Sequential", parts]
    kind = type(module)
    if getattr(nn, kind.__name__, None) is not kind or any(True for _ in module.children()):
        return None
    arguments = {}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name in ("self", "device", "dtype") or parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if not hasattr(module, name):
            continue
        value = getattr(module, name)
        arguments[name] = value is not None if name == "bias" else list(value) if isinstance(value, tuple) else value
    return [kind.__name__, arguments] if all(_plain(v) for v in arguments.values()) else None


def _plain(value: object) -> bool:
    return (
        value is None
        or isinstance(value, (bool, int, float, str))
        or (isinstance(value, list) and all(map(_plain, value)))
    )


def _built(layers: Any) -> nn.Module:
    kind, inside = layers
    if kind == "Sequential":
        sequence = nn.Sequential()
        for name, layer in inside:
            sequence.add_module(name, _built(layer))
        return sequence
    made = getattr(nn, kind, None)
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise ValueError(f"the card names a layer {kind!r}, which torch.nn has not.")
    return made(**{name: tuple(v) if isinstance(v, list) else v for name, v in inside.items()})


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in module.state_dict().items()}
