"""Training and what it needs: pictures with masks, losses, one loop."""
