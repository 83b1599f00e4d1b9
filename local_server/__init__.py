"""Local start-up: database, models, Triton and sample products with one command."""
