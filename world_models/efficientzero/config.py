"""What of EfficientZero's model can be set."""

import dataclasses

from dreamer.core import supports
from world_models.layers import COMPUTE_DTYPES

TORSOS = ("dense", "relational", "residual")


@dataclasses.dataclass(frozen=True)
class EfficientZeroConfig:
    """Sizes and loss weights of the model."""

    torso: str = "dense"
    """`dense`: the latent is a vector, for vectors and small images, which are convolved and laid out flat.
    `relational`: the same for binary boards [H, W, C] of at most 10 cells a side, which are read by what lies up to two
    cells around the cells of each channel, wherever these are, and by how many each row and column has; of several
    frames also by the share of them in which each cell had each channel. `residual`: the latent is a grid of cells
    [h, w, C], as in the papers, for images [H, W, C]; larger ones are halved until at most 10 cells a side are left, 6
    of 96 or 84."""
    latent_size: int = 128
    """D, width of a latent that is a vector."""
    hidden_size: int = 128
    """Width of every hidden layer; of the residual torso, which has them in its heads alone, the papers' is 32."""
    num_blocks: int = 1
    """Residual blocks in the encoder and in the dynamics."""
    num_channels: int = 16
    """Channels of the dense torso's convolutions for images [H, W, C], or C of the residual one's latent; there the
    papers' is 64."""
    reduced_channels: int = 16
    """Channels that a head of the residual torso reduces each cell to before it reads the grid as a whole."""
    action_embedding: int = 0
    """Width of a learned action embedding (V2: 16). 0 shows the action itself: as a one-hot where the latent is a
    vector, as a plane of a / A (V1) where it is a grid."""
    value_prefix: int = 0
    """H, dreamed steps over which an LSTM adds up rewards before it starts again (the papers' is 5); the reward of a
    step is the difference of two sums. 0 predicts each reward by itself."""
    lstm_size: int = 512
    """Width of that LSTM."""
    projection_size: int = 128
    """Width of the consistency projection (the papers' is 1024)."""
    projection_layers: int = 2
    """Linear layers of the projection (the papers' are 3)."""
    predictor_size: int | None = None
    """Width of the predictor's hidden layer (V1: 512, V2: 256); None is `projection_size`."""
    reward_support: supports.Support = supports.Support(-4.0, 4.0, 33, "signed_sqrt")
    """Atoms of the reward head, or of the sums with `value_prefix`."""
    reward_weight: float = 1.0
    """Weight of the reward cross-entropy."""
    continuation_weight: float = 1.0
    """Weight of the continuation cross-entropy; with 0 every dream goes on, as in the papers."""
    consistency_weight: float = 2.0
    """Weight of the SimSiam-style consistency between dreamed and observed latents."""
    compute_dtype: str = "float32"
    """What layers compute in, and latents are kept in: `float32` or `bfloat16`. Parameters, outputs of heads and
    losses are float32 either way."""

    def __post_init__(self) -> None:
        for name, allowed in (("torso", TORSOS), ("compute_dtype", COMPUTE_DTYPES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"model.{name} is {getattr(self, name)!r}: give one of {', '.join(allowed)}")
        sizes = ("latent_size", "hidden_size", "num_channels", "reduced_channels", "lstm_size", "projection_size")
        for name in (*sizes, "projection_layers", *(("predictor_size",) if self.predictor_size is not None else ())):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} is {getattr(self, name)}: give a positive width")
        if self.torso == "residual" and self.num_channels < 2:
            raise ValueError(
                f"model.num_channels is {self.num_channels}, which a large image is halved to: give 2 or more"
            )
        for name in ("num_blocks", "action_embedding", "value_prefix"):
            if getattr(self, name) < 0:
                raise ValueError(f"model.{name} is {getattr(self, name)}: give 0 or more")
        for name in ("reward_weight", "continuation_weight", "consistency_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"model.{name} is {getattr(self, name)}: give 0 (off) or a positive weight")
