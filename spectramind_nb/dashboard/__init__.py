"""The diagnostics page: schema, run reader, panels and server."""
