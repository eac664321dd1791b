"""Read a checkpoint of the family: from a known name or a path, safely, and say what is wrong with it."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from napari_samscape.errors import InputError
from napari_samscape.model import registry
from napari_samscape.model.sam import Sam, build_model

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Outer names under which other projects keep a model's weights inside a checkpoint.
WRAPPERS = ("model", "state_dict", "model_state", "model_state_dict")
PREFIXES = ("module.", "sam.")


#: What products of matrices may be computed in.
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_model(
    name_or_path: str | Path = "nano",
    device: str | torch.device | None = None,
    precision: str = "float32",
) -> Sam:
    """Load a model by its known name, or any checkpoint of the family by its path.

    The architecture is read off the names and shapes in the file: SAM's ViT-B, -L, -H, MobileSAM's
    TinyViT, `nano`, or others of these kinds.

    Parameters
    ----------
    name_or_path : str or Path
        A name that ``samscape models`` lists and that is here, or a ``.pth``, ``.pt`` or
        ``.safetensors`` file.
    device : str or torch.device, optional
        "cpu", "cuda", "mps" or "auto"; the CPU where left out.
    precision : {"float32", "bfloat16"}
        Of products of matrices. The second is faster where the processor has instructions for it, slower
        where not, and masks differ in single pixels.

    Returns
    -------
    Sam
        In evaluation mode; its weights are float32.

    Raises
    ------
    InputError
        If there is no such name, file or precision, or the file is no checkpoint of the family.
    """
    if precision not in PRECISIONS:
        raise InputError(f"There is no precision '{precision}'; there are {' and '.join(PRECISIONS)}.")
    path = find_checkpoint(name_or_path)
    state = read_state(path)
    model = model_from_state(state, path)
    model.name = str(name_or_path)
    model.precision = PRECISIONS[precision]
    with path.open("rb") as file:
        model.digest = hashlib.file_digest(file, "sha256").hexdigest()
    return model.to(choose_device(device)).eval()


def given_model(model: Sam | str | Path) -> Sam:
    """A model as it is, or the one of a name or path, see `load_model`."""
    return load_model(model) if isinstance(model, str | Path) else model


def choose_device(device: str | torch.device | None) -> torch.device:
    """Check a device's name; "auto" takes CUDA or MPS where there is one.

    Raises
    ------
    InputError
        If torch does not know the device or cannot use it here.
    """
    if device is None:
        return torch.device("cpu")
    if device == "auto":
        kinds = ((torch.cuda.is_available(), "cuda"), (torch.backends.mps.is_available(), "mps"))
        return torch.device(next((kind for here, kind in kinds if here), "cpu"))
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(f"The device '{device}' is not available here; use 'auto' or 'cpu'.") from None
    return chosen


def find_checkpoint(name_or_path: str | Path) -> Path:
    """Path of a known model that is here, or the path itself if it is a file.

    Raises
    ------
    InputError
        If it is neither.
    """
    name = str(name_or_path)
    if name in registry.KNOWN:
        path = registry.checked_path(name)
        if path is None:
            raise InputError(
                f"The model '{name}' is not here; fetch it with 'samscape models --download {name}'."
            )
        return path
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = ", ".join(registry.KNOWN)
    raise InputError(f"There is no model '{name}': it is neither a file nor one of {known}.")


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint without running any code from it.

    Raises
    ------
    InputError
        If the file is damaged, or is something else.
    """
    try:
        if path.suffix == ".safetensors":
            state: object = load_file(path)
        else:
            with warnings.catch_warnings():  # torch remarks on odd pickles before it refuses them
                warnings.simplefilter("ignore")
                state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} is not loaded: it is no checkpoint of tensors alone, and may run code when read."
        ) from None
    except Exception:  # a stranger's bytes can make the restricted unpickler fail in any way
        raise InputError(f"{path} cannot be read as a checkpoint; it may be damaged or truncated.") from None
    return _tensors(state, path)


def _tensors(state: object, path: Path) -> dict[str, Tensor]:
    """Unwrap a checkpoint down to its tensors, under the official names."""
    for name in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict):
        raise InputError(f"{path} is no Segment Anything checkpoint: it holds no table of tensors.")
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    for prefix in PREFIXES:
        if tensors and all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def model_from_state(state: Mapping[str, Tensor], path: Path) -> Sam:
    """Build the architecture that fits the tensors, and fill it.

    Raises
    ------
    InputError
        If names or shapes are not those of a known architecture, or values are not finite.
    """
    foreign = f"{path} is no Segment Anything checkpoint"
    try:
        model = build_model({key: tuple(value.shape) for key, value in state.items()})
    except KeyError as error:
        raise InputError(f"{foreign}: it has no tensor '{error.args[0]}'.") from None
    except (IndexError, ValueError, TypeError, ZeroDivisionError, RuntimeError):
        raise InputError(f"{foreign}: its tensors have shapes that fit no known architecture.") from None
    wanted = model.state_dict()
    for key, value in wanted.items():
        if key not in state:
            raise InputError(f"{foreign} of a known kind: the tensor '{key}' is missing.")
        if state[key].shape != value.shape:
            raise InputError(
                f"{foreign} of a known kind: '{key}' has the shape {tuple(state[key].shape)}, "
                f"not {tuple(value.shape)}."
            )
        if state[key].is_floating_point() and not torch.isfinite(state[key]).all():
            raise InputError(f"{path} is damaged: the tensor '{key}' holds values that are not finite.")
    model.load_state_dict({key: state[key].to(wanted[key].dtype) for key in wanted})
    return model


def save_model(model: Sam, path: Path, *, metadata: dict[str, str] | None = None) -> None:
    """Write a model's weights as safetensors in half precision, to a temporary name first."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    partial = path.with_name(path.name + ".part")
    save_file({k: v.contiguous().cpu() for k, v in state.items()}, partial, metadata=metadata)
    partial.replace(path)
