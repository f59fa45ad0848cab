"""The characters' embeddings in two dimensions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def principal_components(vectors: Tensor) -> tuple[list[list[float]], float]:
    """Vectors (n, C) in their first two principal components (n, 2), and the share of the variance that these hold."""
    centred = vectors - vectors.mean(0)
    centred = F.pad(centred, (0, max(0, 2 - centred.size(1))))  # one more component for models of width 1
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    return (centred @ directions[:2].T).tolist(), float(sizes[:2].square().sum() / sizes.square().sum())
