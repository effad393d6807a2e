"""The command line: `zoetrope`."""

from zoetrope.pipelines.cli.main import main

__all__ = ["main"]
