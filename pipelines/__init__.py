"""KFP pipelines, recipes, and the command line."""
