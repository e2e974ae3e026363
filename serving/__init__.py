"""The entry points: command line, HTTP API and answers; `bootstrap` wires everything."""
