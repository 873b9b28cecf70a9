"""The commands of `parfocal`: each module adds its arguments and runs what they ask for."""
