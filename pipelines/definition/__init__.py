"""What a pipeline is: its steps, their pods, and what is resolved before the first of them runs."""
