"""The environments of the house, a file each."""
