"""The neural predictor: encoders, decoders, training, weights and attributions."""
