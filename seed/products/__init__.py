"""What the records of shops mean: columns, layouts, prices, texts."""
