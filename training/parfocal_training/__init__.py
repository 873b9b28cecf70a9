"""The bench of parfocal: data sets, the paper's ConvNet, training and its measurement."""
