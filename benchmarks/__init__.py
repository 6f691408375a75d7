"""Speed and memory against hand-written bounds, as ratios measured in one run: `make bench`."""
