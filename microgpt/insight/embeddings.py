"""The embeddings of the characters, projected to two dimensions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def principal_components(vectors: Tensor) -> tuple[list[list[float]], float]:
    """The first two principal components (n, 2) of vectors (n, C), and their share of the variance."""
    centred = vectors - vectors.mean(0)
    centred = F.pad(centred, (0, max(0, 2 - centred.size(1))))  # a column of zeros for a model with C = 1
    # Rows of `directions` (min(n, C), C) are the principal axes; squared singular values are proportional to variances.
    _, singular_values, directions = torch.linalg.svd(centred, full_matrices=False)
    variances = singular_values.square()
    return (centred @ directions[:2].T).tolist(), float(variances[:2].sum() / variances.sum())
