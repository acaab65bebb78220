"""World 2: an aligned model that refuses in its dominant language and less and less in others, for MPO."""
