"""Models of the library `transformers`, by name or folder; imported only when one is asked for."""

from __future__ import annotations

from typing import Any

from napari_samscape.errors import InputError


def load_pretrained(what: str, extra: str, source: str, kinds: dict[str, dict[str, Any]]) -> list[Any]:
    """Load what the library keeps of a model: the model itself, and what prepares its input.

    Parameters
    ----------
    what : str
        What messages call it.
    extra : str
        The extra of this package that brings the library.
    source : str
        A folder as the library's `save_pretrained` leaves it, with the weights as safetensors; or a name in
        the library's store, from where it is downloaded.
    kinds : mapping
        Names of the library's classes, each with what is said to its `from_pretrained`.

    Returns
    -------
    list
        One for each class.

    Raises
    ------
    InputError
        If the library is not installed, or something cannot be loaded.
    """
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            f'{what} needs the library transformers; install it with: pip install "napari-samscape[{extra}]".'
        ) from error
    try:
        # Never code from the store.
        return [
            getattr(transformers, name).from_pretrained(source, trust_remote_code=False, **more)
            for name, more in kinds.items()
        ]
    except Exception as error:  # the library fails in many ways, often at length
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise InputError(f"{what} cannot be loaded: {reason}.") from error
