"""Refusals by rules: the one lexicon and matcher of the judge `keyword` and of the checks of preference data."""
