"""What every vision graph begins with: UINT8 pixels to what its model was trained on."""

from __future__ import annotations

import torch

from builders.checkpoints.pixel_settings import PixelSettings


class PixelModule(torch.nn.Module):
    """Base of the modules that take UINT8 pixels (B, S, S, 3), RGB.

    Args:
        pixels: S, the side M of the centre that the model sees, and the normalisation.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, pixels: PixelSettings) -> None:
        super().__init__()
        self.pixels = pixels
        mean, std = (
            torch.tensor(values, dtype=torch.float64).reshape(1, 3, 1, 1)
            for values in (pixels.mean, pixels.std)
        )
        self.register_buffer("scale", (pixels.rescale / std).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)

    def normalised(self, image: torch.Tensor) -> torch.Tensor:
        """The pixels that the model sees, FP32 (B, 3, M, M)."""
        size = self.pixels.model_size
        start = (self.pixels.image_size - size) // 2
        # TensorRT does nothing with UINT8 but cast it, so the cast comes first.
        centre = image.float()[:, start : start + size, start : start + size]
        return centre.permute(0, 3, 1, 2) * self.scale + self.shift
