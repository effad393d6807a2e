"""Curate: cuts sources into shots, scores them in one decode pass and applies thresholds to the scores."""
