"""Properties: pure functions from features, logits and labels to named figures with intervals."""
