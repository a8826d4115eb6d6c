"""The commands: parse options, make one library call, print. One module per command or family of commands."""
