"""Settings, adapters, examples and the stages of a training run; errors are those of `hfmgc.errors`."""
