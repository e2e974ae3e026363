"""From files to chunks: sources, loaders, chunking and the pipeline."""
