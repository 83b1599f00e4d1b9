"""nginx in front of Triton: keys, limits, and only what clients need."""
