"""What the steps need from the world, and what the listeners need from the steps, one role a file."""
