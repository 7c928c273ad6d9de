"""Multiple-choice knapsacks: bounds, choices and proofs on arrays, without HiGHS where possible."""
