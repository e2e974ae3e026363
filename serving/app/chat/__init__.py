"""Chat completions: questions in, cited answers out."""
