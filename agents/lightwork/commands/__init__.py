"""The commands of `lightwork`, one file each."""
