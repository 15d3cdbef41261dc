"""How good a model is, judged by whole tracks, with an interval and with the split that it was judged on."""
