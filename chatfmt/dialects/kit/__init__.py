"""Building blocks for dialects: find and read parts, parse literals and tool calls, build the output; no dialect."""
