"""Caption: gives every kept clip its text and its split."""
