"""File formats, both ways: `generic` has ours."""
