"""Methods that sample a class-conditional diffusion model; their sets are the decoded pictures."""
