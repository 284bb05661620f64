"""In how many bits a network is trained."""

from __future__ import annotations

import torch

from alphakeel.errors import ConfigError

__all__ = ["PRECISIONS", "training_dtype"]

PRECISIONS = ("float32", "bfloat16", "auto")


def training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Type of the matrix products of training; weights, losses and predictions stay float32.

    Parameters
    ----------
    precision : {"float32", "bfloat16", "auto"}
        ``"bfloat16"`` keeps 8 bits of the factors of a product and adds in float32; the exponent
        is float32's, so that gradients need no scaling. ``"auto"`` takes it where the processor
        multiplies in it (GPU from Ampere on, CPU with AVX512-BF16 or AMX), where it is nearly twice
        as fast. Elsewhere it would be emulated, and slower.
    device : torch.device
        Where training runs.

    Raises
    ------
    ConfigError
        If `precision` is not one of the three, or the device has no bfloat16 to offer.

    Examples
    --------
    >>> training_dtype("float32", torch.device("cpu"))
    torch.float32
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f"precision must be one of {', '.join(map(repr, PRECISIONS))}, not {precision!r}"
        )
    if precision == "float32":
        return torch.float32
    if _is_native(device):
        return torch.bfloat16
    if precision == "bfloat16":
        raise ConfigError(
            f"device {str(device)!r} does not multiply in bfloat16, which would be slower than "
            "float32; set precision to 'float32' or 'auto'"
        )
    return torch.float32


def _is_native(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
