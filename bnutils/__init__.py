"""Models, noise and measurements for "How Does Batch Normalization Help Optimization?" (Santurkar et al. 2018)."""
