"""The SDK on the network that Ape is connected to: the escrow, deployments, the console and the scripts."""
