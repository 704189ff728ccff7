"""The testing kit. Its public names are in `authstate.testing`."""
