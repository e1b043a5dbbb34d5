"""EfficientZero's latent model, V1 and V2 as settings, with the continuation head the originals lack.

"Mastering Atari Games with Limited Data" (https://arxiv.org/abs/2111.00210) and "EfficientZero V2"
(https://arxiv.org/abs/2403.00564). Deviations: LayerNorm instead of BatchNorm (nothing to thread through search and
unrolls), and a learned probability that life goes on (the originals never predict an end, so their search dreams of
life after death).
"""

from world_models.efficientzero.config import EfficientZeroConfig as EfficientZeroConfig
from world_models.efficientzero.model import make_efficientzero as make_efficientzero
