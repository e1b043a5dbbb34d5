"""Pictures of grid worlds, for watching an agent without a display or a drawing library."""

import colorsys

import numpy as np

_CELL = 24  # pixels


def draw_planes(planes: np.ndarray) -> np.ndarray:
    """Returns a frame of a grid seen as feature planes: one colour a plane, later planes on top.

    Args:
      planes: [rows, columns] or [rows, columns, planes], 0 is empty and 1 is full.

    Returns:
      [H, W, 3] uint8.
    """
    planes = np.asarray(planes, np.float32)
    planes = planes[..., None] if planes.ndim == 2 else planes
    canvas = np.full((*planes.shape[:2], 3), 0.08, np.float32)
    for index in range(planes.shape[-1]):
        colour = np.array(colorsys.hsv_to_rgb(index / planes.shape[-1], 0.65, 0.95), np.float32)
        canvas += np.clip(planes[..., index : index + 1], 0.0, 1.0) * (colour - canvas)
    frame = np.round(canvas * 255).astype(np.uint8).repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    frame[::_CELL] = frame[:, ::_CELL] = 0
    return frame
