"""A run as one page that loads no other files: the model with JavaScript that runs it, and what the run measured."""
