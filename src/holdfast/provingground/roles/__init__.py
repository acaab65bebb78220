"""World 1: role-play fine-tuning of an aligned model, for SaRFT."""
