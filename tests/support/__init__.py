"""What integration and end-to-end tests stand on: real containers, driven through the docker CLI."""
