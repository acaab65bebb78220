from holdfast.data.truncation import LengthLimits, TruncationCounts, fit

IDS, TRAINED = [1, 2, 3, 4, 5, 6], [False, False, False, True, True, True]


def test_rows_within_the_limits_are_untouched():
    counts = TruncationCounts()
    assert fit(IDS, TRAINED, LengthLimits(3, 3), counts) == (IDS, TRAINED)
    assert str(counts) == "nothing cut"


def test_long_prompts_are_dropped_or_cut_as_asked_and_counted():
    counts = TruncationCounts()
    assert fit(IDS, TRAINED, LengthLimits(2, 3), counts) is None
    start = fit(IDS, TRAINED, LengthLimits(2, 3, "keep_start"), counts)
    end = fit(IDS, TRAINED, LengthLimits(2, 3, "keep_end"), counts)
    assert start == ([1, 2, 4, 5, 6], [False, False, True, True, True])
    assert end == ([2, 3, 4, 5, 6], [False, False, True, True, True])
    assert str(counts) == "2 prompts cut, 1 rows dropped (prompt too long)"


def test_long_responses_lose_their_end():
    counts = TruncationCounts()
    assert fit(IDS, TRAINED, LengthLimits(3, 2), counts) == ([1, 2, 3, 4, 5], [False, False, False, True, True])
    assert str(counts) == "1 responses cut"
    assert fit(IDS, TRAINED, LengthLimits(2, 3).without_prompt_limit()) == (IDS, TRAINED)
