"""The command line: parses, calls the API, prints. Nothing imports it."""
