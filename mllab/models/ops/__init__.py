"""Operations of neural networks as pure functions of arrays: convolution and pooling, normalisation, dropout."""
