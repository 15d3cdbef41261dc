"""Settings, adapters, examples and the stages of a training run; what it refuses is one of the errors of `hfmgc.errors`."""
