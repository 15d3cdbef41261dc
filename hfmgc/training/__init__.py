"""Settings, adapters, examples and the stages of a training run."""
