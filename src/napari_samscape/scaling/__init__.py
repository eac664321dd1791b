"""From one plane to whole pictures; what runs is a `Job`, on whatever computer."""
