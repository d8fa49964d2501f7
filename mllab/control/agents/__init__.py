"""The agents of the house, a file each."""
