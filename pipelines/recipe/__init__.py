"""Recipes: what they hold, how their files are read, and where their jobs run on a cluster."""
