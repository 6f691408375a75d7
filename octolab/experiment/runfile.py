"""The bytes of a run file: safetensors with a JSON header, a checksum over both, never a pickle.

Reading is bounded: every size in the header is compared with the file before anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from typing import Any

import torch

from octolab.errors import RunFileError, RunFileMissing
from octolab.experiment.writing import write_whole

FORMAT = "octolab-run"
VERSION = 1
LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


def write(path: str | os.PathLike[str], content: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write a run file; the old file stays whole until the new one is complete. RunFileError names path and remedy."""
    from safetensors.torch import save as pack

    text = json.dumps(content)
    header = {"format": FORMAT, "version": str(VERSION), "json": text, "sha256": _digest(text, tensors)}
    write_whole(path, pack(tensors or {"empty": torch.zeros(1)}, header))


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The JSON and the tensors of a run file, after its checks."""
    from safetensors import SafetensorError, safe_open

    if not isinstance(path, (str, os.PathLike)):
        raise RunFileError(f"A run file was asked for as {path!r}: give its path.")
    if not os.path.exists(path):
        raise RunFileMissing(f"There is no run file {str(path)!r}: give the path that run.save(path) returned.")
    if not os.path.isfile(path):
        raise RunFileError(f"{str(path)!r} is no file: give a run file, one that octolab wrote.")
    try:
        _check_sizes(path)
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise RunFileError(f"{str(path)!r} is a safetensors file, but not one that octolab wrote.")
            if header.get("version") != str(VERSION):
                raise RunFileError(
                    f"{str(path)!r} has run-file version {header.get('version')}; this octolab reads version {VERSION}."
                )
            # copied, because the file's buffer is not aligned like torch's own memory, and BLAS may round differently there
            tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # noqa: SIM118
    except RunFileError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise RunFileError(
            f"{str(path)!r} is not a readable run file ({error}): it is damaged or something else."
        ) from None
    tensors.pop("empty", None)
    text = header.get("json", "")
    if _digest(text, tensors) != header.get("sha256"):
        raise RunFileError(f"{str(path)!r} is damaged: its checksum does not match. Use an older checkpoint.")
    return _parsed(text, path), tensors


def _parsed(text: str, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise RunFileError(f"{str(path)!r} holds JSON that cannot be read ({type(error).__name__}).") from None
    if not isinstance(content, dict) or not {"spec", "body"} <= set(content):
        raise RunFileError(f"{str(path)!r} holds no run: a run file has a spec and a body.")
    return content


def _check_sizes(path: str | os.PathLike[str]) -> None:
    """ValueError if the header speaks of more than the file holds."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LARGEST_HEADER):
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    held = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, stop = entry["data_offsets"]
        if not all(isinstance(v, int) and v >= 0 for v in (start, stop, *entry["shape"])) or stop < start:
            raise ValueError(f"the tensor {name!r} has no sizes")
        if math.prod(entry["shape"]) > 8 * (stop - start):  # the smallest numbers have a bit each
            raise ValueError(f"the tensor {name!r} is larger than its bytes")
        held += stop - start
    if held > size:
        raise ValueError("its tensors are larger than the file")


def _digest(text: str, tensors: dict[str, torch.Tensor]) -> str:
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        sha.update(name.encode())
        tensor = tensors[name].contiguous()
        sha.update(tensor.view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return sha.hexdigest()
