"""What every detector family gives: a module from pixels to the best boxes."""

from __future__ import annotations

import torch

from bls_models.errors import BundleError
from builders.checkpoints.pixel_settings import PixelSettings
from builders.encoders.pixel_module import PixelModule


class DetectorModule(PixelModule):
    """UINT8 pixels (B, S, S, 3), RGB, to boxes FP32 (B, N, 4) and their scores FP32 (B, N).

    A box is (x0, y0, x1, y1) in shares of the square picture, within 0 to 1; a score is 0 to 1,
    and the best comes first. A family fills in ``candidates``.

    Args:
        pixels: S and the normalisation; the model sees the whole square.
        boxes: N, above 0.

    Raises:
        BundleError: the model would see a part of the square only, of which boxes would be shares.
    """

    def __init__(self, pixels: PixelSettings, boxes: int) -> None:
        super().__init__(pixels)
        if pixels.model_size != pixels.image_size:
            raise BundleError(
                f"object_detector: the checkpoint cuts the centre of {pixels.model_size} pixels "
                f"out of {pixels.image_size}; set image_size and resize in the bundle's "
                "[object_detector]"
            )
        self.boxes = boxes

    def candidates(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All boxes there are.

        Args:
            pixels: normalised, FP32 (B, 3, S, S).

        Returns:
            Boxes (B, A, 4) as above, which may reach beyond the picture, and logits (B, A): what
            their scores are the sigmoid of. A is the same for each picture, and at least N.
        """
        raise NotImplementedError

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The best boxes of a batch, and their scores."""
        return best_boxes(*self.candidates(self.normalised(image)), self.boxes)


def best_boxes(
    box: torch.Tensor, logit: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The boxes of the best scores, best first.

    Args:
        box: (B, A, 4), in shares of the picture; what reaches beyond it is cut off.
        logit: (B, A), what scores are the sigmoid of.
        count: N, 1 to A.

    Returns:
        Boxes (B, N, 4) and scores (B, N).
    """
    # By logits: large ones all have a sigmoid of 1.
    best, index = logit.topk(count, dim=1)
    chosen = box.gather(1, index[:, :, None].expand(-1, -1, 4))
    return chosen.clamp(0, 1), best.sigmoid()
