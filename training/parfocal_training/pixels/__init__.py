"""Principal components of pixels and clusters in their space: the baseline the paper rejects."""
