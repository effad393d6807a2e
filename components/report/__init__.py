"""Step `report`: one HTML file that shows a whole run and opens from disk."""
